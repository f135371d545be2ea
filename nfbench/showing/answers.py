"""What a study answers: the tables on the screen, those that only some results make, and the last sentences.

Which of them there are follows from the results and from the figures that the study asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfbench import units
from nfbench.analysis import claims, sweeps, turn_ratios
from nfbench.analysis.claims import Verdict, reduced
from nfbench.analysis.rows import CLIP_BASELINE, Row, clip_shares, machine_names, quiet
from nfbench.analysis.training_runs import norm_of, on_front
from nfbench.analysis.turn_ratios import Ratio
from nfbench.catalog import published
from nfbench.catalog.models import find
from nfbench.errors import UnknownModel
from nfbench.records import Machine, Result, StepTime, key
from nfbench.settings import words_of
from nfbench.showing import claim_tables, comparison, sweep_tables, views
from nfbench.showing.figures.style import plain
from nfbench.showing.screen import say
from nfbench.showing.shown_rows import Shown, shown
from nfbench.showing.tables import Format, with_ends
from nfbench.studies.study import Study
from nfbench.units import shorten

CLAIMS = "claims"
"""The study whose results are judged claim by claim."""


def tables(found: Study, seen: Shown, format: Format) -> str:
    """The tables of what was found; as csv and json one, of what the study is about."""
    person = format in ("rich", "md")
    if found.name == CLAIMS:
        judged = verdicts(seen.results, seen.noisy)
        if not person:
            return claim_tables.table([v for each in judged for v in each], format)
        # a narrow terminal leaves scopes and reasons out of the table
        reasons = "".join(
            f"{v.claim.id}, {v.verdict}: {'; '.join(filter(None, (v.scope, v.why)))}\n"
            for each in judged
            for v in each
            if v.scope or v.why
        )
        parts = [claim_tables.table(each, format) for each in judged]
        return "\n".join([*parts, *([reasons] if format == "rich" else []), _rest(seen, format)])
    axes = swept(found, seen)
    if "batch" in axes and (person or "agc" not in axes):
        return sweep_tables.batch_sweep(sweeps.batch_sweep(seen.steps, seen.trained), format)
    if "agc" in axes:
        return sweep_tables.agc_sweep(sweeps.agc_sweep(seen.trained), format)
    return _rest(seen, format)


def of_runs(found: Study, seen: Shown) -> bool:
    """Whether `tables` has the table of training runs."""
    return bool(seen.trained) and not swept(found, seen)


def texts(results: Sequence[Result]) -> dict[str, str]:
    """The tables that are kept beside results, by file name: of each kind as CSV, raw and in SI units, and as Markdown,
    and those that only some have, of sweeps and of the claims with verdicts."""
    found = shown(results, everything=False)
    made: dict[str, str] = {}
    formats: tuple[Format, ...] = ("csv", "md")
    for format in formats:
        made |= {f"{name}.{format}": text for name, text in views.texts(found, format).items()}
        if several(found, "batch"):
            batches = sweeps.batch_sweep(found.steps, found.trained)
            made[f"batch-sweep.{format}"] = sweep_tables.batch_sweep(batches, format)
        if several(found, "agc", steps=False):
            made[f"agc-sweep.{format}"] = sweep_tables.agc_sweep(sweeps.agc_sweep(found.trained), format)
        judged = [r for r in found.results if r.study == CLAIMS]
        if judged:
            made[f"claims.{format}"] = _claims(judged, format)
    return made


def verdicts(results: Sequence[Result], noisy: bool = False) -> list[list[Verdict]]:
    """The verdict on each claim, of each machine on which the claims were measured: never over several, and of noisy
    steps only where ``noisy``."""
    machines = dict.fromkeys(r.machine for r in results if r.study == CLAIMS) or dict.fromkeys(
        r.machine for r in results
    )
    used = results if noisy else quiet(results)
    return [claims.judge([r for r in used if r.machine == machine]) for machine in machines]


def sentences(name: str, seen: Shown) -> list[str]:
    """The answers, one a line; noisy steps are in none, and where that leaves no ratio it is said."""
    noisy = list(dict.fromkeys(shorten(row["model"]) for row in seen.steps if "noisy" in row))
    seen = seen.quiet()
    if name == CLAIMS:
        return [claim_tables.summary(each) for each in verdicts(seen.results, seen.noisy)]
    machines = dict.fromkeys(ratio.net.machine for ratio in seen.measured)
    found = [turn_ratios.sentence([r for r in seen.measured if r.net.machine == machine]) for machine in machines]
    found += cost_of_clip(seen)
    # the sweeps of a batch or a threshold have a sentence of their own
    if several(seen._replace(steps=[]), "batch"):
        found += over_batches(seen)
    swept = several(seen, "batch") or several(seen, "agc", steps=False)
    if seen.trained and not swept and (answer := most_accurate(seen.trained) or _reached(seen)):
        found.append(answer)
    if not found and not swept:
        found += step_times(seen)
    if noisy and not seen.ratios:
        verb = "is" if len(noisy) == 1 else "are"
        how = " with --fresh, or add --noisy to use the rows anyway" if name else ""
        found.append(
            f"No answer about {', '.join(noisy)}, which {verb} too noisy: measure again on a quiet machine{how}."
        )
    return found


def say_answers(name: str, seen: Shown, format: Format) -> None:
    """Say the `sentences`, where a person reads them on standard output and above the table."""
    for line in sentences(name, seen):
        say(line, err=format not in ("rich", "md"))


def step_times(seen: Shown) -> list[str]:
    """What a step takes, in a sentence per machine: of each of few steps, else of the most and the least images/s."""
    answers = []
    for machine, name in _machines(seen):
        rows = [
            row for row in seen.steps if row.get("machine") == name and row["status"] == "ok" and "step_time" in row
        ]
        if not rows:
            continue
        labels = dict(zip(map(id, rows), sweeps.names(rows), strict=True))
        ends = rows if len(rows) <= _FEW_STEPS else [f(rows, key=_throughput) for f in (max, min)]
        texts = [
            f"{shorten(labels[id(row)])} takes {units.seconds_interval(*with_ends(row, 'step_time'))} per step of "
            f"{units.plural(row['batch'], 'image')}, {units.number(_throughput(row))} images/s"
            for row in ends
        ]
        of = "" if ends is rows else f"of {len(rows)} step times these have the most and the least images/s: "
        answers.append(turn_ratios.on(machine, None, of + "; ".join(texts)))
    return answers


def _throughput(row: Row) -> float:
    return float(row["batch"] / row["step_time"])


def _reached(seen: Shown) -> str:
    """The top-1 of the one net that was trained or evaluated; empty where there are several or none has one."""
    rows = [row for row in seen.trained if "top1" in row]
    machines = {r.machine for r in seen.results}
    if len(rows) != 1 or len(machines) != 1:
        return ""
    (row,), (machine,) = rows, machines
    top = units.share(*with_ends(row, "top1"))
    how = f"after {units.plural(row['epochs'], 'epoch')} of training" if row["epochs"] else "with its weights"
    return turn_ratios.on(machine, None, f"{row['model']} has a top-1 of {top} on {row['dataset']} {how}")


def most_accurate(runs: Sequence[Row]) -> str:
    """The nets that none beats for as few MACs in a sentence; empty where there is one net."""
    rows = on_front(runs, "macs")
    best = [row for row in rows if row.get("front")]
    if len({row["model"] for row in rows}) < 2 or not best or len({row["dataset"] for row in rows}) > 1:
        return ""
    named = ", ".join(
        f"{row['model']} ({units.share(*with_ends(row, 'top1'))} at {units.si(row['macs'], '')} MACs)" for row in best
    )
    dataset = rows[0]["dataset"]
    beyond = "" if dataset == "imagenet" else " That does not carry over to ImageNet."
    return f"On {dataset} no other net is as accurate with as few MACs as {named}.{_tuned(rows)}{beyond}"


def _tuned(rows: Sequence[Row]) -> str:
    """What was tuned of each net, in a sentence; empty where nothing was."""
    words = {"lr": "learning rate", "agc": "λ", "lr,agc": "learning rate (and λ, where a net clips)"}
    kinds = dict.fromkeys(row.get("tune", "none") for row in rows)
    if set(kinds) == {"none"}:
        return ""
    if len(kinds) > 1:
        return " They were not all tuned in the same way."
    return f" The {words[next(iter(kinds))]} of each net was tuned on held-out training images."


def _claims(results: Sequence[Result], format: Format) -> str:
    judged = verdicts(results)
    if format == "csv":
        return claim_tables.table([v for each in judged for v in each], format)
    return "\n".join(f"{claim_tables.summary(each)}\n\n{claim_tables.table(each, format)}" for each in judged)


def _rest(seen: Shown, format: Format) -> str:
    texts = views.texts(seen._replace(trained=on_front(seen.trained, "macs")), format)
    if format in ("rich", "md"):
        return "\n".join(texts.values())
    return next((texts[name] for name in ("accuracy", "counted", "clips", "steps") if name in texts), "")


def swept(found: Study, seen: Shown) -> list[str]:
    """What a study sweeps, told from the figures that it asks for."""
    asked = [axis for axis in ("batch", "agc") if any(kind.startswith(f"{axis}-") for kind in found.figures)]
    return [axis for axis in asked if seen.trained or (axis == "batch" and seen.steps)]


def several(seen: Shown, name: str, steps: bool = True) -> bool:
    """Whether one net was measured at several values of a setting."""
    return _most_values([*(seen.steps if steps else ()), *seen.trained], name) > 1


def _most_values(rows: Sequence[Row], name: str) -> int:
    """The most values of a setting that a net has."""
    models = units.grouped(rows, lambda row: str(row["model"]))
    return max((len({row.get(name) for row in alike}) for alike in models.values()), default=0)


_NAME = 60
"""Characters of a net."""
_FEW = 2
"""Thresholds of a net up to which it is no sweep of them: with the clip and without."""


def cost_of_clip(seen: Shown) -> list[str]:
    """Say for each machine what share of a step the quickest clip of each net takes, by batch, and how many times as
    long timm's loop takes."""
    found = []
    for machine, name in _machines(seen):
        rows = [row for row in seen.clips if row.get("machine") == name]
        steps = [row for row in clip_shares(seen.steps) if row.get("machine") == name]
        shares, loops = list[str](), list[str]()
        for net in dict.fromkeys(row["model"] for row in rows):
            own = [row for row in rows if row["model"] == net and row["impl"] != CLIP_BASELINE and "time" in row]
            if not own:
                continue
            impl = min(own, key=lambda row: (-row["clipped"], row["time"]))["impl"]
            shares += _shares(impl, net, [row for row in steps if row["model"] == net])
            loops += _loops(net, [row for row in own if row["impl"] == impl and "speedup" in row])
        parts = ["; ".join(shares), f"{CLIP_BASELINE}'s loop takes {'; '.join(loops)}" if loops else ""]
        if said := ". ".join(filter(None, parts)):
            found.append(turn_ratios.on(machine, None, said))
    return found


