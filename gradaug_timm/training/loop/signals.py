"""Signals that stop a run: recorded on arrival, and handled between steps."""
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OBEYED = (signal.SIGTERM, signal.SIGINT)
WORKER_ENDED = getattr(signal, 'SIGCHLD', None)  # None on Windows
ECHO = 1.0  # seconds; torchrun forwards a signal that the terminal has also sent to the processes directly


class Stopped(Exception):
    """The exception that a signal stopped the run; a checkpoint to resume was written.

    Args:
        signal: The number of the signal.
    """

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


class Listener:
    """A recorder of SIGTERM, SIGINT and the death of a data worker.

    Attributes:
        signal: Number of the last signal, or 0.
        failure: Error message of torch about a dead data worker, or None.
    """

    def __init__(self):
        self.signal = 0
        self.failure: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Return a context manager in which signals are recorded.

        A second SIGINT, except an echo of the first, has its usual effect; a second SIGTERM does not. Only the main
        thread of a process can listen; in other threads nothing changes.
        """
        if not _in_main_thread():
            yield
            return
        before: dict[int, Any] = {number: signal.getsignal(number) for number in OBEYED}
        worker_ended = None if WORKER_ENDED is None else signal.getsignal(WORKER_ENDED)
        interrupts: list[float] = []

        def note(number: int, frame) -> None:
            self.signal = number
            if number != signal.SIGINT:
                return
            interrupts.append(time.monotonic())
            if interrupts[-1] - interrupts[0] > ECHO:
                signal.signal(number, before[number])
                signal.raise_signal(number)

        try:
            for number in OBEYED:
                signal.signal(number, note)
            yield
        finally:
            for number in OBEYED:
                signal.signal(number, before[number])
            if self._is_deferring():
                signal.signal(WORKER_ENDED, worker_ended or signal.SIG_DFL)  # type: ignore[arg-type]

    def defer_worker_failures(self) -> None:
        """Record the error that torch's handler would raise in the middle of a step when a data worker dies."""
        if WORKER_ENDED is None or self._is_deferring() or not _in_main_thread():
            return
        handler = signal.getsignal(WORKER_ENDED)
        if not callable(handler):
            return

        def note(number: int, frame) -> None:
            try:
                handler(number, frame)
            except RuntimeError as error:
                self.failure = str(error)
        note.defers = True  # type: ignore[attr-defined]
        signal.signal(WORKER_ENDED, note)

    @staticmethod
    def _is_deferring() -> bool:
        return WORKER_ENDED is not None and getattr(signal.getsignal(WORKER_ENDED), 'defers', False)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
