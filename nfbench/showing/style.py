"""What the figures share: their looks, the names of their rows, and how they reach the disk."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from nfbench.analysis import lines
from nfbench.analysis.rows import Row
from nfbench.catalog.models import FAMILIES
from nfbench.errors import BadResults
from nfbench.showing.file_names import distinct

# Okabe and Ito's colours and Tol's: told apart with any kind of colour vision, none of them `REPORTED`
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#332288",
    "#8C6D31",
    "#882255",
    "#44AA99",
)
REPORTED = "#6B6B6B"
"""The colour of whatever was reported in a figure that holds measurements too: families are told by marker there."""
MARKERS = "osD^vPX*<>hp8d"  # one a family, since there are more families than colours
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nfbench",
    "svg.fonttype": "path",
    "text.parse_math": False,  # names come from anybody's results
    "font.size": 9,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
    "savefig.facecolor": "white",
}
COLUMN = 5.0
"""Inches of a figure with one panel: printed 3.5 inches wide, as a column is, its smallest text has 5 points."""
PAGE = 7.2
"""Inches of a figure with several panels, as a page is wide."""
FORMATS = ("png", "svg")
"""What is written unless another is asked for."""
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_FIRST = (("px", "{} px"), ("batch", "batch {}"), ("precision", "{}"), ("layout", "{}"), ("agc", "λ {}"))
_MORE = (
    ("norm", "{} norm"),
    ("agc_impl", "clip by {}"),
    ("sam", "SAM {}"),
    ("sam_fraction", "SAM on {}"),
    ("sam_scope", "SAM of {}"),
    ("ema", "EMA {}"),
    ("micro_batch", "passes of {}"),
    ("optimizer", "{}"),
    ("epochs", "{} epochs"),
    ("recipe", "{} recipe"),
    ("lr", "lr {:g}"),
    ("schedule", "{}"),
    ("weight_decay", "weight decay {:g}"),
    ("label_smoothing", "smoothing {}"),
    ("augment", "augment {}"),
    ("mixup", "MixUp {}"),
    ("cutmix", "CutMix {}"),
    ("drop_rate", "dropout {}"),
    ("drop_path", "drop path {}"),
    ("compile", "compile {}"),
    ("world_size", "{} devices"),
    ("software", "{}"),
)
_LAST = (
    ("micro_batch", "passes of {}"),
    ("nodes", "on {} machines"),
    ("backend", "{}"),
    ("broadcast_buffers", "shared buffers {}"),
    ("tf32", "TF32 {}"),
    ("cudnn_benchmark", "cuDNN benchmark {}"),
    ("allocator", "allocator {}"),
    ("optimizer_impl", "{} optimizer"),
    ("threads", "{} threads"),
    ("test_px", "tested at {} px"),
    ("weights", "{} weights"),
    ("asked_precision", "asked for {}"),
    ("asked_layout", "asked for {}"),
)
"""Settings that follow from others mostly: told of rows that nothing else tells apart."""


def plain(text: str, most: int = 60) -> str:
    """``text`` from anybody's results as it can stand in a line: printable, its middle left out where it is long."""
    cut = text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - most // 3 + 1 :]}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def name(row: Row, rows: Sequence[Row]) -> str:
    """The model, with the settings in which the rows differ."""
    parts = [plain(str(row["model"]), 40)]
    for key, text in (*_FIRST, *_MORE):
        # a pass of the whole batch goes without saying
        told = key != "micro_batch" or row.get("accumulation_steps", 1) > 1
        if key in row and told and len({r.get(key) for r in rows if r["model"] == row["model"]}) > 1:
            parts.append(_said(row, key, text))
    for key, text in (("px", "{} px"), ("batch", "batch {}"), ("epochs", "{} epochs")):
        if key in row and len({r.get(key) for r in rows}) > 1:
            parts.append(text.format(row[key]))
    if row.get("composed"):
        parts.append("composed")
    return ", ".join(dict.fromkeys(parts))


def names(rows: Sequence[Row]) -> list[str]:
    """`name` of each row, no two the same."""
    return apart([name(row, rows) for row in rows], rows)


def apart(labels: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """``labels`` of the rows, those that are equal with every setting in which their rows differ, or else a number."""
    same: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        same.setdefault(label, []).append(place)
    found = list(labels)
    for places in (some for some in same.values() if len(some) > 1):
        for key, text in (*_FIRST, *_MORE, *_LAST):
            if len({rows[place].get(key) for place in places}) > 1:
                for place in (p for p in places if key in rows[p]):
                    found[place] = f"{found[place]}, {_said(rows[place], key, text)}"
    return distinct(found, "{} ({})")


def _said(row: Row, key: str, text: str) -> str:
    value = row[key]
    if key in lines.SAM:
        return lines.sam(row)
    said = plain(text.format(("off", "on")[value] if isinstance(value, bool) else value), 90)
    return said.removesuffix("s") if value == 1 and not isinstance(value, bool) and text.startswith("{} ") else said


def drawable(time: float | None) -> bool:
    """Whether ``time`` in seconds can stand on an axis: matplotlib's ticks overflow with what no clock has shown."""
    return time is not None and 1e-12 < time < 1e12


def interval(row: Row) -> tuple[float, float] | None:
    """The ends of the step time's interval in seconds, where there is one that can be drawn."""
    ends = row.get("step_time_low"), row.get("step_time_high")
    return ends if all(map(drawable, ends)) else None  # type: ignore[return-value]


def in_order(row: Row) -> tuple[int, str]:
    """A key that sorts rows by family, then by model."""
    family = row.get("family")
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), row["model"]


def look(family: str) -> tuple[str, str]:
    """The colour and marker of a family."""
    place = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
    return COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]


def series(model: str, family: str | None) -> tuple[str, str]:
    """What a net of that name and family is drawn as in a line through sizes, and the family whose looks it has.

    The tiny nets are one family in the catalogue: each is drawn like the family that it is small of.
    """
    if family == "tiny":
        name = model.removesuffix("-s").removesuffix("-l")
        return name, name.removeprefix("tiny-")
    if family in FAMILIES:
        return family, family
    return plain(model, 40), family or ""


def settle(figure: Figure) -> None:
    """Lay the figure out for good, once, and not by the format that happens to be the first."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> Iterator[Path]:
    """A file of each of ``formats`` (png, svg, pdf) without date or version, each renamed into place when whole."""
    settle(figure)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in formats:
            # two shards may end at once
            path, part = folder / f"{name}.{kind}", folder / f".{name}.{kind}.{secrets.token_hex(4)}.part"
            # half the time of the best compression, and hardly more bytes
            more = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
            figure.savefig(part, format=kind, metadata=_METADATA[kind], **more)  # type: ignore[arg-type]
            part.replace(path)
            yield path
    except OSError as error:
        raise BadResults(
            f"Figures cannot be written to {folder}: {error.strerror}.", try_="-o with a folder that you may write to"
        ) from error
