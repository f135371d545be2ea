"""Findings about training runs: how they ended, what their times hold, and how far their accuracy carries."""

from __future__ import annotations

from nfbench import units
from nfbench.analysis import accuracy_metrics as metrics
from nfbench.analysis.finding import Finding
from nfbench.records import Result

MUCH_DATA = 0.05
"""Share of the training time spent making batches from which a time is not the net's alone."""
FEW_SEEDS = 2


def of(result: Result) -> list[Finding]:
    """What is doubtful about a training run, beside how it ended, in the order of its weight."""
    checks = (_data, _unreadable, _shared, _resumed, _deterministic, _subset, _small)
    return [found for check in checks if (found := check(result)) is not None]


def cut_short(result: Result) -> Finding:
    """For a run that ended at --max-time or was interrupted: how far it came."""
    found = result.reading("train_time")
    done = f"{len(found.values) if found else 0} of {result.run.epochs} epochs"
    if result.status == "timeout":
        top1 = result.reading("top1")
        reached = f": top-1 {units.percent(top1.finite[-1])} so far" if top1 and top1.finite else ""
        return Finding("timeout", f"--max-time was reached after {done}{reached}.", "Raise --max-time.")
    return Finding("interrupted", f"Interrupted after {done}.", "Its schedule did not end, so it has no final top-1.")


def diverged(result: Result) -> Finding:
    """Where the run diverged, how, and what to try."""
    update, message = result.value("diverged_at"), (result.message or "").rstrip(". ")
    at = "" if update is None else f" at update {update:.0f}"
    at = "" if at.removeprefix(" at") in message else at
    agc = result.run.agc if result.resolved is None else result.resolved.agc
    tries = ["--agc 0.01" if agc in (None, "none") else "a smaller --agc", "a lower --lr"]
    if result.run.sam != "none":
        tries.insert(0, "a smaller --sam")
    return Finding("diverged", f"Diverged{at}{f': {message}' if message else ''}.", f"Try {' or '.join(tries)}.")


def few_seeds(seeds: int) -> Finding | None:
    """For a mean over ``seeds`` training runs."""
    if not 0 < seeds <= FEW_SEEDS:
        return None
    text = (
        "One seed says little: the spread between seeds is unknown."
        if seeds == 1
        else "Two seeds say little: Student's t over them is wide, ± 12.7 standard errors."
    )
    return Finding("few_seeds", text, "Take --seeds 3 or more.")


def _data(result: Result) -> Finding | None:
    share = metrics.data_share(result)
    if share is None or share <= MUCH_DATA:
        return None
    text = f"Making batches took {units.percent(share, 2)} of the training time: no time here is the net's alone."
    streams = result.resolved is not None and result.resolved.training is not None and result.resolved.training.workers
    return Finding("data", text, "Try more --workers." if streams else "A larger --batch makes fewer of them.")


def _unreadable(result: Result) -> Finding | None:
    count = result.value("unreadable_images")
    if not count:
        return None
    names = result.notes.get("unreadable")
    text = f"{count:.0f} image{'s'[: count != 1]} of the data could not be read{f': {names}' if names else ''}."
    return Finding("unreadable_images", text, "Download or copy the data again.")


def _shared(result: Result) -> Finding | None:
    said = result.notes.get("share")
    if not said:
        return None
    return Finding("shared_device", f"It had {said}: no time and no energy of it is the net's alone.", "")


def _resumed(result: Result) -> Finding | None:
    said = result.notes.get("resumed")
    if not said:
        return None
    text = f"Other software than that of this row had trained {said}."
    return Finding("resumed", text, "Train anew, in another --checkpoint folder, where that matters.")


def _deterministic(result: Result) -> Finding | None:
    cost = result.value("deterministic_cost")
    if cost is None or cost <= 1:
        return None
    text = f"--deterministic made an update take {units.significant(cost, 3)} times as long."
    return Finding("deterministic_cost", text, "Compare times without it.")


def _subset(result: Result) -> Finding | None:
    said = result.notes.get("data")
    return Finding("data_subset", f"Data: {said.rstrip('.')}.", "Not comparable with all of it.") if said else None


def _small(result: Result) -> Finding | None:
    dataset = result.run.dataset
    if dataset == "imagenet" or result.status != "ok":
        return None
    return Finding("small_data", f"Results on {dataset} do not carry over to ImageNet.", "")
