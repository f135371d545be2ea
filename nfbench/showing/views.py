"""Every table: `VIEWS` tells of each its columns, what stands above it, what its CSV holds and what is said below it.

What is measured has its title and its form from `METRICS`, and a setting from `SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from nfbench import units
from nfbench.analysis import training_runs
from nfbench.analysis.gate import COUNTS
from nfbench.analysis.metrics import LEGENDS, METRICS, keys
from nfbench.analysis.query import grouped, is_number, ordered, values
from nfbench.analysis.relative import KEYS
from nfbench.analysis.rows import Row, clip_shares
from nfbench.analysis.turn_ratios import FEW_ROUNDS
from nfbench.catalog.published import PAPER
from nfbench.records import Accuracy, Resolved, StepTime
from nfbench.settings import BY_NAME, SAM, beside_models, in_words, settings_of
from nfbench.showing import tables
from nfbench.showing.shown_rows import Shown
from nfbench.showing.tables import Column, Format, Laid, of_settings, telling, upright, with_ends
from nfbench.units import ABSENT, LONGEST, shorten

# columns


def _words(*names: str, spare: int = 0) -> dict[str, Column]:
    """Columns of words, which have their keys for titles."""
    return {name: Column(name, name.replace("_", " "), right=False, spare=spare) for name in names}


def _measured(kind: str) -> dict[str, Column]:
    """The columns of what is measured of a kind of row."""
    return {m.key: Column(m.key, m.title, m.show, True, m.spare, m.interval) for m in METRICS[kind]}


def step_time(row: tables.Row) -> str:
    """The step time as '12.3 ms ± 0.4 %', with 'composed' and 'noisy' where it is."""
    text = units.seconds_interval(*with_ends(row, "step_time"))
    return text + "".join(f" ({word})" for word in ("composed", "noisy") if row.get(word) and text != ABSENT)


def _times(row: tables.Row) -> str:
    """How many times as fast, with the interval or why there is none."""
    value, low, high = with_ends(row, "speedup")
    few = "" if low is not None else f" ({FEW_ROUNDS})"
    return ABSENT if value is None else f"{units.ratio(value, low, high)}{few}"


def _time_to(row: tables.Row, name: str) -> str:
    """The time until a target; how many seeds have reached it where not all have, and whose it is."""
    if (reached := row.get(f"reached_{name}")) is None:
        return ABSENT
    cut = any(word in row["status"] for word in ("timeout", "interrupted"))
    otherwise = f"{reached} of {row['runs']} seeds" if reached else "cut off before" if cut else "never"
    text = units.seconds_interval(*with_ends(row, f"time_to_{name}")) if f"time_to_{name}" in row else otherwise
    return f"{row['bn_model']}: {text}" if name == "bn" else text


def _ratio(row: tables.Row, column: Column) -> str:
    """A value against the baseline's, with a sign where batch or px are not the same."""
    value, low, high = with_ends(row, column.key)
    memory = f" ({row['memory_of']})" if column.key == "memory_ratio" and value is not None else ""
    return ABSENT if value is None else f"{column.show(value, low, high)}{memory}{_unequal(row)}"


def _unequal(row: tables.Row) -> str:
    return f" {UNEQUAL}" if any(part.startswith(_WORKLOAD) for part in str(row.get("differs", "")).split("; ")) else ""


def _how(row: tables.Row) -> str:
    return f"{row['how']} ({row['turns']})" if row.get("how") == "in turns" else row.get("how", ABSENT)


def _reported(row: tables.Row) -> str:
    return str(row.get("reported_ratios", ABSENT)).replace(f"{PAPER}, ", "")


def _differs(row: tables.Row) -> str:
    parts = [part for part in row.get("differs", "").split("; ") if part]
    if any(part.startswith("norm ") for part in parts) and row["model"] != row.get("baseline_model"):
        # that one net is normalized and clipped otherwise is what they are compared for
        parts = [part for part in parts if not part.startswith(_EXPECTED)]
    return "; ".join(parts) or ABSENT


