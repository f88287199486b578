"""Video classifiers of HuggingFace's transformers, by their id on the hub or from a local folder."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from vidattr.config.fields import keyed_by_content
from vidattr.config.identity import sha256_of_files
from vidattr.errors import ConfigError
from vidattr.models.network.divided_attention import divided_attention
from vidattr.models.network.joint_attention import joint_attention
from vidattr.models.network.network import VideoModel
from vidattr.models.network.output import Output
from vidattr.models.network.unfold import divided_tokens, tokens
from vidattr.models.weights.class_names import class_names
from vidattr.models.weights.processors import FAMILIES, processor_view
from vidattr.video.preprocessing import CropAt, Preprocessing, Resample, Sampling

_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


class Clips(nn.Module):
    """Wraps a model of transformers, which takes (N, T, C, H, W), for this project's axes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor) -> Tensor:
        """Maps (N, C, T, H, W) to (N, K) logits."""
        return cast(Tensor, self.model(frames.transpose(1, 2)).logits)


def _default() -> Preprocessing:
    return Preprocessing(resample=Resample.pillow, crop_at=CropAt.floor, sampling=Sampling.transformers, stride=4)


@dataclass(frozen=True)
class HuggingFace:
    """A video classifier of the transformers library: TimeSformer, VideoMAE, ViViT or V-JEPA 2.

    Its features are what the last block's first layer norm puts out, without the class token, (N, c, t, h, w);
    `input.frames`, `input.size` and the patches decide the grid. It is read from safetensors alone, and no code of a
    model's repository is run. TimeSformer offers divided attention; ViViT, and VideoMAE where it averages its tokens,
    joint attention.

    Attributes:
        weights: An id on the hub ("MCG-NJU/videomae-base-finetuned-kinetics"), or a folder as `save_pretrained` writes
            it.
        revision: With an id: the branch, tag or commit. The run key holds the id and the commit that this is at
            present; of a folder it holds the content of all safetensors and JSON files in it: shards, index,
            configuration, processor.
        classes: Names of the outputs (`weights.class_names`); None: the model's own.
        output: What the outputs are.
        processor: Whether frames, size, geometry, resize, mean, std and max_value of `input` are taken from the model
            and its processor's configuration, whatever `input` says.
        input: Preprocessing. Frames are taken as in the library's examples, every `stride`-th, from the middle of the
            clip. No file of a model says the stride: 4 is that of the examples and of VideoMAE on Kinetics. TimeSformer
            on Kinetics was trained with 32 (8 frames), 16 (16) or 4 (96), ViViT b-16x2 with 2.
    """

    version: ClassVar[int] = 2
    untrainable: ClassVar[str] = (
        "its weights are a folder of the transformers library, and a training here writes one file"
    )

    weights: str | None = keyed_by_content(None)
    revision: str | None = None
    classes: str | None = keyed_by_content(None)
    output: Output = Output.softmax
    processor: bool = True
    input: Preprocessing = field(default_factory=_default)

    def __post_init__(self) -> None:
        if self.processor and self.weights is not None:
            with self._explained():
                object.__setattr__(self, "input", processor_view(self._config(), self._settings(), self.input))

    def weights_file(self) -> Path | None:
        """Returns the weights in a local folder, or None for an id on the hub."""
        folder = self._folder()
        return None if folder is None else folder / "model.safetensors"

    def weights_content(self) -> Any:
        """Returns what stands for the weights in the run key."""
        if (folder := self._folder()) is not None:
            files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".json") and path.is_file()]
            return sha256_of_files(files) if files else self.weights
        commit = _commit(self._source(), self.revision or "main")
        return self.weights if commit is None else {"id": self.weights, "commit": commit}

    def load(self) -> VideoModel:
        """Returns the network, on the CPU.

        Raises:
            ConfigError: The library is not installed, the model cannot be had, is of another type, or is no classifier.
        """
        config = self._config()
        auto = _transformers().AutoModelForVideoClassification
        with self._explained():
            options = {"use_safetensors": True, "output_loading_info": True, **self._options()}
            with torch.random.fork_rng(devices=[]):  # the library draws weights before it reads them
                model, report = auto.from_pretrained(self._source(), config=config, **options)
        missing = sorted(
            name for name in report["missing_keys"] if ".predictor." not in name
        )  # which no classifier asks
        if missing:
            raise ConfigError(
                f"{self.weights} lacks weights, which would be random: {', '.join(missing[:5])}",
                expected="a model that was trained to classify videos",
                remedy="choose one that was fine-tuned, or fine-tune it first",
            )
        with self._explained():
            names = [str(config.id2label[k]) for k in range(config.num_labels)]
        own = None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else tuple(names)
        classes = class_names(self.classes, config.num_labels, own)
        with self._explained():
            return network_of(Clips(model.float()), self.input, classes, self.output)

    def _folder(self) -> Path | None:
        path = Path(self.weights or "").expanduser()
        if self.weights and path.is_dir():
            _check_weights(path)
            return path
        if self.weights and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", self.weights) and not self.weights.startswith("."):
            return None
        raise ConfigError(
            "this model comes without weights" if not self.weights else f"no such folder: {self.weights}",
            expected="an id on the hub, or a folder with config.json and model.safetensors",
            remedy="say model.weights=OWNER/NAME or model.weights=FOLDER",
        )

    def _source(self) -> str:
        return str(self._folder() or self.weights)

    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision or "main", "trust_remote_code": False}

    def _config(self) -> Any:
        source = self._source()
        with self._explained():
            config = _transformers().AutoConfig.from_pretrained(source, **self._options())
        family = FAMILIES.get(config.model_type)
        if family is None or (family.divided and config.attention_type != "divided_space_time"):
            raise ConfigError(
                f"{self.weights} is a {config.model_type}"
                + (f" with {config.attention_type} attention" if family else ""),
                expected=f"one of {', '.join(FAMILIES)}; a timesformer with divided_space_time attention",
            )
        return config

    def _settings(self) -> Mapping[str, Any]:
        """Returns the processor's configuration."""
        cached_file = importlib.import_module("transformers.utils").cached_file
        for name in _PROCESSORS:
            try:
                path = cached_file(self._source(), name, revision=self.revision or "main")
            except OSError:
                continue
            with self._explained():
                settings: Mapping[str, Any] = json.loads(Path(path).read_text("utf-8"))
            return settings
        raise ConfigError(
            f"{self.weights} has neither {' nor '.join(_PROCESSORS)}",
            remedy="save its processor beside it, or say model.processor=false and the model.input of its training",
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ConfigError:
            raise
        except (
            Exception
        ) as error:  # the library checks some of what a file says, and its classes stumble over the rest in any way
            raise ConfigError(
                f"cannot load {self.weights}: {(str(error).splitlines() or [type(error).__name__])[0][:300]}",
                expected="config.json and model.safetensors of a model that the installed transformers knows",
                remedy="without internet: fetch it elsewhere with `hf download` and say model.weights=FOLDER",
            ) from error


def _check_weights(folder: Path) -> None:
    """Raises ConfigError if the weights in a folder are pickles only, which can run code."""
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".ckpt", ".h5", ".pt", ".pth"))
    if pickled and not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} holds its weights in {pickled[0]}, which may run code when it is read",
            expected="model.safetensors, or shards of it with their index",
            remedy="if you trust it, convert it: "
            "AutoModelForVideoClassification.from_pretrained(FOLDER).save_pretrained(NEW)",
        )