def _shares(impl: str, net: str, steps: Sequence[Row]) -> list[str]:
    """ "the clip by foreach is 4.2 % of nfnet-f0's step at batch 1 and 1.5 % at batch 4"."""
    own = sorted((row for row in steps if row.get("agc_impl") == impl), key=lambda row: int(row["batch"]))
    each = [f"{units.percent(row['share'], 2)} at batch {row['batch']}" for row in own]
    if not each:
        return []
    first, *others = [each[0].replace(" at", f" of {plain(net, _NAME)}'s step at", 1), *each[1:]]
    return [f"the clip by {impl} is {' and '.join([first, *others])}"]


def _loops(net: str, rows: Sequence[Row]) -> list[str]:
    """ "3.71 times as long on nfnet-f0 with 0 % of the units over their limit, 2.68 with 100 %"."""
    ordered = sorted(rows, key=lambda row: float(row["clipped"]))
    # between none and all it is between
    ends = ordered[:: max(1, len(ordered) - 1)]
    times = [units.interval(row["speedup"], None, None) for row in ends]
    limits = [units.percent(row["clipped"]) for row in ends]
    if not ends:
        return []
    first = f"{times[0]} times as long on {plain(net, _NAME)} with {limits[0]} of the units over their limit"
    return [", ".join([first, *(f"{time} with {limit}" for time, limit in zip(times[1:], limits[1:], strict=True))])]