_EXPECTED = ("norm ", "agc λ ", "clip by ")
"""Settings in which nets of different kinds differ because they are of different kinds."""
_WORKLOAD = ("batch ", "px ")
"""Settings that make a step another one: what differs in them is no speed of a net."""
UNEQUAL = "≠"

_ABOUT = {
    **_words("kind", "model", "family", "dataset", "device", "machine", "status", "message", "noisy", "composed"),
    **_words("stopped_by", "study", "start", "findings", "net", "baseline", "settings", "reported"),
    **_words("software", spare=10),
    "rounds": Column("rounds", "rounds", spare=5),
    "turns": Column("turns", "turns", spare=5),
    "steps": Column("steps", "steps timed", "{:,.0f}".format),
}
"""What rows are of, and how they came about."""
SETTINGS = of_settings(settings_of(StepTime, Resolved))
"""Those of a timed step, as asked and after them how it was done."""
_STEPS = {**_ABOUT, **{c.key: c for c in SETTINGS}, **_measured("step-time")}
_STEPS["step_time"] = replace(_STEPS["step_time"], cell=step_time)
_RUNS = {**_ABOUT, **{c.key: c for c in of_settings(settings_of(Accuracy))}, **_measured("accuracy")}
_RUNS |= {
    "lr": Column("lr", "lr", "{:.3g}".format, spare=4),
    "epochs": Column("epochs", "epochs"),
    "front": replace(_RUNS["front"], right=False, absent=""),
    "time_to_target": replace(_RUNS["time_to_target"], cell=partial(_time_to, name="target")),
    "time_to_bn": replace(_RUNS["time_to_bn"], right=False, cell=partial(_time_to, name="bn")),
    "diverged_at": replace(_RUNS["diverged_at"], show=lambda at: ", ".join(map(str, at))),
}
_EPOCHS = {
    **_RUNS,
    **{key: replace(_RUNS[key], spare=spare) for key, spare in (("gap", 0), ("throughput", 2), ("runs", 0))},
    "epoch": Column("epoch", "epoch"),
    "data_share": Column("data_share", "data", partial(units.percent, digits=2), spare=5),
    **_measured("epoch"),
}
_CLIPS = {
    **_STEPS,
    **_measured("agc-cost"),
    "clipped": Column("clipped", "over the limit", units.percent),
    "impl": Column("impl", "clip by", right=False),
}
_CLIP_STEPS = {
    **_STEPS,
    "px": Column("px", "px", spare=2),
    "step_time": Column("step_time", "step time", units.seconds),
    "agc_impl": Column("agc_impl", "clip by", right=False),
    "clip": Column("clip", "clip", units.seconds),
    "share": Column("share", "clip's share", units.percent),
    "clipped_units": Column("clipped_units", "units clipped", units.percent, spare=3),
}
_RATIOS = {
    **_ABOUT,
    "speedup": Column("speedup", "times as fast", cell=_times),
    "turns": Column("turns", "turns", spare=3),
    "rounds": Column("rounds", "rounds", spare=2),
}
_RELATIVE = {
    key: replace(column, cell=partial(_ratio, column=column)) if key.endswith(("_ratio", "_difference")) else column
    for key, column in _measured("baseline").items()
} | {
    "model": Column("model", "net", right=False, cell=itemgetter("net")),
    "machine": Column("machine", "machine", shorten, right=False),
    "differs": Column("differs", "differs in", right=False, cell=_differs),
    "how": Column("how", "how", right=False, cell=_how),
    "reported_ratios": Column("reported_ratios", "reported", right=False, spare=2, cell=_reported),
}


def _taken(columns: Mapping[str, Column], text: str) -> list[Column]:
    return [columns[name] for name in text.split()]


# what each table shows


class View(NamedTuple):
    """A table: how rows are laid out for a person, the keys of its CSV and JSON, and what is said below it.

    Without keys these are all that rows have.
    """

    lay: Callable[[Sequence[Row]], Laid]
    raw: Sequence[str] = ()
    legend: Callable[[Sequence[Row]], list[str]] = lambda rows: []


def _table(
    columns: Sequence[Column], always: Collection[str] = (), title: str | None = None
) -> Callable[[Sequence[Row]], Laid]:
    """A table of those of ``columns`` that tell something, and of ``always``."""
    return lambda rows: Laid(telling(columns, rows, always), rows, title)


