"""Reported figures with their sources: what others published, never what nfbench measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from nfbench.catalog.models import Net, fold, spellings

_FOLDER = Path(__file__).with_name("published")
PAPER = "arXiv 2102.06171"
TABLE2 = f"{PAPER}, Table 2"
TABLE3 = f"{PAPER}, Table 3"
TABLE6 = f"{PAPER}, Table 6"
TIMM_IMAGENET = "timm results-imagenet.csv"

_ROW_OF = {"nfnet-f6": "nfnet-f6-sam", "efficientnet-b8": "efficientnet-b8-maxup"}
"""Rows of Table 3 that report a net only as trained in another way: the same MACs, an accuracy named with its row."""

_PLAIN = (f"{TABLE2}, without augmentation", "trained without MixUp, RandAugment and CutMix")
_STEPS = {
    "baseline": ("nfnet-{}-baseline", *_PLAIN),
    "+ modified width": ("nfnet-{}-width", *_PLAIN),
    "- NF + BN (the batch-normalized twin)": ("bn-nfnet-{}", TABLE6, ""),
}
"""Rows of Tables 2 and 6 that are nets of the catalogue: its name with the variant left out, the source and a note."""


class Reported(NamedTuple):
    """What the paper reports of one net: a row of Table 3, or a variant's figures in a row of Tables 2 and 6.

    MACs of one image at ``test_px`` in 10⁹, parameters in 10⁶, top-1 in per cent; times in ms a step at ``train_px``
    and batch 32 per device. None where the table has no figure.
    """

    model: str
    macs_g: float | None
    params_m: float | None
    top1: float | None
    tpuv3_step_ms: float | None
    v100_step_ms: float | None
    train_px: int | None
    test_px: int | None
    note: str
    source: str = TABLE3


class Accuracy(NamedTuple):
    """Top-1 on ImageNet's validation set in per cent; ``px`` None where the source does not say."""

    top1: float
    px: int | None
    source: str


@cache
def rows(file: str) -> tuple[Mapping[str, str], ...]:
    """The rows of one published CSV as text, by column."""
    with (_FOLDER / file).open(encoding="utf-8", newline="") as text:
        return tuple(csv.DictReader(text))


@cache
def _table3() -> dict[str, Reported]:
    return {
        fold(row["model"]): Reported(
            model=row["model"],
            macs_g=_float(row["macs_g"]),
            params_m=_float(row["params_m"]),
            top1=_float(row["top1"]),
            tpuv3_step_ms=_float(row["tpuv3_step_ms"]),
            v100_step_ms=_float(row["v100_step_ms"]),
            train_px=_int(row["train_px"]),
            test_px=_int(row["test_px"]),
            note=row["note"],
        )
        for row in rows("table3.csv")
    }


@cache
def _tables_2_and_6() -> dict[str, Reported]:
    found = {}
    for row in rows("table2_6.csv"):
        if row["row"] not in _STEPS:
            continue
        name, source, note = _STEPS[row["row"]]
        for variant in ("f0", "f1", "f2", "f3"):
            top1, ms = _float(row[f"{variant}_top1"]), _float(row[f"{variant}_tpuv3_step_ms"])
            model = name.format(variant)
            found[fold(model)] = Reported(model, None, None, top1, ms, None, None, None, note, source)
    return found


@cache
def _timm_top1() -> dict[str, dict[int, float]]:
    """{weights: {px: top-1}}."""
    found: dict[str, dict[int, float]] = {}
    for row in rows("timm_imagenet.csv"):
        found.setdefault(row["timm_weights"], {})[int(row["test_px"])] = float(row["top1"])
    return found


def table3(model: str) -> Reported | None:
    """What Table 3 of the paper reports for a net of the catalogue or a row of the table, by either name."""
    return next((row for name in spellings(model) if (row := _table3().get(name))), None)


def paper(model: str) -> Reported | None:
    """What the paper reports for a net: its row of Table 3, else that of Table 2 (the ladder) or 6 (the twins)."""
    return table3(model) or _tables_2_and_6().get(fold(model))


