"""What a study found, as the tables that are shown and those that are kept beside its results.

The tables of a folder follow from its results alone: the same results give the same bytes, on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nfbench.analysis import training_runs, turn_ratios
from nfbench.analysis.rows import (
    Row,
    clip_rows,
    count_rows,
    family_of,
    machine_names,
    quiet,
    rows,
    software_name,
)
from nfbench.analysis.sessions import current
from nfbench.analysis.store import replacing
from nfbench.analysis.turn_ratios import Ratio, named, where
from nfbench.errors import BadResults
from nfbench.records import Result, StepTime, key, of_kind, recency
from nfbench.units import grouped


class OfRatio(Row):
    """A row with the ratio that it was made of."""

    def __init__(self, row: Row, ratio: Ratio) -> None:
        super().__init__(row)
        self.ratio = ratio


class Shown(NamedTuple):
    """The rows of each kind that results hold, and these, also those by older software.

    ``everything`` tells that older software is shown too, ``noisy`` that noisy steps count as any other. ``aside`` says
    in a sentence each what was set aside of timed steps and of training runs. ``partners`` are steps that training
    runs may be set against though no figure is asked for that shows them; None: ``steps``.
    """

    steps: Sequence[Row] = ()
    ratios: Sequence[Row] = ()
    clips: Sequence[Row] = ()
    trained: Sequence[Row] = ()
    counted: Sequence[Row] = ()
    results: Sequence[Result] = ()
    noisy: bool = False
    aside: tuple[str, str] = ("", "")
    everything: bool = False
    partners: Sequence[Row] | None = None

    @property
    def each(self) -> dict[str, Sequence[Row]]:
        """The rows of each kind, by what a person calls them."""
        return {
            "timed steps": self.steps,
            "ratios measured in turns": self.ratios,
            "clips": self.clips,
            "training runs": self.trained,
            "counts": self.counted,
        }

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return [row for rows in self.each.values() for row in rows]

    @property
    def measured(self) -> list[Ratio]:
        """The ratios that rows were made of."""
        return [row.ratio for row in self.ratios if isinstance(row, OfRatio)]

    def of(self, each: Sequence[Sequence[Row]]) -> Shown:
        """The same with other rows of `each` kind."""
        steps, ratios, clips, trained, counted = each
        return self._replace(steps=steps, ratios=ratios, clips=clips, trained=trained, counted=counted)

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
        ratio_rows(ratios(newest if noisy else quiet(newest), everything)),
        clip_rows(newest),
        trained,
        count_rows(newest),
        newest,
        noisy,
        (steps_aside, trained_aside),
        everything,
    )


def ratios(results: Sequence[Result], everything: bool = True) -> list[Ratio]:
    """The ratios of all pairs of workloads that took turns within a session, the first of its first turn on top.

    Those of the newest software of each pair and machine, unless ``everything``. The fake device's only where there is
    no other.
    """
    real = [r for r in results if r.machine.device != "fake"] or results
    steps = [r for r in of_kind(real, StepTime) if r.session is not None]
    pairs: dict[tuple[object, ...], list[Result]] = {}
    for group in grouped(steps, lambda r: r.session).values():
        order = sorted(group, key=lambda r: (r.round, r.turn, recency(r)))
        sides = list(dict.fromkeys(key(r.workload) for r in order))
        if len(sides) == 2:
            # every second round begins with the other side
            first = sides if order[0].round % 2 == 0 else sides[::-1]
            pairs.setdefault((*first, order[0].machine, order[0].software, order[0].study), []).extend(order)
    if not everything:
        newest = {
            (*pair[:3], pair[4]): pair for pair in sorted(pairs, key=lambda pair: max(recency(r) for r in pairs[pair]))
        }
        pairs = {pair: group for pair, group in pairs.items() if pair in newest.values()}
    found = []
    for pair, group in pairs.items():
        net, baseline = (next(r.step for r in group if key(r.workload) == side) for side in pair[:2])
        if (ratio := turn_ratios.paired(group, net, baseline)) is not None:
            found.append(ratio)
    return found


def ratio_rows(measured: Sequence[Ratio]) -> list[OfRatio]:
    """A row of raw values for each: how many times as long the baseline's step takes, with its 95 % interval, and the
    settings of the net, so that it is chosen like other rows."""
    names = machine_names(ratio.net.machine for ratio in measured)
    rows = []
    for ratio in measured:
        resolved, model = ratio.net.resolved, ratio.net.workload.model
        about: Row = {"kind": "ratio", "model": model, "family": family_of(model), "batch": ratio.net.step.batch}
        if resolved is not None:
            about |= {"px": resolved.px, "precision": resolved.precision, "layout": resolved.layout}
        net, baseline = named(ratio)
        value, low, high = ratio.speedup
        reported = turn_ratios.reported(ratio.net, ratio.baseline)
        row: Row = {
            "net": net,
            "baseline": baseline,
            "settings": where(ratio, True),
            "speedup": value,
            "speedup_low": low,
            "speedup_high": high,
            "turns": f"{ratio.turns} of {ratio.asked}" if ratio.asked > ratio.turns else ratio.turns,
            "rounds": ratio.rounds,
            "reported": "; ".join(f"{r.value:.3g} ({r.source})" for r in reported) or None,
            "machine": names[ratio.net.machine],
            "software": software_name(ratio.net.software),
        }
        about |= {"baseline_model": ratio.baseline.workload.model, "status": "ok", "start": ratio.net.start}
        rows.append(OfRatio(about | {k: v for k, v in row.items() if v is not None}, ratio))
    return rows


def write(folder: Path, made: dict[str, str]) -> list[Path]:
    """Write tables into ``folder``, each renamed into place when whole.

    Raises:
        BadResults: the folder cannot be written.
    """
    paths = []
    try:
        for name, text in made.items():
            with replacing(folder / name) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
            paths.append(folder / name)
    except OSError as error:
        raise BadResults(
            f"{', '.join(made)} cannot be written to {folder}: {error.strerror}.",
            try_="--out with a folder that you may write to",
        ) from error
    return paths
