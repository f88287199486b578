"""A process that does one task of a submission after the other: `python -m vidattr.cluster.worker SUBMISSION`.

It reads the numbers of its tasks from its standard input, and prints `ended <exit code>` after each. When its input
closes, because the command that started it has ended, it ends at once, also in a task: files are whole at any moment.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading


def main(folder: str) -> None:
    """Does the tasks whose numbers arrive."""
    numbers: queue.Queue[int] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            numbers.put(int(line))
        os._exit(1)

    # Before torch is imported: a worker that is still starting ends at once, and leaves nothing.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what tasks print goes to the log
    threading.Thread(target=listen, daemon=True).start()

    from vidattr.cluster.task import perform

    while True:
        number, code = numbers.get(), 0
        try:
            perform(folder, number)
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except Exception:
            sys.excepthook(*sys.exc_info())
            code = 1
        said.write(f"ended {code}\n")
        said.flush()


if __name__ == "__main__":
    main(sys.argv[1])
