"""Peaks are those of exactly that part, dense, or absent."""

from __future__ import annotations

import pytest

from nfbench.catalog.gpus import GPUS, peak


@pytest.mark.parametrize(
    ("name", "precision", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.5e12),
        ("NVIDIA H100 PCIe", "bf16", 756.5e12),
        ("NVIDIA H200", "bf16", 989.5e12),
        ("NVIDIA A100-SXM4-80GB", "fp16", 312e12),
        ("A100-SXM4-40GB", "tf32", 156e12),
        ("Tesla V100-SXM2-32GB", "fp16", 125e12),
        ("Tesla T4", "fp16", 65e12),
        ("NVIDIA GeForce RTX 3090", "fp16", 71e12),
        ("nvidia  geforce rtx 4090", "fp32", 82.6e12),
    ],
)
def test_a_peak_is_dense_and_of_exactly_that_part(name: str, precision: str, flops: float) -> None:
    found = peak(name, precision)
    assert found is not None
    assert found.flops == pytest.approx(flops)
    assert "NVIDIA" in found.source


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100",
        "NVIDIA H100 PCIe MIG 1g.10gb",
        "NVIDIA A10G",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA",
        "",
    ],
)
def test_a_name_that_is_only_alike_has_no_peak(name: str) -> None:
    assert peak(name, "bf16") is None


@pytest.mark.parametrize(
    ("name", "precision", "mig_profile"),
    [
        ("NVIDIA H200", "bf16", "1g.18gb"),
        ("Tesla V100-SXM2-32GB", "bf16", None),
        ("Tesla T4", "tf32", None),
        *(("NVIDIA H200", precision, None) for precision in ("names", "source", "fp8", "")),
    ],
)
def test_what_a_card_lacks_and_a_mig_slice_have_no_peak(name: str, precision: str, mig_profile: str | None) -> None:
    assert peak(name, precision, mig_profile) is None


def test_no_name_stands_in_two_rows_and_each_row_has_its_source() -> None:
    names = [name.casefold() for gpu in GPUS for name in gpu.names]
    assert len(names) == len(set(names))
    assert all("datasheet" in gpu.source or "whitepaper" in gpu.source for gpu in GPUS)


def test_half_precision_is_never_slower_than_tf32_nor_tf32_than_fp32() -> None:
    for gpu in GPUS:
        known = [p for p in (gpu.fp32, gpu.tf32, gpu.fp16) if p is not None]
        assert known == sorted(known), gpu.names
        assert gpu.bf16 in (None, gpu.fp16)
