"""Writes files whole or not at all: under a temporary name in the same folder, renamed when they are complete.

The temporary name is `.<machine>-<token>.part<suffix>`. The process that writes the file holds a lock on it (flock). A
temporary file without a lock was left by a killed process, and the next command that writes to the folder removes it:
at once if this machine wrote it (the running kernel, which containers share), and after an hour by the clock of the
file system if another machine did, whose locks may not be visible here.

A task of a submission (`cluster`) has a name of its own in place of the machine's (`set_writer`), and uses neither
locks nor times, which differ between the hosts of a cluster: it removes the files of its own earlier attempts, which
have ended when it starts, and no others.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from vidattr.errors import ClipError, OutputError, VidattrError

_ABANDONED = 3600.0  # seconds; writing a file from memory never takes as long
_UNLOCKED = "0" * 8  # the machine's name where the file system has no locks
_KERNEL = Path("/proc/sys/kernel/random/boot_id")
# The second alternative is the form of an earlier version.
_OURS = re.compile(r"\.([0-9a-f]{8}-[0-9a-f]{16}|.+-[0-9]+)\.part(\.\w+)?")
_state = {"durable": False}
_writer: list[str] = []  # the name of this task; empty: the process is no task


@cache
def _machine() -> str:
    """Returns a short name of the running kernel, the same in all its containers."""
    return _hash8(_KERNEL.read_text("ascii") if _KERNEL.is_file() else socket.gethostname())


def _hash8(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def set_durable(durable: bool) -> None:
    """Sets whether files are flushed to the disk before they get their names, from now on (`runtime.durable`)."""
    _state["durable"] = durable


def set_writer(name: str) -> None:
    """Makes this process the task of that name, from now on: temporary files are named after it and are not locked.

    Args:
        name: Differs between tasks that run at the same time; "": the process is no task any more.
    """
    _writer[:] = [_hash8(name)] if name else []


@contextmanager
def whole(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yields a temporary file in the same folder, and renames it to `path` if the block ends without an exception.

    A process that is killed in the block leaves a `.part` file and never a half-written `path`. The umask decides the
    mode of the file. The block has to write into the existing file and must not replace it.

    Args:
        path: The file.
        keep: Whether a file that has the name already, or gets it in the meantime, stays as it is.

    Raises:
        OutputError: The file cannot be written, for example on a full disk or in a read-only folder.
        ClipError: The file cannot have this name.
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
        if keep:
            _link(part, path)
        else:
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


def _link(part: Path, path: Path) -> None:
    """Gives a file its name unless another file has it; of several processes that do so at once, one succeeds."""
    try:
        os.link(part, path)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES):
            raise
        os.replace(part, path)  # this file system has no links
        return
    part.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole."""
    with whole(path) as part:
        part.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # the name of a file need not be text


def write_new(path: Path, text: str) -> None:
    """Writes a text file whole, unless there is one."""
    with whole(path, keep=True) as part:
        part.write_bytes(text.encode("utf-8", "backslashreplace"))


def remove(path: Path) -> None:
    """Removes a file if it exists; raises OutputError if that is not permitted."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, path) from error


def sweep(folder: Path) -> None:
    """Removes the temporary files of killed processes in a folder and below, and none that is being written."""
    for part in folder.rglob(".*.part*"):
        if _OURS.fullmatch(part.name):
            with suppress(OSError):  # removed in the meantime, or owned by another user
                _sweep(part)


def sweep_of(folder: Path, writers: Iterable[str]) -> None:
    """Removes the temporary files of tasks that have ended, in a folder and below."""
    names = tuple(f".{_hash8(name)}-" for name in writers)
    for part in folder.rglob(".*.part*"):
        if _OURS.fullmatch(part.name) and part.name.startswith(names):
            with suppress(OSError):
                part.unlink()


def explained(error: OSError, path: Path) -> VidattrError:
    """Returns the user error for a file that cannot be written."""
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
    """Makes a folder and its parents, and returns those that did not exist."""
    new = []
    while not folder.is_dir():
        new.append(folder)
        folder = folder.parent
    for missing in reversed(new):
        missing.mkdir(exist_ok=True)
    return new


def _begin(path: Path) -> tuple[Path, int]:
    """Makes an empty, locked file beside `path` and returns its name and descriptor."""
    machine = _writer[0] if _writer else _machine()
    while True:
        part = path.with_name(f".{machine}-{secrets.token_hex(8)}.part{path.suffix}")
        file = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        if _writer or machine == _UNLOCKED:
            return part, file
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:  # otherwise another process removed it before it was locked
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
    if _writer:
        if part.name.startswith(f".{_writer[0]}-"):
            part.unlink()
        return
    if not part.name.startswith(f".{_machine()}-"):
        probe, file = _begin(part)
        now = os.fstat(file).st_mtime
        os.close(file)
        probe.unlink()
        if now - part.stat().st_mtime < _ABANDONED:
            return
    file = os.open(part, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        with suppress(OSError):  # this file system has no locks; the file is old enough
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # its writer is running
                return
        part.unlink()
    finally:
        os.close(file)