_ALWAYS = "px batch micro_batch precision layout agc"
_FOLLOWING = ("standardize", "optimizer_impl", "tf32", "cudnn_benchmark", "allocator", "threads")
"""Settings that follow from others, or from the machine."""
_WHERE_THEY_DIFFER = [c.key for c in SETTINGS if c.key not in (*_ALWAYS.split(), *_FOLLOWING)]
_OF_STEPS = _taken(
    _STEPS,
    f"model {_ALWAYS} {' '.join(_WHERE_THEY_DIFFER)} step_time throughput clip peak_allocated peak_rss mfu "
    "image_energy rounds turns status machine software",
)
_OUTCOME = "status noisy rounds turns steps composed stopped_by machine software study start findings"
STEP_KEYS = ("model", *(c.key for c in SETTINGS), *keys("step-time"), *_OUTCOME.split())


def _steps(rows: Sequence[Row]) -> Laid:
    hidden = {key for key in _WHERE_THEY_DIFFER if not _differ(rows, key)}
    hidden |= set() if any(map(accumulates, rows)) else {"micro_batch"}
    return Laid(telling([c for c in _OF_STEPS if c.key not in hidden], rows, ("step_time", "status")), rows)


def accumulates(row: tables.Row) -> bool:
    """Whether an update has several passes."""
    return bool(row.get("accumulation_steps", 1) > 1)


_TITLED = ("dataset", "px", "batch", "epochs")
"""Where all training runs are equal in one of these, it stands above the table instead of in a column."""
_COLUMNS = ("dataset", "px", "batch", "epochs", "lr", "agc")
_TELLING = [s.name for s in settings_of(Accuracy) if s.name not in _COLUMNS]
"""Settings of a training run that are shown only where they tell rows apart."""
_OF_RUNS = _taken(
    _RUNS,
    f"front model {' '.join(_COLUMNS)} {' '.join(_TELLING)} seeds top1 top5 best_top1 ema_top1 gap macs params "
    "train_step_time image_energy training_flops wall_time throughput time_to_target updates_to_target "
    "images_to_target time_to_bn machine software status diverged_at",
)
_ASKED = f"""
kind model family dataset px test_px batch micro_batch epochs recipe optimizer lr schedule warmup_epochs decay_epochs
decay_rate alpha eps momentum weight_decay label_smoothing augment randaugment_layers randaugment_magnitude mixup cutmix
drop_rate drop_path agc agc_impl ema {" ".join(SAM)} precision layout compile norm weights deterministic
classes train_images test_images interpolation crop_pct crop_mode workers standardize optimizer_impl tf32
cudnn_benchmark allocator threads world_size broadcast_buffers backend nodes status
"""
RUN_KEYS = (
    *_ASKED.split(),
    *keys("accuracy"),
    *("device", "machine", "software", "study", "start", "findings"),
    *(setting.name for setting in settings_of(Accuracy)),
)


def _runs(rows: Sequence[Row]) -> Laid:
    above = [key for key in _TITLED if rows and not _differ(rows, key)]
    hidden = {*above, *(key for key in _TELLING if not _tells_apart(rows, key))}
    if not any("front" in row for row in rows):
        hidden |= {key for key, _ in training_runs.COSTS.values()}
    if all(row["epochs"] for row in rows):
        hidden.add("top5")
    columns = telling([c for c in _OF_RUNS if c.key not in hidden], rows, ("top1",))
    target = next((units.percent(row["target"]) for row in rows if "target" in row), "")
    columns = [replace(c, title=c.title.replace("target", target)) for c in columns]
    return Laid(columns, rows, _title(rows[0], above) if rows else None)


def _title(row: Row, above: Sequence[str]) -> str:
    parts = in_words(row, (key for key in above if key in row and (key != "epochs" or row[key])))
    what = "Evaluation" if "epochs" in above and not row["epochs"] else "Training"
    return f"{what}: {', '.join(parts)}" if parts else f"{what} runs"


