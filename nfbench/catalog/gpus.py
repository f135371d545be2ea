"""Dense peak arithmetic of GPUs, each row from the vendor's own datasheet or whitepaper, without sparsity.

Where a source prints the figure with 2:4 sparsity, the row holds half of it. A precision that is not in a row is not
known for sure, or the GPU has no such units. A new GPU is one row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


class Peak(NamedTuple):
    """``flops`` in FLOP/s (a multiply-accumulate is 2) and where the figure is from."""

    flops: float
    source: str


@dataclass(frozen=True)
class Gpu:
    """The names that the driver gives one GPU, without "NVIDIA" and "Tesla", and its dense peaks in TFLOP/s."""

    names: tuple[str, ...]
    source: str
    fp32: float | None = None
    tf32: float | None = None
    fp16: float | None = None
    """With accumulation in fp32, as torch asks for it; GeForce cards are twice as quick in fp16."""
    bf16: float | None = None


_AMPERE_RTX = "NVIDIA Ampere GA102 GPU architecture whitepaper, appendix A, fp32 accumulation"
_ADA_RTX = "NVIDIA Ada GPU architecture whitepaper, appendix A, fp32 accumulation"
_H100 = "NVIDIA H100 Tensor Core GPU datasheet, half of the figure with sparsity"
_H200 = "NVIDIA H200 Tensor Core GPU datasheet, half of the figure with sparsity"
_A100 = "NVIDIA A100 Tensor Core GPU datasheet"
_V100 = "NVIDIA V100 Tensor Core GPU datasheet"

GPUS = (
    Gpu(("V100-SXM2-16GB", "V100-SXM2-32GB"), _V100, fp32=15.7, fp16=125),
    Gpu(("V100-PCIE-16GB", "V100-PCIE-32GB"), _V100, fp32=14, fp16=112),
    Gpu(("V100S-PCIE-32GB",), _V100, fp32=16.4, fp16=130),
    Gpu(("T4",), "NVIDIA T4 datasheet", fp32=8.1, fp16=65),
    Gpu(
        ("A100-SXM4-40GB", "A100-SXM4-80GB", "A100-PCIE-40GB", "A100 80GB PCIe"),
        _A100,
        fp32=19.5,
        tf32=156,
        fp16=312,
        bf16=312,
    ),
    Gpu(("A10",), "NVIDIA A10 datasheet", fp32=31.2, tf32=62.5, fp16=125, bf16=125),
    Gpu(("A30",), "NVIDIA A30 datasheet", fp32=10.3, tf32=82, fp16=165, bf16=165),
    Gpu(("A40",), "NVIDIA A40 datasheet", fp32=37.4, tf32=74.8, fp16=149.7, bf16=149.7),
    Gpu(("RTX A6000",), _AMPERE_RTX, fp32=38.7, tf32=77.4, fp16=154.8, bf16=154.8),
    Gpu(("GeForce RTX 3090",), _AMPERE_RTX, fp32=35.6, tf32=35.6, fp16=71, bf16=71),
    Gpu(("L4",), "NVIDIA L4 datasheet, half of the figure with sparsity", fp32=30.3, tf32=60, fp16=121, bf16=121),
    Gpu(("L40S",), "NVIDIA L40S datasheet", fp32=91.6, tf32=183, fp16=362.05, bf16=362.05),
    Gpu(
        ("RTX 6000 Ada Generation",),
        "NVIDIA Ada GPU architecture whitepaper for professionals, appendix A, fp32 accumulation",
        fp32=91.1,
        tf32=182.1,
        fp16=364.2,
        bf16=364.2,
    ),
    Gpu(("GeForce RTX 4090",), _ADA_RTX, fp32=82.6, tf32=82.6, fp16=165.2, bf16=165.2),
    Gpu(
        ("GeForce RTX 5090",),
        "NVIDIA RTX Blackwell GPU architecture whitepaper, appendix A, fp32 accumulation",
        fp32=104.8,
        tf32=104.8,
        fp16=209.5,
        bf16=209.5,
    ),
    Gpu(("H100 80GB HBM3",), _H100, fp32=67, tf32=494.5, fp16=989.5, bf16=989.5),
    Gpu(("H100 PCIe",), _H100, fp32=51, tf32=378, fp16=756.5, bf16=756.5),
    Gpu(("H100 NVL",), _H100, fp32=60, tf32=417.5, fp16=835.5, bf16=835.5),
    Gpu(("H200",), _H200, fp32=67, tf32=494.5, fp16=989.5, bf16=989.5),
    Gpu(("H200 NVL",), _H200, fp32=60, tf32=417.5, fp16=835.5, bf16=835.5),
    Gpu(
        ("GH200 480GB",),
        "NVIDIA GH200 Grace Hopper superchip datasheet, half of the figure with sparsity",
        fp32=67,
        tf32=494.5,
        fp16=989.5,
        bf16=989.5,
    ),
    Gpu(("B200",), "NVIDIA HGX B200 datasheet, an eighth, half of the figure with sparsity", fp16=2250, bf16=2250),
)

_BY_NAME = {name.casefold(): gpu for gpu in GPUS for name in gpu.names}


def peak(name: str, precision: str, mig_profile: str | None = None) -> Peak | None:
    """The dense peak of the GPU that the driver calls ``name``, in ``precision`` (fp32, tf32, fp16, bf16).

    None where it is not known, and for a MIG slice: the datasheet gives figures of whole cards only.
    """
    if mig_profile or " MIG " in name or precision not in ("fp32", "tf32", "fp16", "bf16"):
        return None
    gpu = _BY_NAME.get(re.sub(r"^(NVIDIA )?(Tesla )?", "", " ".join(name.split()), flags=re.IGNORECASE).casefold())
    teraflops: float | None = getattr(gpu, precision, None)
    return None if gpu is None or teraflops is None else Peak(teraflops * 1e12, gpu.source)