@cache
def _commit(source: str, revision: str) -> str | None:
    """Returns the commit of a model on the hub, or None if it cannot be looked up."""
    try:
        config = _transformers().AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    except (ConfigError, OSError, ValueError, KeyError):
        return None
    commit = getattr(config, "_commit_hash", None)
    return None if commit is None else str(commit)


def _transformers() -> Any:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f"this model needs the transformers library: {error}", remedy="pip install 'vidattr[hf]'"
        ) from error


def network_of(
    module: Clips, view: Preprocessing, classes: tuple[str, ...], output: Output = Output.softmax
) -> VideoModel:
    """Returns the network of a model, with its features and its attention.

    The blocks are the first list of as many modules as the model has layers. This works for all versions of the
    library, whose module names differ.

    Raises:
        ConfigError: There is no such list.
    """
    config: Any = module.model.config
    family = FAMILIES[config.model_type]
    lists = (
        (n, m) for n, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m) == config.num_hidden_layers
    )
    name, blocks = next(lists, ("", nn.ModuleList()))
    norms = (
        [part for part, child in blocks[-1].named_children() if isinstance(child, nn.LayerNorm)] if len(blocks) else []
    )
    if not norms:
        raise ConfigError(
            f"this {config.model_type} has no list of {config.num_hidden_layers} blocks",
            remedy="take another transformers",
        )
    grid = _grid(config, view)
    layer = f"{name}.{len(blocks) - 1}.{norms[0]}"
    if family.divided:
        projections = [
            part for part, child in module.named_modules() if part.startswith(f"{name}.") and part.endswith(".qkv")
        ]
        temporal = [part for part in projections if ".temporal" in part]
        spatial = [part for part in projections if ".temporal" not in part]
        attention = divided_attention(temporal, spatial, config.num_attention_heads, grid)
        return VideoModel(
            module, view, classes, layer=layer, unfold=divided_tokens(grid), attention=attention, output=output
        )
    reads_mean = family.cls or getattr(config, "use_mean_pooling", True)
    joint = partial(joint_attention, name, grid, family.cls) if family.joint and reads_mean else None
    return VideoModel(
        module, view, classes, layer=layer, unfold=tokens([grid], family.cls), attention=joint, output=output
    )


def _grid(config: Any, view: Preprocessing) -> tuple[int, int, int]:
    tubelet = getattr(config, "tubelet_size", 1)  # frames alone, or frames, height and width of a patch
    t, *patch = tubelet if isinstance(tubelet, list | tuple) else [tubelet]
    h, w = patch or [config.patch_size] * 2
    return view.frames // t, view.size[0] // h, view.size[1] // w
