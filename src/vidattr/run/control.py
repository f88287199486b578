"""What another process may ask of a run: to report after each batch, and to stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class DroppedBatch(BaseException):
    """The batch in flight is dropped, because the run has to stop now. No handler of errors may catch it."""


class Control:
    """Stops a run between two batches, or in a batch before any of its maps is written.

    The methods `stop` and `drop` may be called by a signal handler.

    Attributes:
        stopped: Whether the run starts no further batch.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._dropped = False
        self._writing = 0

    def stop(self) -> None:
        """Makes the run end after the batch in flight."""
        self.stopped = True

    def drop(self) -> None:
        """Makes the run end at once: the maps of a method and batch are then all written, or none is.

        Raises:
            DroppedBatch: Now, or as soon as the maps that are being written are complete.
        """
        self.stopped = self._dropped = True
        if not self._writing:
            raise DroppedBatch

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Puts off `drop` to the end of the block."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
        if self._dropped:
            raise DroppedBatch

    def batch_begun(self, clips: Sequence[str]) -> None:
        """Takes notice of a batch, given the ids of its clips; a subclass reports it."""

    def batch_done(self, clips: Sequence[str], stored: int) -> None:
        """Takes notice of a finished batch; a subclass reports it.

        Args:
            clips: The ids of its clips.
            stored: How many maps, or scores, were stored of it.
        """
