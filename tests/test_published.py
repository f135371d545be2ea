"""The published figures are read as they stand, each with its source."""

from __future__ import annotations

import pytest

from nfbench.catalog import published
from nfbench.catalog.models import find


def test_a_row_of_table_3_is_found_by_the_name_of_the_paper_and_of_the_catalogue() -> None:
    paper = published.table3("senet-50")
    assert paper == published.table3("seresnet50") == published.table3("SE-ResNet_50")
    assert paper is not None
    assert (paper.macs_g, paper.top1, paper.tpuv3_step_ms, paper.v100_step_ms) == (4.09, 79.4, 64.3, 59.4)


def test_a_row_holds_the_sizes_that_the_paper_gives_and_none_that_it_leaves_out() -> None:
    f1, b4 = published.table3("nfnet-f1"), published.table3("efficientnet-b4")
    assert f1 is not None and b4 is not None
    assert (f1.train_px, f1.test_px, f1.source) == (224, 320, "arXiv 2102.06171, Table 3")
    assert (b4.train_px, b4.test_px) == (None, None)
    assert published.table3("nf-regnet-b0") is published.table3("no such net") is None


def test_the_step_time_of_sam_never_stands_for_a_step_without_it() -> None:
    assert published.table3("nfnet-f6") is None
    sam = published.trained_otherwise("nfnet-f6")
    assert sam is not None and sam.macs_g == 377.28
    assert (sam.tpuv3_step_ms, sam.v100_step_ms) == (None, None)
    assert sam.source.endswith("nfnet-f6-sam")


def test_accuracy_comes_from_the_paper_where_it_has_one_and_else_from_timm_s_weights() -> None:
    assert published.top1(find("nfnet-f1")) == (84.7, 320, "arXiv 2102.06171, Table 3")
    assert published.top1(find("resnet26")) == (75.298, 224, "timm results-imagenet.csv, resnet26.bt_in1k")
    assert published.top1(find("tiny-nfnet")) is None
    assert published.top1(find("timm:resnet18")) is None


def test_accuracy_is_taken_at_the_published_size_nearest_to_the_net_s_test_px() -> None:
    at = published.top1(find("nf-resnet50"))
    assert at is not None and at.px == 256
    source = "timm results-imagenet.csv, nf_resnet50.ra2_in1k"
    assert published.timm_top1("nf_resnet50.ra2_in1k", 288) == (80.658, 288, source)
    assert published.timm_top1("nf_resnet50.ra2_in1k", 100) is None


def test_a_twin_has_the_figures_of_table_6() -> None:
    twin = published.paper("bn-nfnet-f1")
    assert twin is not None and published.table3("bn-nfnet-f1") is None
    assert (twin.model, twin.top1, twin.tpuv3_step_ms, twin.v100_step_ms) == ("bn-nfnet-f1", 84.4, 258.0, None)
    assert published.top1(find("BN_NFNet_F1")) == (84.4, None, "arXiv 2102.06171, Table 6")
    assert published.paper("bn-nfnet-f4") is published.top1(find("bn-nfnet-f4")) is None


def test_a_rung_of_the_ladder_has_the_figures_of_table_2_and_says_that_it_was_trained_without_augmentation() -> None:
    baseline, width = published.paper("nfnet-f3-baseline"), published.paper("nfnet-f3-width")
    assert baseline and (baseline.top1, baseline.tpuv3_step_ms) == (82.3, 369.5)
    assert width and (width.top1, width.tpuv3_step_ms) == (82.3, 441.5)
    assert baseline.source == width.source == "arXiv 2102.06171, Table 2, without augmentation"
    assert baseline.note == "trained without MixUp, RandAugment and CutMix"


def test_the_last_rung_has_the_step_time_of_table_3() -> None:
    (row,) = [row for row in published.rows("table2_6.csv") if row["row"] == "+ second conv"]
    for variant in ("f0", "f1", "f2", "f3"):
        paper = published.paper(f"nfnet-{variant}")
        assert paper and paper == published.table3(f"nfnet-{variant}")
        assert paper.tpuv3_step_ms == float(row[f"{variant}_tpuv3_step_ms"])


def test_macs_are_reported_at_the_test_px_only() -> None:
    net = find("nfnet-f0")
    assert published.reported_macs(net, 256) == (pytest.approx(12.38e9), "arXiv 2102.06171, Table 3")
    assert published.reported_macs(net, 192) is None


def test_the_variants_of_table_1_agree_with_the_catalogue() -> None:
    for row in published.rows("variants.csv"):
        net = find(row["model"])
        assert (net.train_px, net.test_px, net.drop_rate) == (
            int(row["train_px"]),
            int(row["test_px"]),
            float(row["dropout"]),
        )
    assert dict(find("nfnet-f7").kwargs)["depths"] == (8, 16, 48, 24)