def over_batches(seen: Shown) -> list[str]:
    """The top-1 of each net at its smallest and at its largest batch, and whether they differ: a line per machine
    and data set."""
    if _most_values(seen.trained, "agc") > _FEW:
        # that is a sweep of thresholds, which has an answer of its own
        return []
    lines: list[str] = []
    rows = [row for row in sweeps.batch_sweep([], seen.trained) if "batch" in row]
    for machine, name in _machines(seen):
        trained = [row for row in rows if row.get("machine") == name and "dataset" in row]
        for dataset, alike in units.grouped(trained, lambda row: str(row["dataset"])).items():
            nets = units.grouped(alike, lambda row: str(row["net"]))
            if parts := list(filter(None, map(_ends, nets.values()))):
                lines.append(turn_ratios.on(machine, None, f"top-1 on {plain(dataset, 40)} of {'; '.join(parts)}"))
    return lines


def _ends(rows: Sequence[Row]) -> str:
    """ "tiny-resnet: 91 ± 2 % at batch 4 and 74 ± 3 % at 32, which is lower"; empty of a single batch."""
    ordered = sorted(rows, key=lambda row: int(row["batch"]))
    small, large = ordered[0], ordered[-1]
    if small["batch"] == large["batch"]:
        return ""
    ends = f"{_top1(small)} at batch {small['batch']} and {_top1(large)} at {large['batch']}"
    return f"{plain(str(small['net']), _NAME)}: {ends}{_apart(small, large)}"


