"""Draws a few tiny clips, with annotations, in the layouts of UCF101-24, Kinetics-400 and EPIC-KITCHENS-55.

    python scripts/make_test_data.py [FOLDER]

A disc of the class's colour moves over a dark ramp; its box is known. Everything is computed, nothing is drawn at
random, and the result is kept in `test_data/`. Only the bytes of the videos depend on the encoder's version.
"""

from __future__ import annotations

import argparse
import csv
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

Image = NDArray[np.uint8]
COLOURS = {
    "Biking": (230, 60, 50),
    "CliffDiving": (60, 200, 90),
    "playing guitar": (80, 120, 240),
    "riding a bike": (240, 200, 60),
}


@dataclass(frozen=True)
class Disc:
    """A disc that moves in a straight line; all lengths are shares of the frame's height.

    Attributes:
        colour: RGB.
        start: (x, y) of its centre on the first frame.
        step: (x, y) from one frame to the next.
        radius: Its radius.
    """

    colour: tuple[int, int, int]
    start: tuple[float, float] = (0.4, 0.35)
    step: tuple[float, float] = (0.02, 0.01)
    radius: float = 0.15

    def at(self, frame: int, height: int) -> tuple[float, float, float]:
        """Returns centre x, y and radius in pixels of a frame (0-based) of some height."""
        x, y = (height * (s + frame * d) for s, d in zip(self.start, self.step, strict=True))
        return x, y, height * self.radius

    def tube(self, first: int, last: int) -> NDArray[np.integer[Any]]:
        """Returns (n, 4) boxes, frames first … last (1-based, inclusive): x, y (1-based), width, height in 320×240."""
        boxes = []
        for frame in range(first - 1, last):
            x, y, r = self.at(frame, 240)
            boxes.append((round(x - r) + 1, round(y - r) + 1, round(2 * r), round(2 * r)))
        array = np.array(boxes)
        return array.astype(np.uint8 if array.max() < 256 else np.uint16)  # as the real files store them


def draw(discs: Sequence[Disc], frame: int, width: int, height: int) -> Image:
    """Returns one frame (height, width, 3): the discs, the later above the earlier, over a dark ramp."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.repeat((30 + 40 * columns / width).astype(np.uint8)[..., None], 3, axis=2)
    for disc in discs:
        x, y, r = disc.at(frame, height)
        image[(columns - x) ** 2 + (rows - y) ** 2 <= r * r] = disc.colour
    return image


def write_video(path: Path, frames: Sequence[Image], codec: str) -> None:
    """Encodes frames of one even size at 25 per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 150_000
        stream.thread_count = 1  # x264 splits its bits by thread
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_frames(folder: Path, frames: dict[str, Image]) -> None:
    """Writes images under their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in frames.items():
        cv2.imwrite(str(folder / name), image[..., ::-1])


def write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> None:
    """Writes a table with the header's columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def ucf101_24(root: Path) -> None:
    """Four videos of 24 frames and a folder of frames 6 … 20 and 25; one has two tubes, most tubes cover a part."""
    one = {name: Disc(colour) for name, colour in COLOURS.items()}
    second = Disc(COLOURS["Biking"], start=(1.0, 0.75), step=(-0.015, 0.0), radius=0.1)
    clips: dict[str, list[tuple[Disc, int, int]]] = {
        "Biking/v_Biking_g01_c01": [(one["Biking"], 1, 24)],
        "Biking/v_Biking_g01_c02": [(one["Biking"], 5, 20), (second, 9, 24)],
        "CliffDiving/v_CliffDiving_g01_c01": [(one["CliffDiving"], 7, 18)],
        "CliffDiving/v_CliffDiving_g02_c01": [
            (Disc(COLOURS["CliffDiving"], start=(1.1, 0.2), step=(-0.02, 0.02)), 1, 12)
        ],
        "CliffDiving/v_CliffDiving_g03_c01": [(one["CliffDiving"], 3, 22)],
    }
    for name, tubes in clips.items():

        def frame(number: int, width: int, height: int, tubes: list[tuple[Disc, int, int]] = tubes) -> Image:
            return draw([disc for disc, first, last in tubes if first <= number <= last], number - 1, width, height)

        if "g03" in name:
            numbers = [*range(6, 21), 25]
            write_frames(
                root / "rgb-images" / name, {f"{Path(name).name}.{n:04d}.jpg": frame(n, 160, 120) for n in numbers}
            )
        elif "g02" in name:  # re-encoded at another size than the boxes', as some real files are
            write_video(root / "UCF-101" / f"{name}.mp4", [frame(n, 170, 128) for n in range(1, 25)], "mpeg4")
        else:
            write_video(root / "UCF-101" / f"{name}.avi", [frame(n, 160, 120) for n in range(1, 25)], "mpeg4")

    annotations = root / "annotations"
    annotations.mkdir(parents=True, exist_ok=True)
    frames = {name: 25 if "g03" in name else 24 for name in clips}
    labels = {"Biking": 2, "CliffDiving": 3}  # of 24, alphabetical, from 0
    content = {
        name: {
            "numf": frames[name],
            "label": labels[name.split("/")[0]],
            "annotations": [
                {"label": labels[name.split("/")[0]], "sf": first - 1, "ef": last, "boxes": disc.tube(first, last)}
                for disc, first, last in tubes
            ],
        }
        for name, tubes in clips.items()
    }
    (annotations / "pyannot.pkl").write_bytes(pickle.dumps(content, protocol=2))
    _write_mat(annotations / "finalAnnots.mat", content)
    (annotations / "testlist01.txt").write_text(
        "".join(f"{name}.avi\n" for name in clips if "Biking" in name or "g02" in name)
    )


