"""How much of the host's CPU others had during the window."""

from __future__ import annotations

import os
from collections.abc import Sequence

import psutil

from nfbench.records import Reading, reading


class Others:
    """Between start and stop: busy time of the host's cores, stolen time with it, less that of ``processes``: of this
    one, and of those that share its work."""

    def __init__(self, processes: Sequence[int] = ()) -> None:
        self.own = [psutil.Process(process) for process in processes or (os.getpid(),)]
        self.began = (0.0, 0.0, 0.0)

    def start(self) -> None:
        self.began = self._times()

    def stop(self, busy: float) -> list[Reading]:
        used, total, own = (b - a for a, b in zip(self.began, self._times(), strict=True))
        if total <= 0:
            return []
        return [reading("others_cpu", "1", "window", "/proc/stat", [max(0.0, used - own) / total])]

    def _times(self) -> tuple[float, float, float]:
        """Seconds that the cores were busy, all of their seconds, and the processes' own."""
        host, own = psutil.cpu_times(), [process.cpu_times() for process in self.own]
        # the kernel counts a guest's time in its host's user time too
        total = sum(host) - getattr(host, "guest", 0.0) - getattr(host, "guest_nice", 0.0)
        idle = host.idle + getattr(host, "iowait", 0.0)
        return total - idle, total, sum(mine.user + mine.system for mine in own)