def _top1(row: Row) -> str:
    """The cell of a table, worded for a sentence: "35 ± 26 % (1 of 5 diverged)"."""
    aside, _, value = sweeps.top1(row).rpartition("; ")
    value = value.replace("diverged at", "diverged at update")
    return f"{value} ({aside})" if aside else value


def _apart(small: Row, large: Row) -> str:
    if not all(key in row for row in (small, large) for key in ("top1_low", "top1_high")):
        return ""
    if large["top1_high"] < small["top1_low"]:
        return ", which is lower"
    return ", which is higher" if large["top1_low"] > small["top1_high"] else ", not told apart"


def _machines(seen: Shown) -> Iterator[tuple[Machine, str]]:
    """Each machine with the name that its rows bear."""
    yield from machine_names(r.machine for r in seen.results).items()


FAKE = "These are figures of the fake device, which times nothing."
_FEW_STEPS = 3
"""Step times up to which a sentence names each."""
_PAIR = ("nfnet-f1", "efficientnet-b7")
_OWN = "λ 0.01"
"""What `auto` is for a net without normalization."""
_SPELT = {"nfnet": "NFNet", "efficientnet": "EfficientNet", "nf": "NF", "bn": "BN", "resnet": "ResNet"}


def answer(seen: Shown, claims: str = "") -> str:
    """The answer of what was ``seen`` on one device; ``claims`` is the verdicts' summary, which stands in for one."""
    machine = seen.results[-1].machine
    if machine.device == "fake":
        return FAKE
    if (ratio := headline(seen.measured)) is not None:
        return sentence(ratio)
    machines = {r.machine for r in seen.results}
    if len(machines) == 1 and (best := most_accurate(seen.trained)):
        return turn_ratios.on(machine, None, best[:1].lower() + best[1:].rstrip("."))
    if claims:
        return claims
    if times := step_times(seen.quiet()):
        return times[0]
    rows = {"step time": seen.steps, "training result": seen.trained, "clip": seen.clips, "count": seen.counted}
    counts = [units.plural(len(of), what) for what, of in rows.items() if of]
    if noisy := sum("noisy" in row for row in seen.steps):
        counts[0] += f" ({noisy} noisy)"
    nets = len({r.workload.model for r in seen.results})
    text = f"{' and '.join(counts) or 'nothing'} of {units.plural(nets, 'net')}, and no ratio measured in turns"
    return turn_ratios.on(machine, None, text)


