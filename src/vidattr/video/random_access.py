"""Finds the places in a video file where decoding can begin and gives the same frames as from the start.

The key-frame flag of a container does not guarantee that: an ordinary intra frame of H.264 can have the flag, and later
frames may refer to frames before it. The bitstream guarantees it: frames that are shown after an IDR picture (H.264) or
an IRAP picture (HEVC) never refer to a frame before that picture.

Source: ITU-T H.264, 7.4.1.2.4; ITU-T H.265, 7.4.2.2 and 8.1.3; ISO/IEC 14496-15, 5.3.3.1 and 8.3.3.1 (NAL units behind
their length, whose size the decoder configuration gives).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet

_LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}
"""Byte of the decoder configuration whose lowest two bits are the size of a NAL unit's length, less 1."""

_IDR, _IRAP = 5, range(16, 22)


@dataclass(frozen=True)
class Point:
    """A packet from which decoding can begin.

    Attributes:
        number: The number of its frame, from 1 in the order of presentation.
        pts: Its time stamp.
        at: Its time in the container's index: the decoding time in MP4, the presentation time in Matroska.
    """

    number: int
    pts: int
    at: int


def starts_afresh(codec: str, configuration: bytes, packet: Packet[Any]) -> bool:
    """Returns whether the frames that are shown after this packet's frame refer to none before it.

    Args:
        codec: "h264" or "hevc"; the result for any other codec is False.
        configuration: Its decoder configuration record, as MP4 and Matroska files have it.
        packet: The packet.
    """
    at = _LENGTH_SIZE_AT.get(codec)
    if at is None or len(configuration) <= at or configuration[0] != 1:
        return False
    kinds = [
        unit[0] & 0x1F if codec == "h264" else unit[0] >> 1 & 0x3F
        for unit in _units(bytes(packet), (configuration[at] & 3) + 1)
    ]
    pictures = [kind for kind in kinds if (1 <= kind <= 5 if codec == "h264" else kind < 32)]
    return bool(pictures) and all(kind == _IDR if codec == "h264" else kind in _IRAP for kind in pictures)


def _units(content: bytes, size: int) -> Iterator[bytes]:
    """Yields the first byte of each NAL unit; nothing if the lengths do not add up."""
    found, at = [], 0
    while at + size < len(content):
        length = int.from_bytes(content[at : at + size])
        if not length:
            return
        found.append(content[at + size : at + size + 1])
        at += size + length
    if at == len(content):
        yield from found