def _tells_apart(rows: Sequence[Row], key: str) -> bool:
    """Whether a setting tells rows apart that nothing else does."""
    if key == "norm":
        return any(row.get("norm") != training_runs.norm_of(row["model"]) for row in rows)
    if key == "test_px":
        return _differ(rows, key) or any(row.get(key) != row.get("px") for row in rows)
    if key == "agc_impl" or BY_NAME[key].part_of == "world_size":
        # an evaluation has none
        return _differ([row for row in rows if key in row], key)
    return any(_differ(alike, key) for alike in grouped(rows, BY_NAME[key].settled_by))


def _differ(rows: Sequence[Row], key: str) -> bool:
    return len({row.get(key) for row in rows}) > 1


def _about_runs(rows: Sequence[Row]) -> list[str]:
    return [text for key, text in LEGENDS.items() if any(key in row for row in rows)]


_OF_EPOCHS = _taken(
    _EPOCHS,
    "epoch runs learning_rate train_loss test_loss top1 top5 ema_top1 batch_top1 gap gradient_norm "
    "clipped_gradient_norm clipped_units throughput data_share energy",
)


def _epochs(rows: Sequence[Row]) -> Laid:
    runs = max((row["runs"] for row in rows), default=1)
    columns = [c for c in telling(_OF_EPOCHS, rows) if c.key != "runs" or _differ(rows, "runs")]
    return Laid(columns, rows, f"Each epoch, means of {runs} runs" if runs > 1 else None)


_OF_CLIPS = _taken(
    _CLIPS, "model clipped impl time host_time speedup launches operators bandwidth floor over_floor machine status"
)
_OF_CLIP_STEPS = _taken(
    _CLIP_STEPS, "model batch px precision agc_impl step_time clip share clipped_units machine status"
)
CLIP_KEYS = (
    *("kind", "model", "layout", "clipped", "clipped_units", "units", "impl", "agc_impl", "batch", "px", "precision"),
    *keys("agc-cost"),
    *("step_time", "clip", "share", "turns", "status", "message", "machine", "software"),
)


def _about_clips(rows: Sequence[Row]) -> list[str]:
    copied = units.grouped((row for row in rows if "copy_bandwidth" in row), lambda row: str(row["machine"]))
    rates = {machine: [row["copy_bandwidth"] for row in alike] for machine, alike in copied.items()}
    lines = ["± is half of the 95 % interval over turns, within this run; a ratio of one process has none."]
    for machine, measured in rates.items():
        low, high = (units.si(end, "B/s") for end in (min(measured), max(measured)))
        lines.append(
            f"Floor: W, G and what is clipped of G again, at the {low if low == high else f'{low} to {high}'} "
            f"that a copy reached in the same turns{f' on {machine}' if len(rates) > 1 else ''}."
        )
    return lines if rows else []


_OF_RATIOS = _taken(_RATIOS, "net baseline settings speedup turns rounds reported machine")
RATIO_KEYS = (
    *("net", "baseline", "settings", "turns", "rounds", "reported", "speedup", "speedup_low", "speedup_high"),
    *("machine", "software"),
)
_FIRST, _LAST = ("kind", "model", "px", "batch", "agc", "status"), ("machine", "software")
_MACS = {"macs": "MACs", "train_macs": "MACs, training", "params": "params", "activations": "activations"}
_CHANGED = {
    "batch": "images of the batch",
    "agc": "λ asked for",
    "clipping": "λ of the clip",
    "output_rest_changed": "change of an image's output when the rest of its batch changes",
    "output_evaluation_others": "change of an image's output in evaluation when the running statistics change",
    "output_rounding": "change of an image's output by rounding",
    "share_rest_changed_no_agc": "change of its part of the update, without AGC, when the rest changes",
    "share_rounding_no_agc": "change of its part of the update, without AGC, by rounding",
    "share_rest_changed_agc": "change of its part of the update, with AGC, when the rest changes",
    "share_rounding_agc": "change of its part of the update, with AGC, by rounding",
    "clipped_units": "share of units that AGC shortens",
}
"""What a setting or a reading of dependence is, to a person."""
CHANGES = "Changes are relative: 0.01 is 1 %. A change as small as that by rounding is none."


