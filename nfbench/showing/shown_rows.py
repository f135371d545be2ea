"""What a study found, as the tables that are shown and those that are kept beside its results.

The tables of a folder follow from its results alone: the same results give the same bytes, on any machine.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nfbench.analysis import training_runs, turn_ratios
from nfbench.analysis.rows import Row, clip_rows, count_rows, quiet, rows
from nfbench.analysis.sessions import current
from nfbench.analysis.turn_ratios import Ratio
from nfbench.errors import BadResults
from nfbench.records import Result, StepTime, key
from nfbench.showing import views
from nfbench.units import grouped


class Shown(NamedTuple):
    """The rows of each kind that results hold; ``noisy`` tells that noisy steps count as any other.

    ``aside`` says in a sentence each what was set aside of timed steps and of training runs.
    """

    steps: list[Row]
    trained: list[Row]
    clips: list[Row]
    counted: list[Row]
    ratios: list[Ratio]
    results: list[Result]
    noisy: bool = False
    aside: tuple[str, str] = ("", "")

    @property
    def kinds(self) -> views.Kinds:
        """The same as rows alone."""
        return views.Kinds(self.steps, views.of_ratios(self.ratios), self.clips, self.trained, self.counted)

    def quiet(self) -> Shown:
        """The same without noisy steps."""
        return self._replace(steps=[row for row in self.steps if "noisy" not in row])


def shown(
    results: Sequence[Result], everything: bool = True, noisy: bool = False, target: float | None = None
) -> Shown:
    """The rows of ``results``; of the newest software of each workload and machine unless ``everything``.

    No ratio is made of noisy rows unless ``noisy``. Training runs are timed until ``target``, a top-1.
    """
    newest = current(results)
    steps, steps_aside = rows(newest, everything, noisy=noisy)
    trained, trained_aside = training_runs.rows(newest, everything, target)
    return Shown(
        steps,
        trained,
        clip_rows(newest),
        count_rows(newest),
        ratios(newest if noisy else quiet(newest), everything),
        newest,
        noisy,
        (steps_aside, trained_aside),
    )


def ratios(results: Sequence[Result], everything: bool = True) -> list[Ratio]:
    """The ratios of all pairs of workloads that took turns within a session, the first of its first turn on top.

    Those of the newest software of each pair and machine, unless ``everything``. The fake device's only where there is
    no other.
    """
    real = [r for r in results if r.machine.device != "fake"] or results
    steps = [r for r in real if r.session is not None and isinstance(r.workload, StepTime)]
    pairs: dict[tuple[object, ...], list[Result]] = {}
    for group in grouped(steps, lambda r: r.session).values():
        order = sorted(group, key=lambda r: (r.round, r.turn, r.start))
        sides = list(dict.fromkeys(key(r.workload) for r in order))
        if len(sides) == 2:
            # every second round begins with the other side
            first = sides if order[0].round % 2 == 0 else sides[::-1]
            pairs.setdefault((*first, order[0].machine, order[0].software, order[0].study), []).extend(order)
    if not everything:
        newest = {
            (*pair[:3], pair[4]): pair for pair in sorted(pairs, key=lambda pair: max(r.start for r in pairs[pair]))
        }
        pairs = {pair: group for pair, group in pairs.items() if pair in newest.values()}
    found = []
    for pair, group in pairs.items():
        net, baseline = (next(r.step for r in group if key(r.workload) == side) for side in pair[:2])
        if (ratio := turn_ratios.paired(group, net, baseline)) is not None:
            found.append(ratio)
    return found


def write(folder: Path, made: dict[str, str]) -> list[Path]:
    """Write tables into ``folder``, each renamed into place when whole.

    Raises:
        BadResults: the folder cannot be written.
    """
    paths = []
    try:
        for name, text in made.items():
            # two shards may end at once
            path, part = folder / name, folder / f".{name}.{secrets.token_hex(4)}.part"
            part.write_text(text, encoding="utf-8", newline="\n")
            part.replace(path)
            paths.append(path)
    except OSError as error:
        raise BadResults(
            f"{', '.join(made)} cannot be written to {folder}: {error.strerror}.",
            try_="--out with a folder that you may write to",
        ) from error
    return paths
