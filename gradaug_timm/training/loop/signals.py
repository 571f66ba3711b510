"""Signals that end a run: noted when they come, obeyed between steps."""
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

OBEYED = (signal.SIGTERM, signal.SIGINT)
WORKER_ENDED = getattr(signal, 'SIGCHLD', None)  # Windows doesn't have it
ECHO = 1.0  # seconds; torchrun hands on to its processes what a terminal has sent to all of them as well


class Stopped(Exception):
    """A signal ended the run, and what can be gone on with is saved.

    Args:
        signal: Its number.
    """

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


class Listener:
    """Notes SIGTERM and SIGINT, and the death of a data worker.

    Attributes:
        signal: Number of the signal that came, or 0.
        failure: What torch said of a data worker that died, or None.
    """

    def __init__(self):
        self.signal = 0
        self.failure: str | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens in the context.

        A second SIGINT, but for an echo of the first, does what it would have done without a listener; SIGTERM never
        does. Only a process's main thread can listen; elsewhere nothing changes.
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
        """Notes the error that torch's handler raises in the middle of a step where a data worker has died."""
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
