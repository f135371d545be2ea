"""The timed steps that a training run can be set against: of the same net on the same machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.showing.style import drawable, plain

_SETTLED = ("norm", "px", "agc", "sam")
_Net = tuple[str, str]
_Settled = tuple[tuple[str, object], ...]


class TimedSteps:
    """The rows of steps by what they are of, so that each is looked at once and not once for each run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.groups: dict[_Net, dict[_Settled, dict[int, Row]]] = {}
        self.counts: Counter[tuple[_Net, _Settled]] = Counter()
        self.used: set[tuple[_Net, _Settled]] = set()
        self.found: dict[tuple[_Net, _Settled], dict[int, Row]] = {}
        for row in rows:
            net, settled = (row["machine"], row["model"]), _known(row, _SETTLED)
            if drawable(row.get("step_time")):
                self.counts[net, settled] += 1
                _quickest(self.groups.setdefault(net, {}).setdefault(settled, {}), [row])

    def of(self, run: Row) -> dict[int, Row]:
        """The quickest steps of the run's net by batch. Weights that were only evaluated fit a step at any px and λ."""
        net, settled = (run["machine"], run["model"]), _known(run, _SETTLED if run.get("epochs") else ("norm",))
        if (net, settled) not in self.found:
            found = self.found[net, settled] = {}
            for its, steps in self.groups.get(net, {}).items():
                if lines.agree(dict(settled), dict(its)):
                    self.used.add((net, its))
                    _quickest(found, steps.values())
        return self.found[net, settled]

    def why_none(self, run: Row) -> str:
        """Why there are none of a run: its net was timed at other settings only, or never."""
        settled = dict(_known(run, _SETTLED if run.get("epochs") else ("norm",)))
        timed = self.groups.get((run["machine"], run["model"]), ())
        differ = [[key for key, v in settled.items() if dict(its).get(key, v) != v] for its in timed]
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


def _quickest(found: dict[int, Row], rows: Iterable[Row]) -> None:
    for row in rows:
        if row["batch"] not in found or row["step_time"] < found[row["batch"]]["step_time"]:
            found[row["batch"]] = row
