"""Files appear whole or not at all: written under another name beside their place, and renamed when they are complete.

Under another name, `.<machine>-<token>.part<suffix>`, a file is locked (flock) by the process that writes it, for the
seconds that this takes. What lies there unlocked was left behind by a killed process and is swept away by the next
command that writes to the folder: at once if its machine is this one (the running kernel, so that containers know each
other), and after an hour, by the clock of the file system, if it is another one, whose locks may not be seen here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from vidattr.errors import ClipError, OutputError, VidattrError

_ABANDONED = 3600.0  # seconds; a file is written in one go, from memory
_UNLOCKED = "0" * 8  # the machine's name where the file system has no locks
_KERNEL = Path("/proc/sys/kernel/random/boot_id")
_OURS = re.compile(r"\.([0-9a-f]{8}-[0-9a-f]{16}|.+-[0-9]+)\.part(\.\w+)?")  # the second is how they were called once
_state = {"durable": False}


@cache
def _machine() -> str:
    """Returns a short name of the running kernel, the same in all its containers."""
    named = _KERNEL.read_text("ascii") if _KERNEL.is_file() else socket.gethostname()
    return hashlib.sha256(named.encode()).hexdigest()[:8]


def set_durable(asked: bool) -> None:
    """Says whether files that are written from here on reach the disk before they get their names (`runtime.durable`)."""
    _state["durable"] = asked


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary sibling to write to, and gives it the right name only when the block ends well.

    A process that is killed in the block leaves a `.part` file and never a half-written `path`. The file's mode is what
    the umask says. The block writes into the file that is there and does not put another one in its place.

    Raises:
        OutputError: It cannot be written: the disk is full, the folder is not to be written to.
        ClipError: It cannot be written because of its name.
    """
    try:
        new = _make(path.parent)
        part, file = _begin(path)
    except OSError as error:
        raise explained(error, path) from error
    try:
        yield part
        if _state["durable"]:
            os.fsync(file)
        os.replace(part, path)
        if _state["durable"]:
            for folder in (path.parent, *(folder.parent for folder in new)):
                _sync(folder)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explained(error, path) from error
        raise
    finally:
        os.close(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole."""
    with whole(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # a file's name need not be text


def remove(path: Path) -> None:
    """Removes a file if it is there; raises OutputError where that is refused."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def sweep(folder: Path) -> None:
    """Removes what killed processes left behind in a folder and below; files that are being written are left alone."""
    for part in folder.rglob(".*.part*"):
        if _OURS.fullmatch(part.name):
            with suppress(OSError):  # gone in between, or somebody else's
                _sweep(part)


def explained(error: OSError, path: Path) -> VidattrError:
    """Returns the user's error for a file that cannot be written."""
    stays = "run the same command again; what was written is whole and stays"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"the disk is full: {path}", remedy=f"make room and {stays}")
    if error.errno == errno.EFBIG:
        return OutputError(
            f"a file may not become this large here: {path}",
            remedy=f"raise the limit (ulimit -f unlimited) and {stays}",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(
            f"no permission to write {path}",
            remedy=f"another folder, or give yourself the right (chmod u+rwx), and {stays}",
        )
    if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
        return ClipError(f"no file can have this name: {path}", remedy="rename the clip")
    return OutputError(f"cannot write {path}: {error.strerror or error}", remedy=f"see to the folder and {stays}")


def _make(folder: Path) -> list[Path]:
    """Makes a folder and returns those that were not there before."""
    new = []
    while not folder.is_dir():
        new.append(folder)
        folder = folder.parent
    for one in reversed(new):
        one.mkdir(exist_ok=True)
    return new


def _begin(path: Path) -> tuple[Path, int]:
    """Makes an empty, locked file beside `path` and returns its name and descriptor."""
    machine = _machine()
    while True:
        part = path.with_name(f".{machine}-{secrets.token_hex(8)}.part{path.suffix}")
        file = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        if machine == _UNLOCKED:
            return part, file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:  # else it was swept away before it was locked
                return part, file
        except OSError:
            part.unlink()
            machine = _UNLOCKED
        os.close(file)


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sweep(part: Path) -> None:
    if not part.name.startswith(f".{_machine()}-"):
        probe, file = _begin(part)
        now = os.fstat(file).st_mtime
        os.close(file)
        probe.unlink()
        if now - part.stat().st_mtime < _ABANDONED:
            return
    file = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        with suppress(OSError):  # no locks here, and old enough without
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its writer lives
                return
        part.unlink()
    finally:
        os.close(file)
