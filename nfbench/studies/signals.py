"""Signals around code that has ideas of its own about them, such as Ray's."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Hold signals back until what this yields is called: inside of Ray's code their exceptions would be lost."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    came: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in _numbers()}
    # what is ignored stays so
    held = {number: handler for number, handler in before.items() if callable(handler)}

    def heed() -> None:
        while came:
            number, frame = came.pop(0)
            held[signal.Signals(number)](number, frame)

    for number in held:
        signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield heed
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    heed()


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put back the handlers of signals that Ray replaces by its own."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _numbers()} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
