"""The answer in a sentence: the ratio that says most, else what is most accurate, else what there is."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import turn_ratios
from nfbench.analysis.claims import reduced
from nfbench.analysis.rows import settings_in_words
from nfbench.analysis.training_runs import norm_of
from nfbench.analysis.turn_ratios import Ratio
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.errors import UnknownModel
from nfbench.records import Result, StepTime, key
from nfbench.showing import accuracy as show_accuracy
from nfbench.showing import comparison
from nfbench.showing.study import Shown

FAKE = "These are figures of the fake device, which times nothing."
_PAIR = ("nfnet-f1", "efficientnet-b7")
_OWN = "λ 0.01"
"""What `auto` is for a net without normalization."""
_SPELT = {"nfnet": "NFNet", "efficientnet": "EfficientNet", "nf": "NF", "bn": "BN", "resnet": "ResNet"}


def answer(seen: Shown, claims: str = "") -> str:
    """The answer of what was ``seen`` on one device; ``claims`` is the verdicts' summary, which stands in for one."""
    machine = seen.results[-1].machine
    if machine.device == "fake":
        return FAKE
    if (ratio := headline(seen.ratios)) is not None:
        return sentence(ratio)
    machines = {r.machine for r in seen.results}
    if len(machines) == 1 and (best := show_accuracy.answer(show_accuracy.on_front(seen.trained, "macs"))):
        return turn_ratios.on(machine, None, best[:1].lower() + best[1:].rstrip("."))
    if claims:
        return claims
    rows = {"step time": seen.steps, "training result": seen.trained, "clip": seen.clips, "count": seen.counted}
    counts = [f"{len(of)} {what}{'s'[: len(of) != 1]}" for what, of in rows.items() if of]
    if noisy := sum("noisy" in row for row in seen.steps):
        counts[0] += f" ({noisy} noisy)"
    nets = len({r.workload.model for r in seen.results})
    text = f"{' and '.join(counts) or 'nothing'} of {nets} net{'s'[: nets != 1]}, and no ratio measured in turns"
    return turn_ratios.on(machine, None, text)


def doubts(seen: Shown) -> list[str]:
    """What is doubtful about the ratio in the `answer`."""
    if seen.results[-1].machine.device == "fake" or (ratio := headline(seen.ratios)) is None:
        return []
    return list(map(str, comparison.findings(ratio, ratio.net.sampling.within)))


def headline(ratios: Sequence[Ratio]) -> Ratio | None:
    """The ratio of a normalizer-free net to one with batch normalization that says most, the former on top.

    Batches and ranks that both sides share go before others; then NFNet-F1 to EfficientNet-B7, the paper's own; then
    what it reports of; full-size nets and images before small ones; a net with its own λ before one with another; of
    one pair the newest software; of equals one that is clear of 1, and then the one with the most turns.
    """
    turned = [ratio for ratio in map(_normalizer_free_first, ratios) if ratio is not None]

    def pair(ratio: Ratio) -> tuple[str, str]:
        return key(ratio.net.workload), key(ratio.baseline.workload)

    def last(ratio: Ratio) -> str:
        return max(ratio.net.start, ratio.baseline.start)

    newest = {pair(ratio): last(ratio) for ratio in sorted(turned, key=last)}

    def rank(ratio: Ratio) -> tuple[bool | int, ...]:
        models = turn_ratios.catalogued(ratio.net.workload.model), turn_ratios.catalogued(ratio.baseline.workload.model)
        return (
            len({(r.step.batch, r.step.world_size) for r in ratio[:2]}) > 1,
            models != _PAIR,
            not published.ratios(*models),
            bool(reduced(*ratio[:2])),
            bool(_other_clip(ratio)),
            last(ratio) < newest[pair(ratio)],
            not _clear(ratio),
            -ratio.turns,
        )

    return min(turned, key=rank, default=None)


def _other_clip(ratio: Ratio) -> str:
    """The λ of the normalizer-free net, "λ none", where it is not its own, at which the paper's clip."""
    return next((part for part in settings_in_words(ratio.net.workload) if part.startswith("λ ") and part != _OWN), "")


def _clear(ratio: Ratio) -> bool:
    """Whether the whole interval is on one side of 1."""
    _, low, high = ratio.speedup
    return low is not None and high is not None and not low <= 1 <= high


