"""A stretch of a test in which the host may not wait for the GPU."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import torch


def _debug_synchronization(mode: str) -> None:
    # torch warns that the mode is a prototype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        torch.cuda.set_sync_debug_mode(mode)


@contextlib.contextmanager
def nothing_waits() -> Iterator[None]:
    """Inside, what makes the host wait for the GPU raises a RuntimeError."""
    _debug_synchronization("error")
    try:
        yield
    finally:
        _debug_synchronization("default")
