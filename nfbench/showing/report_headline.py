"""The answer in a sentence: the ratio that says most, else what is most accurate, else what there is."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench import units
from nfbench.analysis import compare
from nfbench.analysis.accuracy import norm_of
from nfbench.analysis.asked import said
from nfbench.analysis.claims import reduced
from nfbench.analysis.compare import Ratio
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.errors import UnknownModel
from nfbench.records import Result, StepTime, key
from nfbench.showing import accuracy as show_accuracy
from nfbench.showing import comparison
from nfbench.showing.report import clean
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
        return clean(sentence(ratio))
    machines = {r.machine for r in seen.results}
    if len(machines) == 1 and (best := show_accuracy.answer(show_accuracy.on_front(seen.trained, "macs"))):
        return clean(compare.on(machine, None, best[:1].lower() + best[1:].rstrip(".")))
    if claims:
        return clean(claims)
    counts = (
        (len(seen.steps), "step time"),
        (len(seen.trained), "training result"),
        (len(seen.clips), "clip"),
        (len(seen.counted), "count"),
    )
    found = [f"{n} {what}{'s'[: n != 1]}" for n, what in counts if n]
    if noisy := sum("noisy" in row for row in seen.steps):
        found[0] += f" ({noisy} noisy)"
    nets = len({r.workload.model for r in seen.results})
    text = f"{' and '.join(found) or 'nothing'} of {nets} net{'s'[: nets != 1]}, and no ratio measured in turns"
    return clean(compare.on(machine, None, text))


def doubts(seen: Shown) -> list[str]:
    """What is doubtful about the ratio in the `answer`."""
    if seen.results[-1].machine.device == "fake" or (ratio := headline(seen.ratios)) is None:
        return []
    return [clean(str(finding)) for finding in comparison.findings(ratio, ratio.net.sampling.within)]


def headline(ratios: Sequence[Ratio]) -> Ratio | None:
    """The ratio of a normalizer-free net to one with batch normalization that says most, the former on top.

    Batches and ranks that both sides share go before others; then NFNet-F1 to EfficientNet-B7, the paper's own; then
    what it reports of; full-size nets and images before small ones; a net with its own λ before one with another; of
    one pair the newest software; of equals one that is clear of 1, and then the one with the most turns.
    """
    turned = [found for ratio in ratios if (found := _normalizer_free_first(ratio)) is not None]

    newest: dict[tuple[str, str], str] = {}
    for ratio in turned:
        newest[_pair(ratio)] = max(_last(ratio), newest.get(_pair(ratio), ""))

    def rank(ratio: Ratio) -> tuple[bool | int, ...]:
        models = _models(ratio)
        uneven = len({(r.step.batch, r.step.world_size) for r in ratio[:2]}) > 1
        small = bool(reduced(*ratio[:2]))
        reported, own = published.ratios(*models), not _other_clip(ratio)
        older = _last(ratio) < newest[_pair(ratio)]
        return uneven, models != _PAIR, not reported, small, not own, older, not _clear(ratio), -ratio.turns

    return min(turned, key=rank, default=None)


def _pair(ratio: Ratio) -> tuple[str, str]:
    return key(ratio.net.workload), key(ratio.baseline.workload)


def _last(ratio: Ratio) -> str:
    return max(ratio.net.start, ratio.baseline.start)


def _other_clip(ratio: Ratio) -> str:
    """The λ of the normalizer-free net, "λ none", where it is not its own, at which the paper's clip."""
    return next((part for part in said(ratio.net.workload) if part.startswith("λ ") and part != _OWN), "")


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
    text += f" ({compare.circumstances(ratio, precision is None)})"
    return compare.on(ratio.net.machine, precision, text + _paper(ratio))


def _named(ratio: Ratio) -> tuple[str, str]:
    """The two nets as `compare.named` tells them, each also with a λ that both have and that is not its own."""
    names = []
    for name, result in zip(compare.named(ratio), ratio[:2], strict=True):
        own = "λ none" if _norm(result) == "batch" else _OWN
        clip = [part for part in said(result.workload) if part.startswith("λ ") and part != own]
        told = name.partition(" with ")[2].split(", ")
        more = ", ".join(part for part in clip if part not in told)
        names.append(f"{name}{', ' if told[0] else ' with '}{more}" if more else name)
    return names[0], names[1]


def _paper(ratio: Ratio) -> str:
    own = [r for r in compare.reported(ratio.net, ratio.baseline) if r.source.startswith(("Brock", published.PAPER))]
    places = {"TPUv3": "on TPUv3", "V100": "on V100"}
    told = {places.get(r.source.rpartition(" ")[2], "in its text"): units.significant(r.value) for r in own}
    # its figures come from measurements, its text from one of them
    ordered = sorted(told.items(), key=lambda found: found[0] == "in its text")
    if not ordered:
        return ""
    theirs = all(r.step.batch == 32 * r.step.world_size and _full(r) for r in (ratio.net, ratio.baseline))
    where = ", with its clip on" if _other_clip(ratio) else ""
    where += "" if theirs else ", at batch 32 a device and the px that each net trains at"
    return f"; the paper says {', '.join(f'{value} {place}' for place, value in ordered)}{where}"


def _full(result: Result) -> bool:
    try:
        return result.resolved is not None and result.resolved.px == find(result.workload.model).train_px
    except UnknownModel:
        return False


def _models(ratio: Ratio) -> tuple[str, str]:
    """The catalogue's names of both nets."""
    names = []
    for result in ratio[:2]:
        try:
            names.append(find(result.workload.model).name)
        except UnknownModel:
            names.append(result.workload.model)
    return names[0], names[1]


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
    own = norm_of(result.workload.model)
    return own if asked in ("auto", own) else None


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