def _write_mat(path: Path, content: dict[str, Any]) -> None:
    annot = np.empty((1, len(content)), dtype=[("num_imgs", "O"), ("name", "O"), ("tubes", "O")])
    for i, (name, entry) in enumerate(content.items()):
        tubes = np.empty(
            (1, len(entry["annotations"])), dtype=[("ef", "O"), ("sf", "O"), ("class", "O"), ("boxes", "O")]
        )
        for k, tube in enumerate(entry["annotations"]):
            # Here frames and classes count from 1, and the last frame is inclusive.
            tubes[0, k] = (np.uint8(tube["ef"]), np.uint8(tube["sf"] + 1), np.uint8(tube["label"] + 1), tube["boxes"])
        annot[0, i] = (np.uint8(entry["numf"]), name, tubes)
    savemat(path, {"annot": annot}, do_compression=True)
    written = path.read_bytes()
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + written[116:])  # the header holds the date


def kinetics400(root: Path) -> None:
    """Two videos in class folders and one folder of frames; the CSV file lists one clip more, which is not there."""
    guitar, bike = (Disc(COLOURS[label]) for label in ("playing guitar", "riding a bike"))
    write_video(
        root / "videos/playing guitar/drawn_disc0.mp4", [draw([guitar], n, 170, 128) for n in range(20)], "libx264"
    )
    write_video(
        root / "videos/riding a bike/drawn-disc1_000012_000022.mp4",
        [draw([bike], n, 128, 128) for n in range(20)],
        "libx264",
    )
    frames = {f"{n + 1:09d}.png": draw([guitar], n, 86, 64) for n in range(8)}
    write_frames(root / "sampled_frames/playing guitar-drawn_disc2_5_10", frames)
    rows = [
        ("playing guitar", "drawn_disc0", 0, 10, "val", 0),
        ("playing guitar", "drawn_disc2", 5, 15, "val", 0),
        ("riding a bike", "drawn-disc1", 12, 22, "val", 0),
        ("riding a bike", "absent_clip", 3, 13, "val", 1),
    ]
    write_csv(root / "annotations/kinetics-400_val.csv", "label,youtube_id,time_start,time_end,split,is_cc", rows)


def epic55(root: Path) -> None:
    """Two segments of eight sampled frames; boxes at frames ≡ 1 modulo 30, (top, left, height, width) in 1920×1080."""
    segments = [("cup", 1, "take", 0, "P01_01", 7, 91, 210), ("plate", 2, "put", 1, "P01_01", 8, 301, 420)]
    actions, valid = [], []
    for noun, noun_class, verb, verb_class, video, uid, start, stop in segments:
        disc = Disc((210, 210, 90 * noun_class), start=(0.6, 0.4), step=(0.003, 0.001))
        sampled = [start + i * (stop - start) // 7 for i in range(8)]
        frames = {f"{i:09d}.png": draw([disc], n - start, 86, 64) for i, n in enumerate(sampled, start=1)}
        write_frames(root / "sampled_frames_noun" / f"{noun}-{verb}-{video}_{uid}", frames)
        boxes = {}
        for number in range(start, stop + 1, 30):
            x, y, r = disc.at(number - start, 1080)
            boxes[number] = [(round(y - r), round(x - r), round(2 * r), round(2 * r))]
        times = [f"00:{n // 3600:02d}:{n // 60 % 60:02d}.{n % 60 * 100 // 60:02d}" for n in (start, stop)]
        actions.append(
            (
                uid,
                video[:3],
                video,
                f"{verb} {noun}",
                *times,
                start,
                stop,
                verb,
                verb_class,
                noun,
                noun_class,
                [noun],
                [noun_class],
            )
        )
        valid.append((uid, video, noun, noun_class, verb, start, stop, boxes))
    header = "uid,participant_id,video_id,narration,start_timestamp,stop_timestamp,start_frame,stop_frame"
    header += ",verb,verb_class,noun,noun_class"
    annotations = root / "annotations"
    write_csv(annotations / "EPIC_train_action_labels.csv", f"{header},all_nouns,all_noun_classes", actions)
    write_csv(
        annotations / "EPIC_noun_classes.csv", "noun_id,class_key,nouns", [(s[1], s[0], [s[0]]) for s in segments]
    )
    write_csv(
        annotations / "EPIC_verb_classes.csv", "verb_id,class_key,verbs", [(s[3], s[2], [s[2]]) for s in segments]
    )
    header = "seg_id,video_id,noun,noun_label,verb,start_frame,stop_frame,bounding_boxes"
    write_csv(annotations / "Valid_seg_top20_100_val.csv", header, valid)


def main() -> None:
    """Writes all three layouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent / "test_data")
    folder = parser.parse_args().folder
    ucf101_24(folder / "ucf101_24")
    kinetics400(folder / "kinetics400")
    epic55(folder / "epic55")


if __name__ == "__main__":
    main()