def _count_keys(rows: Sequence[Row]) -> list[str]:
    """Each key that a row has: the settings first, where it was counted last."""
    names = dict.fromkeys(name for row in rows for name in row)
    read = [name for name in names if name not in (*_FIRST, *_LAST, "family")]
    return [*(name for name in _FIRST if name in names), *read, *(name for name in _LAST if name in names)]


def _counts(rows: Sequence[Row]) -> Laid:
    def column(name: str) -> Column:
        if name in _FIRST:
            return Column(name, name, right=name not in ("kind", "model", "status"))
        if name in _MACS:
            return Column(name, _MACS[name], units.counted)
        return Column(name, name.replace("_", " "), _small)

    return Laid([column(name) for name in _count_keys(rows) if name not in _LAST], rows)


def _dependences(rows: Sequence[Row]) -> Laid:
    """A net across, a quantity down: there are more of these than a screen is wide."""

    def cell(row: tables.Row, name: str) -> str:
        value = row.get(name, ABSENT)
        return _small(value) if isinstance(value, float) else str(value)

    failed = any(row["status"] != "ok" for row in rows)
    names = [n for n in _count_keys(rows) if n not in ("kind", "model", *_LAST) and (n != "status" or failed)]
    lines = [(_CHANGED.get(name, name.replace("_", " ")), partial(cell, name=name)) for name in names]
    return upright("dependence", [row["model"] for row in rows], lines, rows)


def _small(value: float) -> str:
    return units.significant(value, 3) if abs(value) >= 1e-3 or not value else f"{value:.1e}"


_AGAINST = {
    "step-time": "model step_time step_time_ratio differs how reported_ratios throughput_ratio memory_ratio "
    "image_energy_ratio machine status",
    "accuracy": "model top1 top1_difference differs how train_step_time_ratio throughput_ratio image_energy_ratio "
    "machine status",
}
_UNBROKEN = 32
"""Up to so many characters a net stands in one line on a narrow terminal, as ``model`` does."""


def _against(rows: Sequence[Row]) -> Laid:
    """A line each of rows of one kind: its ratios to the baseline's row, how they were measured, what differs."""
    kind = rows[0]["kind"]
    named = [{**row, "net": name} for row, name in zip(rows, _names(rows), strict=True)]
    shown = telling(_taken({**(_STEPS if kind == "step-time" else _RUNS), **_RELATIVE}, _AGAINST[kind]), named)
    bases = dict.fromkeys(shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row)
    whose = f"{next(iter(bases))}'s" if len(bases) == 1 else "baseline's"
    shown = [replace(c, title=c.title.replace("baseline's", whose)) for c in shown]
    if max(len(row["net"]) for row in named) > _UNBROKEN:
        shown[0] = replace(shown[0], key="net")
    return Laid(shown, named)


def _names(rows: Sequence[Row]) -> list[str]:
    """The model of each, with as many of its settings as tell the rows of that model apart."""
    # of the software nfbench's version alone
    parts = [
        [str(row["model"]), *(word.partition(",")[0] for word in words)]
        for row, words in zip(rows, beside_models(rows), strict=True)
    ]
    return [", ".join(map(shorten, each)) for each in parts]


def _about_ratios(rows: Sequence[Row]) -> list[str]:
    hows = {row.get("how") for row in rows}
    base = next((shorten(str(row["baseline_model"])) for row in rows if "baseline_model" in row), "")
    without = sum("baseline_model" not in row for row in rows)
    apart = any(row.get("how") == "separate runs" and row["kind"] == "step-time" for row in rows)
    sentences = {
        f"{without} of {len(rows)} rows have no ratio: there is no such baseline of their kind, machine and data "
        "set.": without > 0,
        f"×: the row's over that of {base}.": bool(base),
        f"{UNEQUAL}: of another batch or px than the baseline's row, so the ratio is not of the nets alone.": any(
            map(_unequal, rows)
        ),
        "reported: at the train px of each and batch 32 per device.": any("reported_ratios" in row for row in rows),
        "in turns: both took turns in the same rounds; ± is 95 % over rounds of fresh processes.": "in turns" in hows,
        "separate runs: timed apart, so what changed between is in the ratio; `nfbench compare` times in turns.": apart,
    }
    return [line for line, needed in sentences.items() if needed]