def randaugment_magnitude(model: str) -> int | None:
    """The magnitude that an NFNet-F variant is trained with (Table 1); None for any other net."""
    magnitudes = {fold(row["model"]): int(row["randaugment_magnitude"]) for row in rows("variants.csv")}
    return magnitudes.get(fold(model))


def timm_top1(weights: str, px: int) -> Accuracy | None:
    """timm's top-1 for released weights such as ``resnet26.bt_in1k`` at ``px``."""
    top1 = _timm_top1().get(weights, {}).get(px)
    return None if top1 is None else Accuracy(top1, px, f"{TIMM_IMAGENET}, {weights}")


def trained_otherwise(model: str) -> Reported | None:
    """The row of Table 3 for a net that it reports only as trained in another way, without that training's times."""
    row = table3(_ROW_OF.get(model, ""))
    if row is None:
        return None
    return row._replace(tpuv3_step_ms=None, v100_step_ms=None, source=f"{row.source}, {row.model}")


def top1(net: Net) -> Accuracy | None:
    """The reported accuracy of a net: the paper's, else timm's for its weights at the px nearest to its test px."""
    row = paper(net.name) or trained_otherwise(net.name)
    if row and row.top1 is not None:
        return Accuracy(row.top1, row.test_px, row.source)
    at = _timm_top1().get(net.weights or "")
    if not at or net.test_px is None:
        return None
    wanted = net.test_px
    return timm_top1(net.weights or "", min(at, key=lambda px: abs(px - wanted)))


def reported_macs(net: Net, px: int) -> tuple[float, str] | None:
    """(MACs of one image, source) where Table 3 reports the net at that px.

    Table 3 leaves out the sizes of nets that are not its own; those count as the net's test px.
    """
    row = table3(net.name) or trained_otherwise(net.name)
    if row is None or row.macs_g is None or px != (row.test_px or net.test_px):
        return None
    return row.macs_g * 1e9, row.source


class ReportedRatio(NamedTuple):
    """How many times as long another net's step takes, as reported, and by whom."""

    value: float
    source: str


_CLAIMED = {("nfnet-f1", "efficientnet-b7"): "f1-vs-b7"}
"""Claims of ``claims.csv`` that are a ratio of two nets."""


def ratios(net: str, other: str) -> list[ReportedRatio]:
    """The reported step times of ``other`` over those of ``net``, at their train px and batch 32 per device.

    Of a claim that was made about the pair every figure with who says it, else those of the paper's tables.
    """
    if net == other:
        return []
    if (claim := _CLAIMED.get((net, other))) is not None:
        row = next(row for row in rows("claims.csv") if row["id"] == claim)
        values, sources = row["reported"].split(" / "), row["who says it"].split(" / ")
        return [ReportedRatio(float(value), _source(sources, i)) for i, value in enumerate(values)]
    if (other, net) in _CLAIMED:
        return [ReportedRatio(1 / ratio.value, ratio.source) for ratio in ratios(other, net)]
    first, second = paper(net), paper(other)
    if first is None or second is None:
        return []
    tables = " and ".join(dict.fromkeys((first.source, second.source)))
    return [
        ReportedRatio(numerator / denominator, f"{tables}, {device}")
        for device, denominator, numerator in (
            ("TPUv3", first.tpuv3_step_ms, second.tpuv3_step_ms),
            ("V100", first.v100_step_ms, second.v100_step_ms),
        )
        if numerator is not None and denominator is not None
    ]


def _source(sources: list[str], index: int) -> str:
    """A source in full: what stands before it goes on where it only names another layout."""
    source = sources[index]
    if source.startswith("Table"):
        return f"{PAPER}, {source}"
    if source in ("nhwc", "each at its best"):
        return f"timm RTX 3090 {source}"
    return source


def _float(text: str) -> float | None:
    return float(text) if text else None


def _int(text: str) -> int | None:
    return int(text) if text else None
