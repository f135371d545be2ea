"""How much of this process lay in swap at the end of the window: memory that comes back at a disk's pace."""

from __future__ import annotations

from collections.abc import Callable

from nfbench.devices import cpu
from nfbench.records import Reading, reading


class Swap:
    """Files "swapped" (B), as the kernel tells it at the end; absent where ``tell`` knows nothing."""

    def __init__(self, tell: Callable[[], int | None] = cpu.swapped) -> None:
        self.tell = tell

    def start(self) -> None:
        return None

    def stop(self, busy: float) -> list[Reading]:
        size = self.tell()
        return [] if size is None else [reading("swapped", "B", "window", "/proc/self/status VmSwap", [size])]