_COMPARED_KEYS = (
    *("model", "speedup", "speedup_low", "speedup_high", "reported", "step_time", "step_time_low", "step_time_high"),
    *("throughput", "image_energy", "turns", "rounds", "noisy", *(c.key for c in SETTINGS)),
    *("differs", "machine", "software", "status"),
)


def _compared(rows: Sequence[Row]) -> Laid:
    first = rows[0]["name"]
    columns = [
        Column("name", "model", right=False),
        Column("speedup", f"{first} is … times as fast", cell=_times),
        Column("reported_text", "reported", right=False, spare=3),
        _STEPS["step_time"],
        _STEPS["throughput"],
        replace(_STEPS["image_energy"], title="J/image", spare=1),
        Column("differs", f"differs from {first} in", right=False, wide=True),
    ]
    return Laid(telling(columns, rows, ("step_time",)), rows)


_CHECK_KEYS = (
    *("model", "workload", "verdict", "exit_code", "ratio", "ratio_low", "ratio_high", "confidence", "limit"),
    *("base_step_time", "head_step_time", "rounds", "void_rounds", "noise"),
    *(f"{side}_{name}" for name in COUNTS for side in ("base", "head")),
    *("accepted", "why", "findings"),
)
_OF_CHECK = (
    Column("model", "model", right=False, cell=itemgetter("label")),
    Column("verdict", "verdict", right=False),
    Column("change", "step time, head against base"),
    Column("base_step_time", "base", units.seconds, spare=2),
    Column("head_step_time", "head", units.seconds, spare=2),
    Column("rounds", "rounds", spare=1),
    Column("counts", "counts", right=False),
    Column("why", "why", right=False, absent="", wide=True),
)


def _checked(rows: Sequence[Row]) -> Laid:
    """The verdicts of `nfbench check`; of a study that only counts without times."""
    hidden = set() if any("change" in row for row in rows) else {"change", "base_step_time", "head_step_time", "rounds"}
    hidden |= set() if any("why" in row for row in rows) else {"why"}
    return Laid([c for c in _OF_CHECK if c.key not in hidden], rows)


_OF_CLAIMS = tuple(
    Column(key, title, right=False, spare=spare, absent="")
    for key, title, spare in (
        ("id", "claim", 0),
        ("claim", "it says", 2),
        ("verdict", "verdict", 0),
        ("measured", "measured", 0),
        ("on", "on what", 1),
        ("reported", "reported", 3),
        ("who", "who says it", 4),
    )
)
_CLAIM_KEYS = (
    *("id", "claim", "who", "reported", "test", "verdict", "figure", "value", "low", "high", "unit", "side"),
    *("limit", "answer", "on", "scope", "why", "machine", "device", "results"),
)

VIEWS: dict[str, View] = {
    "steps": View(_steps, STEP_KEYS),
    "ratios": View(_table(_OF_RATIOS, [c.key for c in _OF_RATIOS if c.key != "machine"]), RATIO_KEYS),
    "clips": View(_table(_OF_CLIPS, title="The clip by itself"), CLIP_KEYS, _about_clips),
    "clip-steps": View(_table(_OF_CLIP_STEPS, title="The clip in a step"), CLIP_KEYS),
    "accuracy": View(_runs, RUN_KEYS, _about_runs),
    "epochs": View(_epochs, ("epoch", "runs", "throughput", "data_share", "gap", *keys("epoch"))),
    "counted": View(_counts),
    "dependence": View(_dependences, legend=lambda rows: [CHANGES] if rows else []),
    "against": View(_against, KEYS, _about_ratios),
    "compare": View(_compared, _COMPARED_KEYS),
    "check": View(_checked, _CHECK_KEYS),
    "claims": View(_table(_OF_CLAIMS, [c.key for c in _OF_CLAIMS]), _CLAIM_KEYS),
}


def view(rows: Sequence[Row], name: str, format: Format, title: str | None = None) -> str:
    """The table of that name as text: for people as it is laid out, as CSV or JSON all there is, raw in SI units."""
    if format in ("csv", "json"):
        return tables.raw(VIEWS[name].raw or _count_keys(rows), rows, format)
    made = VIEWS[name].lay(rows)
    return made._replace(title=title or made.title).text(format)


