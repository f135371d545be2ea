"""What the columns of a study's tables mean that need saying, in the words of the commands that print them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nfbench.analysis.rows import Row
from nfbench.showing import accuracy, clips, counted
from nfbench.showing.report import Table
from nfbench.showing.study import Shown
from nfbench.units import ABSENT

_RUN = "within this run (runs differ by more, which --rounds shows)"
_COLUMNS = {
    "clip": "clip: adaptive gradient clipping, from stamps on the device inside the same steps.",
    "mfu": "MFU: the share of the GPU's dense peak that 2 · training MACs · images/s make, 1 MAC being 2 FLOPs.",
}
"""What a column of the step times means, by its key."""


def lines(seen: Shown, tables: Sequence[Table]) -> list[str]:
    """The legend of all ``tables`` of a study, a sentence a line."""
    found = [*_steps(seen.steps), *_ratios(seen), *clips.legend(seen.clips), *_trained(seen.trained)]
    if any(row["kind"] == "dependence" for row in seen.counted):
        found.append(counted.CHANGES)
    if any(head.reported for table in tables for head in table.heads):
        found.append("reported: what others published, at the train px of each net and batch 32 a device.")
    if any(cell.text == ABSENT for table in tables for row in table.rows for cell in row):
        found.append(f"{ABSENT}: absent or could not be read, never 0.")
    return list(dict.fromkeys(found))


def _steps(rows: Sequence[Row]) -> list[str]:
    timed = [row for row in rows if "step_time" in row]
    found = ["step time: the median of one optimizer update, clip included."] if timed else []
    over = _over(row.get("rounds", 1) for row in timed if "step_time_low" in row)
    found += [f"± of a step time: half of its 95 % interval, as a share of it, {over}."] if over else []
    if any(row.get("composed") for row in timed):
        found.append("composed: too long to repeat, so the first pass + (k − 1) × the mean of later ones + the rest.")
    return found + [text for key, text in _COLUMNS.items() if any(key in row for row in timed)]


def _ratios(seen: Shown) -> list[str]:
    if not seen.ratios:
        return []
    known = any(ratio.estimate.half_width is not None for ratio in seen.ratios)
    half = "; ± is half of the 95 % interval over rounds of fresh processes" if known else ""
    return [f"times as fast: the baseline's step over the net's, paired round by round{half}."]


def _over(rounds: Iterable[int]) -> str:
    """What intervals of these rounds are over; empty where there are none."""
    several = {count > 1 for count in rounds}
    told = {True: "over rounds of fresh processes", False: _RUN}
    return f"{told[True]}, of a single round within it" if len(several) > 1 else told[several.pop()] if several else ""


def _trained(rows: Sequence[Row]) -> list[str]:
    own = [line for line in accuracy.legend(rows) if not line.startswith("±")]
    spread = any("top1_low" in row for row in rows)
    return (["± of a top-1: half of the 95 % interval over seeds, Student's t."] if spread else []) + own
