"""An explanation as a notebook shows it: maps, frames and times, as pictures, as a video and as a table."""

from __future__ import annotations

import base64
import html
import sys
import tempfile
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vidattr.config.building import made
from vidattr.errors import ConfigError
from vidattr.models.network.network import VideoModel
from vidattr.protocols import Method
from vidattr.render.options import Render, Scene
from vidattr.render.pictures import PICTURES, DrawnMap
from vidattr.types import Explanation, Pixels, Query
from vidattr.writing import write_bytes

_TOP = 5


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ClipExplanation(Explanation):
    """The maps of N clips by one method, with all that is needed to look at them.

    A notebook shows it as a video of each clip beside its heat map. The importance of a frame is the mean of its map.

    Attributes:
        map: (N, T, H, W) float32, raw, on the network's device; larger = more important for the target.
        extras: Further results of the method by name, each with a leading axis of N clips.
        clips: N names: of the files without their suffix, or "clip 0" and so on.
        frames: (N, T) numbers of the frames in their source, from 1.
        seconds: (N, T) times of the frames, in seconds after the first frame of their source; NaN where the source does
            not tell.
        pixels: (N, T, H, W, 3) uint8 RGB, the frames as the network saw them.
        targets: N names of the explained classes.
        probabilities: (N,) class probabilities of the targets.
        top: For each clip the five most probable classes and their probabilities.
        method_name: Name of the method.
        method: The method.
        model: The network.
        query: What the method was given: frames (N, C, T, H, W), targets and seeds.
    """

    clips: tuple[str, ...]
    frames: NDArray[np.int64]
    seconds: NDArray[np.float64]
    pixels: Pixels
    targets: tuple[str, ...]
    probabilities: NDArray[np.float64]
    top: tuple[tuple[tuple[str, float], ...], ...]
    method_name: str
    method: Method = field(repr=False)
    model: VideoModel = field(repr=False)
    query: Query = field(repr=False)

    @classmethod
    def of(
        cls,
        found: Explanation,
        *,
        name: str,
        method: Method,
        network: VideoModel,
        query: Query,
        shares: Tensor,
        **about: Any,
    ) -> ClipExplanation:
        """Returns an explanation with what there is to say about its clips.

        Args:
            found: What the method returned.
            name: Name of the method.
            method: The method.
            network: The network.
            query: What the method was given.
            shares: (N, K) class probabilities.
            about: `clips`, `frames`, `seconds` and `pixels` of clips that were read; without them, the frames are
                numbered from 1 and have no times.
        """
        N, T = len(query.frames), query.frames.shape[2]
        if not about:
            about = {
                "clips": tuple(f"clip {n}" for n in range(N)),
                "frames": np.tile(np.arange(1, T + 1), (N, 1)),
                "seconds": np.full((N, T), np.nan),
                "pixels": network.view.denormalise(query.frames).cpu().numpy(),
            }
        best = shares.double().topk(min(_TOP, shares.shape[1]), 1)
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return cls(
            found.map,
            found.extras,
            targets=tuple(network.classes[k] for k in query.target.tolist()),
            probabilities=shares.gather(1, query.target[:, None])[:, 0].double().cpu().numpy(),
            top=tuple(tuple((network.classes[k], p) for k, p in zip(*pair, strict=True)) for pair in pairs),
            method_name=name,
            method=method,
            model=network,
            query=query,
            **about,
        )

    def __repr__(self) -> str:
        """Returns method, network and the size of the maps, and a line per clip."""
        N, T, H, W = self.map.shape
        lines = [f"{self.method_name} explains {N} clip{'s' * (N > 1)} of {T} × {H} × {W} by {self.model.name}"]
        for clip, target, p, top in zip(self.clips, self.targets, self.probabilities, self.top, strict=True):
            lines.append(f"  {clip}: {target} (p = {p:.3f})" + _instead(target, top))
        return "\n".join(lines)

    def to_dataframe(self) -> pd.DataFrame:
        """Returns a row per frame of each clip.

        Returns:
            clip; target; frame, its number in the source from 1; seconds; mean, of its map; max, of its map; x and y,
            the position of that maximum in pixels of the network's input, x to the right.
        """
        maps = self._maps()
        N, T, H, W = maps.shape
        peaks = maps.reshape(N, T, H * W).argmax(2)
        return pd.DataFrame(
            {
                "clip": np.repeat(np.array(self.clips, dtype=object), T),
                "target": np.repeat(np.array(self.targets, dtype=object), T),
                "frame": self.frames.ravel(),
                "seconds": self.seconds.ravel(),
                "mean": maps.mean((2, 3), dtype=np.float64).ravel(),
                "max": maps.max((2, 3)).ravel(),
                "x": (peaks % W).ravel(),
                "y": (peaks // W).ravel(),
            }
        )

    def save(self, path: str | Path, **render: Any) -> list[Path]:
        """Writes the pictures of all clips; the suffix of the file says which.

        Args:
            path: `.png`, a sheet of all frames; `.gif` or `.mp4`, an animation; `.html`, a page with an animation of
                every clip; `.csv`, the table of `to_dataframe`. Of several clips, a picture's name continues with
                `-<clip>`.
            render: How to draw, as the options of `render=`: `colormap="viridis"`, `style="cutout"`.

        Returns:
            The files.

        Raises:
            ConfigError: Another suffix, or an unknown option.
            OutputError: A file cannot be written.
        """
        path, options = Path(path).expanduser(), self._render(render)
        if path.suffix == ".html":
            write_bytes(path, self.page(**render).encode())
            return [path]
        if path.suffix == ".csv":
            write_bytes(path, self.to_dataframe().to_csv(index=False).encode())
            return [path]
        if path.suffix not in _PICTURES:
            raise ConfigError(
                f"{path} has the suffix {path.suffix!r}", expected=f"one of {', '.join((*_PICTURES, '.html', '.csv'))}"
            )
        written = []
        for n, clip in enumerate(self.clips):
            place = path if len(self.clips) == 1 else path.with_name(f"{path.stem}-{_file_name(clip, n)}{path.suffix}")
            write_bytes(place, _PICTURES[path.suffix](self._drawn(n, options)))
            written.append(place)
        return written

    def show(self, **render: Any) -> None:
        """Shows the explanation: as the output of the cell in a notebook, elsewhere as a page in the web browser.

        Args:
            render: As in `save`.

        Raises:
            ConfigError: There is neither a notebook nor a browser, or an option is unknown.
        """
        page = self.page(**render)
        if _in_notebook():
            shown = import_module("IPython.display")  # there, because a kernel runs; it has no types
            shown.display(shown.HTML(page))
            return
        with tempfile.NamedTemporaryFile(suffix=".html", prefix="vidattr-", delete=False) as file:
            file.write(page.encode())
        if not webbrowser.open(Path(file.name).as_uri()):
            Path(file.name).unlink()
            raise ConfigError("there is no notebook and no web browser here", remedy="save('explanation.html')")

    def page(self, **render: Any) -> str:
        """Returns HTML that holds an animation of every clip and needs no other file; `render` as in `save`."""
        options = self._render(render)
        parts = [f"<pre>{html.escape(repr(self))}</pre>"]
        for n, clip in enumerate(self.clips):
            data = base64.b64encode(_PICTURES[".mp4"](self._drawn(n, options))).decode()
            parts.append(
                f'<video controls autoplay loop muted playsinline title="{html.escape(clip)}" '
                f'src="data:video/mp4;base64,{data}"></video>'
            )
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        return self.page()

    def _maps(self) -> NDArray[np.float32]:
        return cast(NDArray[np.float32], self.map.detach().float().cpu().numpy())

    def _render(self, given: Mapping[str, Any]) -> Render:
        return cast(Render, made(Render, given, "render"))

    def _drawn(self, n: int, render: Render) -> DrawnMap:
        name, p = self.top[n][0]
        scene = Scene(
            clip=self.clips[n],
            pixels=self.pixels[n],
            numbers=tuple(self.frames[n].tolist()),
            model=self.model.name,
            target=self.targets[n],
            probability=float(self.probabilities[n]),
            predicted=name,
            predicted_probability=p,
            seconds=None if np.isnan(self.seconds[n]).any() else tuple(self.seconds[n].tolist()),
        )
        return DrawnMap(scene, self._maps()[n], self.method_name, render)


def _instead(target: str, top: tuple[tuple[str, float], ...]) -> str:
    name, p = top[0]
    return "" if name == target else f"; predicted {name} (p = {p:.3f})"


_PICTURES = {picture.suffix: picture.make for picture in PICTURES if not picture.of_masks}


def _file_name(clip: str, n: int) -> str:
    """Returns a name for the files of a clip; two clips of the same name differ by their place."""
    return f"{n}-{''.join(c if c.isalnum() or c in '-_.' else '_' for c in clip)}"


def _in_notebook() -> bool:
    """Returns whether the code runs in a kernel that shows HTML; a terminal of IPython does not."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