def parts(seen: Shown) -> dict[str, list[tuple[str, Sequence[Row]]]]:
    """The views of what was seen and their rows, by the name of the file in which they are kept."""
    counted = units.grouped(seen.counted, lambda row: "dependence" if row["kind"] == "dependence" else "counted")
    made: dict[str, list[tuple[str, Sequence[Row]]]] = {
        "steps": [("steps", seen.steps)],
        "ratios": [("ratios", seen.ratios)],
        "clips": [("clips", seen.clips), ("clip-steps", clip_shares(seen.steps))] if seen.clips else [],
        "accuracy": [("accuracy", seen.trained)],
        "counted": [*counted.items()],
    }
    made = {name: [(view, rows) for view, rows in of if rows] for name, of in made.items()}
    return {name: of for name, of in made.items() if of}


def laid(seen: Shown) -> dict[str, list[Laid]]:
    """The tables of what was seen for a person, by the name of the file in which they are kept."""
    return {name: [VIEWS[view].lay(rows) for view, rows in of] for name, of in parts(seen).items()}


def texts(seen: Shown, format: Format) -> dict[str, str]:
    """The same as text; as CSV or JSON all that there is of each kind, raw."""
    if format in ("rich", "md"):
        return {name: "\n".join(part.text(format) for part in made) for name, made in laid(seen).items()}
    rows = {name: [row for _, rows in of for row in rows] for name, of in parts(seen).items()}
    if "clips" in rows:
        rows["clips"] = [*seen.clips, *seen.steps]
    return {name: view(of, name, format) for name, of in rows.items()}


def legend(seen: Shown, against: bool = False) -> list[str]:
    """What the columns of the tables mean that need saying."""
    of = [("against", seen.rows)] if against else [each for of in parts(seen).values() for each in of]
    return [line for view, rows in of for line in VIEWS[view].legend(rows)]


def text(seen: Shown, format: Format, order: Sequence[str] = (), against: bool = False) -> str:
    """All that was seen as text, rows by ``order``, as `query.ordered` takes it: a table a kind, or one as CSV or JSON.

    Rows that have ratios ``against`` a baseline's are shown with these.
    """
    if format in ("csv", "json"):
        rows = seen.rows
        if not against and not seen.trained and not seen.ratios and not seen.counted:
            rows = [*seen.clips, *seen.steps]
        more = ("kind", "model", *KEYS) if against else ()
        return tables.raw([*more, *_keys(seen)], ordered(rows, order), format)
    seen = seen.of([ordered(rows, order) for rows in seen.each.values()])
    if against:
        return "\n".join(_against(part).text(format) for part in grouped(seen.rows, ["kind"]))
    return "\n".join(texts(seen, format).values())


def _keys(seen: Shown) -> list[str]:
    """The columns of the raw table: those of its one kind, or of each of its kinds after the kind itself."""
    other = seen.ratios or seen.counted
    if not other and not seen.trained:
        return list(CLIP_KEYS if seen.clips else STEP_KEYS)
    if not other and not seen.clips and not seen.steps:
        return list(RUN_KEYS)
    of_each = ((seen.trained, RUN_KEYS), (seen.clips, CLIP_KEYS), (seen.steps, STEP_KEYS))
    found = [key for rows, of in of_each if rows for key in of]
    return ["kind", "model", *found, *(key for row in (*seen.ratios, *seen.counted) for key in row)]


# columns that were asked for

