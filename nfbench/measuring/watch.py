"""Who looks on while something is measured; called only between blocks."""

from __future__ import annotations

from typing import Protocol

from nfbench.analysis.stats import Estimate
from nfbench.records import Result


class Watch(Protocol):
    """Told what runs. Nothing it does may reach into a timed block."""

    def phase(self, what: str) -> None:
        """What runs now, in words."""

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        """Steps counted, the running step time, and the seconds left to the cap."""

    def going(self, text: str) -> None:
        """How far a long piece of work is; may be passed over."""

    def note(self, text: str) -> None:
        """Something the user should read, kept on the screen."""

    def waits(self, text: str) -> None:
        """Nothing goes on, for the reason given, until anything else is told."""

    def failed(self, error: Exception, result: Result) -> None:
        """The workload failed; ``result`` is the row that will say so."""


class Silent:
    """Looks away."""

    def phase(self, what: str) -> None:
        return None

    def progress(self, steps: int, estimate: Estimate, left: float) -> None:
        return None

    def going(self, text: str) -> None:
        return None

    def note(self, text: str) -> None:
        return None

    def waits(self, text: str) -> None:
        self.note(text)

    def failed(self, error: Exception, result: Result) -> None:
        return None