def sentence(ratio: Ratio) -> str:
    """ "On NVIDIA H200, bf16: NFNet-F1 trains 5.2 ± 0.1 times as fast as EfficientNet-B7 (…); the paper says 8.81 on
    TPUv3". Of an interval that reaches over 1 it names neither net as the faster one."""
    precisions = {r.resolved.precision for r in (ratio.net, ratio.baseline) if r.resolved is not None}
    precision = precisions.pop() if len(precisions) == 1 else None
    shown = units.interval(*ratio.speedup)
    # a step of one batch against a step of another is no speed
    images = ratio.net.step.batch == ratio.baseline.step.batch
    net, baseline = (spelt(name) for name in _named(ratio))
    if ratio.no_interval:
        text = f"{net} against {baseline}: {shown} times as fast, without an interval"
    elif ratio.open:
        does = "trains" if images else "takes steps"
        text = f"cannot tell which {does} faster, {net} or {baseline}: {shown} times"
    elif not _clear(ratio):
        does = "train" if images else "take steps"
        text = f"{net} and {baseline} {does} about equally fast, {shown} times"
    else:
        does = "trains {} times as fast as" if images else "takes steps {} times as fast as those of"
        text = f"{net} {does.format(shown)} {baseline}"
    text += f" ({turn_ratios.circumstances(ratio, precision is None)})"
    return turn_ratios.on(ratio.net.machine, precision, text + _paper(ratio))


def _named(ratio: Ratio) -> tuple[str, str]:
    """The two nets as `turn_ratios.named` tells them, each also with a λ that both have and that is not its own."""
    names = []
    for name, result in zip(turn_ratios.named(ratio), ratio[:2], strict=True):
        own = "λ none" if _norm(result) == "batch" else _OWN
        settings = name.partition(" with ")[2].split(", ")
        clip = [s for s in settings_in_words(result.workload) if s.startswith("λ ") and s != own and s not in settings]
        more = ", ".join(clip)
        names.append(f"{name}{', ' if settings[0] else ' with '}{more}" if more else name)
    return names[0], names[1]


def _paper(ratio: Ratio) -> str:
    """What the paper says about the same pair, and where its step was another."""
    reported = turn_ratios.reported(ratio.net, ratio.baseline)
    places = {"TPUv3": "on TPUv3", "V100": "on V100"}
    values = {
        places.get(r.source.rpartition(" ")[2], "in its text"): units.significant(r.value)
        for r in reported
        if r.source.startswith(("Brock", published.PAPER))
    }
    if not values:
        return ""
    # its figures come from measurements, its text from one of them
    ordered = sorted(values, key=lambda place: place == "in its text")
    theirs = all(r.step.batch == 32 * r.step.world_size and _full(r) for r in (ratio.net, ratio.baseline))
    where = ", with its clip on" if _other_clip(ratio) else ""
    where += "" if theirs else ", at batch 32 a device and the px that each net trains at"
    return f"; the paper says {', '.join(f'{values[place]} {place}' for place in ordered)}{where}"


def _full(result: Result) -> bool:
    try:
        return result.resolved is not None and result.resolved.px == find(result.workload.model).train_px
    except UnknownModel:
        return False


def _normalizer_free_first(ratio: Ratio) -> Ratio | None:
    norms = [_norm(r) for r in (ratio.net, ratio.baseline)]
    if norms == ["none", "batch"]:
        return ratio
    if norms == ["batch", "none"]:
        return ratio._replace(net=ratio.baseline, baseline=ratio.net, estimate=ratio.speedup)
    return None


def _norm(result: Result) -> str | None:
    """What a net normalizes with; None where that is not known to be its own."""
    asked = result.workload.norm if isinstance(result.workload, StepTime) else "auto"
    built = norm_of(result.workload.model)
    return built if asked in ("auto", built) else None


def spelt(model: str) -> str:
    """A net as its authors write it: "nfnet-f1" → "NFNet-F1"; a name that is not the catalogue's stays."""
    name, _, rest = model.partition(" ")
    try:
        find(name)
    except UnknownModel:
        return model
    parts = []
    for part in name.split("-"):
        word = part.rstrip("0123456789")
        short = len(part) == 2 and part[1].isdigit()
        parts.append(_SPELT[word] + part[len(word) :] if word in _SPELT else part.upper() if short else part)
    return "-".join(parts) + (f" {rest}" if rest else "")
