"""Slowdowns that a study accepts: ``[[accept]]`` in its file, so in the pull request's own diff."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec

from nfbench.records import Record, StepTime


class Accept(Record, frozen=True, kw_only=True):
    """A change for the worse that is wanted, up to a size and a day.

    ``slower`` is the share of the step time that is accepted, ``counts`` the same of counted quantities; ``where`` are
    the settings of the workloads that it is about, the model among them. ``until`` is the last day.
    """

    where: dict[str, Any]
    until: date
    reason: str
    slower: float = 0.0
    counts: dict[str, float] = msgspec.field(default_factory=dict)

    def matches(self, workload: StepTime) -> bool:
        """Whether it is about that workload."""
        return all(getattr(workload, name) == value for name, value in self.where.items())

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.until

    def said(self) -> str:
        """ "accepted up to 6 % until 2027-01-31: exact softmax"."""
        parts = [f"{100 * self.slower:g} %"] if self.slower else []
        parts += [f"{100 * share:g} % more {name.replace('_', ' ')}" for name, share in self.counts.items()]
        return f"accepted up to {', '.join(parts)} until {self.until}: {self.reason}"


def of(workload: StepTime, accepts: tuple[Accept, ...], today: date) -> Accept | None:
    """What is accepted of that workload today, all that still holds taken together; else what held last, or None."""
    found = [accept for accept in accepts if accept.matches(workload)]
    holding = [accept for accept in found if not accept.expired(today)]
    if not holding:
        return max(found, key=lambda accept: accept.until, default=None)
    names = dict.fromkeys(name for accept in holding for name in accept.counts)
    return Accept(
        where=holding[0].where,
        until=min(accept.until for accept in holding),
        reason="; ".join(dict.fromkeys(accept.reason for accept in holding)),
        slower=max(accept.slower for accept in holding),
        counts={name: max(accept.counts.get(name, 0.0) for accept in holding) for name in names},
    )
