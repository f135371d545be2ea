"""The timed steps that a training run can be set against: of the same net on the same machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.showing.style import drawable, plain

_SETTLED = ("norm", "px", "agc", "sam")
_Net = tuple[str, str]
_Settled = tuple[tuple[str, object], ...]


class Way(NamedTuple):
    """How steps were timed that may share a figure: in another precision, or compiled, a net is another point."""

    precision: str
    compile: str
    optimizer: str

    def words(self, beside: Way | None = None) -> str:
        """Its settings, or those in which it differs from the one ``beside``: "bf16, not compiled"."""
        fields = zip(self._fields, self, strict=True)
        told = {f: v for f, v in fields if (getattr(beside, f) != v if beside else f != "optimizer" or v != "sgd")}
        return ", ".join(plain(text, 40) for text in lines.worded(told))


Steps = dict[Way, dict[int, Row]]
"""The quickest step of a net, by how it was timed and its batch."""


class TimedSteps:
    """The rows of steps by what they are of, so that each is looked at once and not once for each run.

    A step that several devices share is no time of one, and is kept apart.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.groups: dict[_Net, dict[_Settled, Steps]] = {}
        self.counts: Counter[tuple[_Net, _Settled]] = Counter()
        self.used: set[tuple[_Net, _Settled]] = set()
        self.found: dict[tuple[_Net, _Settled], Steps] = {}
        self.shared: Counter[_Net] = Counter()
        for row in rows:
            net, settled = (row["machine"], row["model"]), _known(row, _SETTLED)
            if not drawable(row.get("step_time")):
                continue
            if row.get("world_size", 1) > 1:
                self.shared[net] += 1
                continue
            self.counts[net, settled] += 1
            _quickest(self.groups.setdefault(net, {}).setdefault(settled, {}).setdefault(_way(row), {}), [row])

    def of(self, run: Row) -> Steps:
        """The quickest steps of the run's net. Weights that were only evaluated fit a step at any px and λ."""
        net, settled = (run["machine"], run["model"]), _known(run, _SETTLED if run.get("epochs") else ("norm",))
        if (net, settled) not in self.found:
            found = self.found[net, settled] = {}
            for its, ways in self.groups.get(net, {}).items():
                if lines.agree(dict(settled), dict(its)):
                    self.used.add((net, its))
                    for way, steps in ways.items():
                        _quickest(found.setdefault(way, {}), steps.values())
        return self.found[net, settled]

    def why_none(self, run: Row) -> str:
        """Why there are none of a run: its net was timed at other settings only, or never."""
        settled = dict(_known(run, _SETTLED if run.get("epochs") else ("norm",)))
        timed = self.groups.get((run["machine"], run["model"]), ())
        differ = [[key for key, v in settled.items() if dict(its).get(key, v) != v] for its in timed]
        if not differ and self.shared[run["machine"], run["model"]]:
            return "its steps were timed on several devices together only"
        if not differ:
            return "no step time of it on that machine; nfbench step-time measures one"
        nearest = min(differ, key=len)
        words = ", ".join(plain(text, 40) for text in lines.worded({key: settled[key] for key in nearest}))
        return f"no step time of it {'at' if set(nearest) <= {'agc', 'px'} else 'with'} {words}"

    def unused(self) -> int:
        """The steps that no run is of."""
        return sum(number for key, number in self.counts.items() if key not in self.used)


def _known(row: Row, keys: Sequence[str]) -> _Settled:
    settings = lines.settings(row)
    return tuple((key, settings[key]) for key in keys if key in settings)


def _way(row: Row) -> Way:
    return Way(str(row.get("precision", "?")), str(row.get("compile", "none")), str(row.get("optimizer", "sgd")))


def _quickest(found: dict[int, Row], rows: Iterable[Row]) -> None:
    for row in rows:
        if row["batch"] not in found or row["step_time"] < found[row["batch"]]["step_time"]:
            found[row["batch"]] = row
