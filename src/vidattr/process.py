"""Settings of the whole process: the command line makes them; the library, as part of another program, makes none."""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's <malloc.h>


def prepare() -> None:
    """Makes the settings of a process that does nothing but this project's work. Call it before OpenCV is imported.

    * OpenCV and the FFmpeg inside it print no warnings about a bad file: the error of the clip says what is wrong.
    * The C library keeps freed memory for the next tensor (`keep_memory`).

    A variable that the user has set stays as it is.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    keep_memory()


def keep_memory() -> None:
    """Makes the C library keep freed memory for the next tensor, instead of returning it to the system.

    Memory from the system is cleared page by page at its first use. For a small 3-D CNN on a CPU this takes up to half
    of the time, more for larger batches. The C library offers no way to undo or to read this setting. Does nothing
    where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never; numbers end at 2 GiB, which a large batch frees