def doubts(seen: Shown) -> list[str]:
    """What is doubtful about the ratio in the `answer`."""
    if seen.results[-1].machine.device == "fake" or (ratio := headline(seen.measured)) is None:
        return []
    return list(map(str, comparison.findings(ratio, ratio.net.sampling.within)))


def headline(ratios: Sequence[Ratio]) -> Ratio | None:
    """The ratio that says most of those between a normalizer-free net and one with batch normalization, as measured.

    Batches and ranks that both sides share go before others; then NFNet-F1 to EfficientNet-B7, the paper's own; then
    what it reports of; full-size nets and images before small ones; a net with its own λ before one with another; of
    one pair the newest software; of equals one that is clear of 1, and then the one with the most turns.
    """
    of_both = [r for r in ratios if {_norm(r.net), _norm(r.baseline)} == {"none", "batch"}]

    def pair(ratio: Ratio) -> tuple[str, str]:
        return key(ratio.net.workload), key(ratio.baseline.workload)

    def last(ratio: Ratio) -> str:
        return max(ratio.net.start, ratio.baseline.start)

    newest = {pair(ratio): last(ratio) for ratio in sorted(of_both, key=last)}

    def rank(ratio: Ratio) -> tuple[bool | int, ...]:
        models = [turn_ratios.catalogued(r.workload.model) for r in ratio[:2]]
        return (
            len({(r.step.batch, r.step.world_size) for r in ratio[:2]}) > 1,
            set(models) != set(_PAIR),
            not published.ratios(*models),
            bool(reduced(*ratio[:2])),
            bool(_other_clip(ratio)),
            last(ratio) < newest[pair(ratio)],
            not _clear(ratio),
            -ratio.turns,
        )

    return min(of_both, key=rank, default=None)


def _other_clip(ratio: Ratio) -> str:
    """The λ of the normalizer-free net, "λ none", where it is not its own, at which the paper's clip."""
    free = ratio.net if _norm(ratio.net) == "none" else ratio.baseline
    return next((part for part in words_of(free.workload) if part.startswith("λ ") and part != _OWN), "")


def _clear(ratio: Ratio) -> bool:
    """Whether the whole interval is on one side of 1."""
    _, low, high = ratio.speedup
    return low is not None and high is not None and not low <= 1 <= high


def sentence(ratio: Ratio) -> str:
    """ "On NVIDIA H200, bf16: NFNet-F1 is 5.2 ± 0.1 times as fast as EfficientNet-B7 (…); the paper says 8.81 on
    TPUv3"."""
    precisions = {r.resolved.precision for r in (ratio.net, ratio.baseline) if r.resolved is not None}
    precision = precisions.pop() if len(precisions) == 1 else None
    text = turn_ratios.compared(ratio, *map(spelt, _named(ratio)))
    text += f" ({turn_ratios.circumstances(ratio, precision is None)})"
    return turn_ratios.on(ratio.net.machine, precision, text + _paper(ratio))


def _named(ratio: Ratio) -> tuple[str, str]:
    """The two nets as `turn_ratios.named` tells them, each also with a λ that both have and that is not its own."""
    names = []
    for name, result in zip(turn_ratios.named(ratio), ratio[:2], strict=True):
        own = "λ none" if _norm(result) == "batch" else _OWN
        settings = name.partition(" with ")[2].split(", ")
        clip = [s for s in words_of(result.workload) if s.startswith("λ ") and s != own and s not in settings]
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
    where += "" if theirs else ", at batch 32 per device and the px that each net trains at"
    return f"; the paper says {', '.join(f'{values[place]} {place}' for place in ordered)}{where}"


def _full(result: Result) -> bool:
    try:
        return result.resolved is not None and result.resolved.px == find(result.workload.model).train_px
    except UnknownModel:
        return False


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
