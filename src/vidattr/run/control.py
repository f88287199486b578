"""What another process may ask of a run: to report after each batch, and to stop."""

from __future__ import annotations

from collections.abc import Sequence


class DroppedBatch(BaseException):
    """The batch in flight is dropped, because the run has to stop now. No handler of errors may catch it."""


class Control:
    """Stops a run between two batches or within one: its maps of a method are then all written or none (`storing`).

    The methods `stop` and `drop` may be called by a signal handler.

    Attributes:
        stopped: Whether the run starts no further batch.
    """

    def __init__(self) -> None:
        self.stopped = False

    def stop(self) -> None:
        """Makes the run end after the batch in flight."""
        self.stopped = True

    def drop(self) -> None:
        """Makes the run end as soon as the maps that are being written are complete.

        Raises:
            DroppedBatch: Always.
        """
        self.stopped = True
        raise DroppedBatch

    def batch_begun(self, clips: Sequence[str]) -> None:
        """Takes notice of a batch, given the ids of its clips; a subclass reports it."""

    def batch_done(self, clips: Sequence[str], stored: int) -> None:
        """Takes notice of a finished batch; a subclass reports it.

        In a run the next batch may have begun, and another thread calls this.

        Args:
            clips: The ids of its clips.
            stored: How many maps, or scores, were stored of it.
        """
