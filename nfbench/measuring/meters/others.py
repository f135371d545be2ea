"""How much of the host's CPU others had during the window."""

from __future__ import annotations

import psutil

from nfbench.records import Reading, reading


class Others:
    """Between start and stop: busy time of the host's cores, stolen time with it, less this process's own."""

    def __init__(self) -> None:
        self.own = psutil.Process()
        self.began = (0.0, 0.0, 0.0)

    def start(self) -> None:
        self.began = self._times()

    def stop(self, busy: float) -> list[Reading]:
        used, total, own = (b - a for a, b in zip(self.began, self._times(), strict=True))
        if total <= 0:
            return []
        return [reading("others_cpu", "1", "window", "/proc/stat", [max(0.0, used - own) / total])]

    def _times(self) -> tuple[float, float, float]:
        """Seconds that the cores were busy, all of their seconds, and this process's."""
        host, mine = psutil.cpu_times(), self.own.cpu_times()
        # the kernel counts a guest's time in its host's user time too
        total = sum(host) - getattr(host, "guest", 0.0) - getattr(host, "guest_nice", 0.0)
        idle = host.idle + getattr(host, "iowait", 0.0)
        return total - idle, total, mine.user + mine.system
