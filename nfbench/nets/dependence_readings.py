"""The figures of `nfbench.nets.dependence` as readings, under names that stay the same.

::

    output_rest_changed            an image's output, relative change where the rest of its batch is other images
    output_evaluation_own          … where the net evaluates, with running statistics of this very batch
    output_evaluation_others       … where the net evaluates, with running statistics of other images
    output_rounding                … where only the order of the batch changes, or it comes twice: what 0 looks like
    output_batch_of_one            … where the image is alone, and what of that is rounding:
    output_batch_of_one_rounding
    share_rest_changed_no_agc      an image's share of the update without the clip, where the rest changes
    share_rounding_no_agc          … where only the order changes
    share_rest_changed_agc         the same two with the clip, where there is one
    share_rounding_agc
    clipped_units                  the share of units that the clip shortens, 0 to 1
    gradient_halves                the gradient summed over two micro-batches, relative change
    gradient_single_images         … over micro-batches of one image
    gradient_rounding              … where only the order changes
    px                             side of the images
    clipping                       λ of the clip, where there is one

A figure that does not apply, or that the net refuses to give, has no reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.nets.dependence_figures import Row
from nfbench.records import Reading, reading

_NAMES = {
    ("measured with", "px"): "px",
    ("measured with", "AGC λ"): "clipping",
    ("output of an image", "rest changed"): "output_rest_changed",
    ("output of an image", "evaluation, own statistics"): "output_evaluation_own",
    ("output of an image", "evaluation, others'"): "output_evaluation_others",
    ("output of an image", "rounding"): "output_rounding",
    ("output of an image", "batch of one"): "output_batch_of_one",
    ("output of an image", "batch of one, rounding"): "output_batch_of_one_rounding",
    ("share of the update", "rest changed, no AGC"): "share_rest_changed_no_agc",
    ("share of the update", "rounding, no AGC"): "share_rounding_no_agc",
    ("share of the update", "rest changed, AGC"): "share_rest_changed_agc",
    ("share of the update", "rounding, AGC"): "share_rounding_agc",
    ("share of the update", "clipped units"): "clipped_units",
    ("gradient", "rounding"): "gradient_rounding",
}
"""The name of each figure's reading, by what the figure is about and which it is."""


def readings(rows: Sequence[Row]) -> list[Reading]:
    """The readings of the rows of `nfbench.nets.dependence.dependence`, in the order of ``rows``."""
    size = next(row["value"] for row in rows if (row["about"], row["what"]) == ("measured with", "batch"))
    # with two images the halves are the single images
    names = _NAMES | {
        ("gradient", f"{size} micro-batches"): "gradient_single_images",
        ("gradient", "2 micro-batches"): "gradient_halves",
    }
    return [
        reading(name, "px" if name == "px" else "1", "run", "float32 on the CPU", [row["value"]])
        for row in rows
        if (name := names.get((row["about"], row["what"]))) and isinstance(row["value"], (int, float))
    ]