KNOWN: dict[str, Column] = {
    **{key: Column(key, "") for key in (*RUN_KEYS, *CLIP_KEYS, *KEYS)},
    **_measured("counts"),
    **{c.key: c for c in (*_OF_RATIOS, *_OF_CLIP_STEPS, *_OF_CLIPS)},
    **_CLIPS,
    **_RUNS,
    **_STEPS,
    **{key: replace(c, title="") for key, c in _RELATIVE.items() if key in KEYS and key != "turns"},
}
"""What rows are known to have, by key, with its heading and how it is shown."""
_HEADINGS = {
    "best_top1": "best top-1",
    "ema_top1": "EMA top-1",
    "train_step_time": "training step",
    "training_flops": "FLOPs of the training",
    "speedup": "speedup",
    "time_to_bn": "time to bn",
    "diverged_at": "diverged at",
}
"""Where a heading says too little beside columns of all kinds."""
_INSTEAD = {
    "peak_allocated": ("peak_reserved", "peak_rss"),
    "peak_reserved": ("peak_allocated", "peak_rss"),
    "peak_rss": ("peak_allocated",),
    "step_time": ("train_step_time", "time"),
    "train_step_time": ("step_time",),
    "step_energy": ("image_energy",),
    "image_energy": ("step_energy",),
    "top1": ("best_top1",),
    "micro_batch": ("batch",),
}
"""Columns of much the same, the nearest first."""
_SENTENCES, _SENTENCE = ("settings", "reported", "message", "software"), 400


def columns(rows: Sequence[Row], names: Sequence[str], format: Format) -> str:
    """The columns ``names`` in that order as text; of several kinds with that, since images per second of a timed step
    are not those of a training run with its data."""
    if format in ("csv", "json"):
        return tables.raw(names, rows, format)
    if len({row.get("kind") for row in rows}) > 1 and "kind" not in names:
        names = ["kind", *names]
    return Laid([column(name, rows) for name in names], rows).text(format)


def column(name: str, rows: Sequence[Row]) -> Column:
    """A column that was asked for: with units, and a step time or a top-1 with its interval."""
    known = KNOWN.get(name, Column(name, ""))
    title = _HEADINGS.get(name, known.title) or shorten(name).replace("_", " ")
    right = any(is_number(row.get(name)) for row in rows)
    return Column(name, title, right=right, cell=partial(_text, known=known))


def _text(row: tables.Row, known: Column) -> str:
    value, value_of = row.get(known.key), KNOWN.get(known.key.removesuffix("_low").removesuffix("_high"))
    if value is None:
        return ABSENT
    if known.cell is not None:
        return shorten(known.cell(row), _SENTENCE)
    if is_number(value):
        if known.show is str and value_of is not None and value_of.interval:
            return value_of.show(value)
        return f"{value:.4g}" if known.show is str and isinstance(value, float) else known.text(row)
    return shorten(", ".join(str(v) for v in values(value)), _SENTENCE if known.key in _SENTENCES else LONGEST)


def with_ratios(names: Sequence[str], rows: Sequence[Row], format: Format) -> list[str]:
    """``names`` and, where rows have ratios and only those are asked for, how they were measured and what differs.

    Where no ratio is asked for, those of the step time and the top-1 follow, raw with the ends of their intervals.
    """
    if not any("how" in row for row in rows):
        return list(names)
    ratios = [name for name in names if name in KEYS and name not in ("baseline_model", "how", "differs")]
    ends = ("", "_low", "_high") if format in ("csv", "json") else ("",)
    more = [f"{name}{end}" for name in ("step_time_ratio", "top1_difference") for end in ends]
    more = [] if ratios else [name for name in more if any(name in row for row in rows)]
    return list(dict.fromkeys((*names, *more, "how", "differs")))


def without(seen: Shown, names: Sequence[str]) -> list[str]:
    """The kinds whose rows hold nothing of what ``names`` tell beyond what all kinds have, where another does."""
    held = {kind: {name for row in rows for name in row} for kind, rows in seen.each.items() if rows}
    asked = [name for name in names if any(name in of for of in held.values())]
    asked = [name for name in asked if not all(name in of for of in held.values())]
    return [kind for kind, of in held.items() if asked and not of & set(asked)]


def instead(seen: Shown, names: Sequence[str]) -> list[str]:
    """Of each kind that has none of a column that was asked for, and one that tells the same in another way: a line."""
    lines = []
    for kind, rows in seen.each.items():
        held = {name for row in rows for name in row}
        for name in names:
            near = [other for other in _INSTEAD.get(name, ()) if other in held and other not in names]
            if near and name not in held:
                lines.append(f"No {name} in {kind} ({len(rows)}); they have {', '.join(near)}.")
    return lines
