"""The answer of a report in a sentence."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from make import CPU, FAKE, SOFTWARE, result
from report_cases import BF16, F1_B7, FREE, built, markdown, page, trained, turns, words_of_markdown, words_of_page

from nfbench.records import Result, Sampling
from nfbench.showing import report_headline
from nfbench.showing.study import shown

TWIN = turns("bn-nfnet-f0", "nfnet-f0", 0.5)
TINY = turns("tiny-nfnet", "tiny-resnet", 2.0, px=32)
BOTH_BN = turns("resnet26", "resnet50", 2.0)
NO_GPU = "This is a CPU: it says nothing about a GPU."


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param([*FREE, *TWIN, *F1_B7], "On NVIDIA H200, bf16: NFNet-F1 trains ", id="the paper's own pair first"),
        pytest.param([*FREE, *TWIN], "On NVIDIA H200, bf16: NFNet-F0 trains ", id="then what the paper reports of"),
        pytest.param([*TINY, *FREE], "On NVIDIA H200, bf16: NF-ResNet26 trains ", id="full size first"),
        pytest.param(BOTH_BN, "On NVIDIA H200: 2 step times of 2 nets, and no ratio", id="two BN nets are no answer"),
        pytest.param(trained(), "On A CPU: on digits none is as accurate for as few MACs as tiny-nfnet (", id="top-1"),
        pytest.param([result()], "On A CPU: 1 step time of 1 net, and no ratio measured in turns.", id="what there is"),
        pytest.param(
            [result(), result("resnet26", (0.1,))],
            "On A CPU: 2 step times (1 noisy) of 2 nets, and no ratio measured in turns.",
            id="what is noisy is no more than there",
        ),
    ],
)  # fmt: skip
def test_the_answer_is_the_ratio_that_says_most_else_what_there_is(results: list[Result], expected: str) -> None:
    assert report_headline.answer(shown(results)).startswith(expected)


def test_the_answer_gives_the_interval_and_what_the_paper_says_apart() -> None:
    answer = built(*F1_B7).parts[0].answer
    measured, paper = answer.split("; the paper says ")
    assert re.search(r"NFNet-F1 trains 5\.\d+ ± 0\.\d+ times as fast as EfficientNet-B7 \(both 224 px", measured)
    assert measured.endswith("(both 224 px, nhwc, batch 32)")
    assert (
        paper
        == "8.81 on TPUv3, 13.1 on V100, 8.70 in its text, at batch 32 a device and the px that each net trains at."
    )


def test_a_ratio_is_turned_so_that_the_normalizer_free_net_is_on_top() -> None:
    found = report_headline.headline(shown(TWIN).ratios)
    assert found is not None
    assert (found.net.workload.model, found.baseline.workload.model) == ("nfnet-f0", "bn-nfnet-f0")
    assert found.speedup.value == pytest.approx(2.0, rel=0.05)


def test_what_is_no_gpu_says_so() -> None:
    one = built(*turns("nf-resnet26", "resnet26", 0.8, machine=CPU)).parts[0]
    assert one.answer.endswith(NO_GPU)
    assert built(*F1_B7).parts[0].answer.count("says nothing") == 0


def test_the_fake_device_times_nothing_so_it_has_no_headline_and_judges_no_claim() -> None:
    (part,) = built(*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE, study="claims")).parts
    assert part.answer == "These are figures of the fake device, which times nothing."
    assert (part.judged, part.doubts) == ((), ())
    assert not [line for study in part.studies for line in study.sentences if "hold" in line]
    assert "Claims</h2>" not in page(built(*turns("nfnet-f1", "efficientnet-b7", 5.0, machine=FAKE)))


WILD = turns("nfnet-f1", "efficientnet-b7", 0.85, spread=0.12)
"""Its rounds differ so much that their interval reaches far over 1."""


def test_an_interval_that_reaches_over_1_names_neither_net_as_the_faster_one() -> None:
    answer = built(*WILD).parts[0].answer
    assert answer.startswith("On NVIDIA H200, bf16: cannot tell which trains faster, NFNet-F1 or EfficientNet-B7: ")
    assert re.search(r"EfficientNet-B7: 1\.0 ± 0\.2 times \(both 224 px", answer)
    assert "NFNet-F1 trains" not in answer
    same = built(*turns("nf-resnet26", "resnet26", 0.99)).parts[0].answer
    assert re.search(r"bf16: NF-ResNet26 and ResNet26 train about equally fast, 1\.0\d* ± 0\.0\d+ times \(both", same)


def test_of_equal_ratios_one_that_is_clear_of_1_is_the_answer() -> None:
    clear = turns("nf-resnet50", "resnet50", 0.8)
    open_ = turns("nf-resnet26", "resnet26", 0.85, spread=0.12)
    later = [msgspec.structs.replace(r, round=r.round + 4) for r in open_]
    # the more turns it has the more it would count
    found = report_headline.headline(shown([*open_, *later, *clear]).ratios)
    assert found is not None and found.net.workload.model == "nf-resnet50"
    few = [r for r in clear if r.round < 3]
    found = report_headline.headline(shown([*open_, *later, *few]).ratios)
    assert found is not None and found.net.workload.model == "nf-resnet26"  # without an interval nothing is clear


def test_fewer_than_four_rounds_have_a_figure_without_an_interval_and_say_what_is_needed() -> None:
    answer = built(*(r for r in F1_B7 if r.round < 3)).parts[0].answer
    assert re.search(r"NFNet-F1 against EfficientNet-B7: 5\.\d+ times as fast, without an interval \(both", answer)
    assert "; 4 rounds are needed for an interval: --rounds 4)" in answer and "±" not in answer


def test_what_is_doubtful_about_a_ratio_stands_under_the_answer_and_among_the_findings() -> None:
    report = built(*WILD)
    (part,) = report.parts
    assert [line.partition(" gave ")[0] for line in part.doubts] == ["nfnet-f1 against efficientnet-b7: 4 rounds"]
    assert part.doubts[0].endswith("wanted were ± 1.0 %. Take --rounds 8, or a quieter machine.")
    assert set(part.doubts) <= set(part.studies[0].findings)
    assert f"Doubtful: {part.doubts[0]}" in words_of_page(page(report))
    assert f"Doubtful: {part.doubts[0]}" in words_of_markdown(markdown(report))
    sound = turns("nfnet-f1", "efficientnet-b7", 5.0, sampling=Sampling(within=0.5))
    assert built(*sound).parts[0].doubts == ()


def clipped(agc: Any, net: str = "nfnet-f1", baseline: str = "efficientnet-b7", speedup: float = 5.0) -> list[Result]:
    """Rounds in which both sides were told the same λ."""
    found = turns(net, baseline, speedup)
    return [msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, agc=agc)) for r in found]


@pytest.mark.parametrize(
    ("agc", "said"),
    [
        ("none", r"NFNet-F1 with λ none trains [\d.]+ ± [\d.]+ times as fast as EfficientNet-B7 \("),
        (0.08, r"NFNet-F1 with λ 0.08 trains [\d.]+ ± [\d.]+ times as fast as EfficientNet-B7 with λ 0.08 \("),
        (0.01, r"NFNet-F1 trains [\d.]+ ± [\d.]+ times as fast as EfficientNet-B7 with λ 0.01 \("),
    ],
)
def test_a_threshold_that_is_not_a_nets_own_is_named_though_both_sides_have_it(agc: Any, said: str) -> None:
    answer = built(*clipped(agc)).parts[0].answer
    assert re.search(said, answer)
    # what the paper clips stands beside what clips nothing only in those words
    assert ("8.70 in its text, with its clip on, at batch 32" in answer) == (agc != 0.01)


def test_a_setting_of_one_side_and_a_threshold_of_both_are_named_together() -> None:
    found = clipped("none", "nf-resnet26", "resnet26", 0.8)
    sam = [
        msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, sam=0.05)) if r.step.model[0] == "n" else r
        for r in found
    ]
    assert "NF-ResNet26 with SAM 0.05, λ none trains " in built(*sam).parts[0].answer


def test_a_net_with_its_own_clip_is_the_answer_before_one_without() -> None:
    own = [msgspec.structs.replace(r, session="own") for r in turns("nfnet-f1", "efficientnet-b7", 3.0)[:4]]
    found = report_headline.headline(shown([*clipped("none"), *own]).ratios)
    assert found is not None and found.net.step.agc == "auto"


@pytest.mark.parametrize("field", ["batch", "world_size"])
def test_sides_that_share_their_batch_and_ranks_are_the_answer_before_any_that_do_not(field: str) -> None:
    uneven = [
        msgspec.structs.replace(r, workload=msgspec.structs.replace(r.step, **{field: 8}))
        if r.step.model == "nfnet-f1"
        else r
        for r in F1_B7
    ]
    found = report_headline.headline(shown([*uneven, *FREE]).ratios)
    assert found is not None and found.net.step.model == "nf-resnet26"
    alone = report_headline.headline(shown(uneven).ratios)
    assert alone is not None and alone.net.step.model == "nfnet-f1"


def test_of_one_pair_the_newest_software_is_the_answer_and_not_that_of_more_turns() -> None:
    older = msgspec.structs.replace(SOFTWARE, torch="2.7.0")
    many = turns("nfnet-f1", "efficientnet-b7", 3.0, software=older, session="old")
    new = [msgspec.structs.replace(r, start=f"2026-02-{r.start[8:]}") for r in F1_B7 if r.round < 2]
    found = report_headline.headline(shown([*many, *new], everything=True).ratios)
    assert found is not None and (found.turns, found.net.software) == (2, SOFTWARE)


def test_the_papers_batch_is_that_of_each_device() -> None:
    found = []
    for r in F1_B7:
        px = 224 if r.step.model == "nfnet-f1" else 600
        asked = msgspec.structs.replace(r.step, batch=256, world_size=8, px="train")
        found.append(msgspec.structs.replace(r, workload=asked, resolved=msgspec.structs.replace(BF16, px=px)))
    assert built(*found).parts[0].answer.endswith("8.70 in its text.")
