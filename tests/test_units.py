from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nfbench import units
from nfbench.errors import BadStudy


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (units.seconds(0.0123), "12.30 ms"),
        (units.seconds(59.96), "59.96 s"),
        (units.seconds(125), "2 min 05 s"),
        (units.seconds(3725), "1 h 02 min"),
        (units.seconds(None), "–"),
        (units.seconds(0), "0 s"),
        (units.si(0.9999, "s"), "1.00 s"),
        (units.si(12.38e9, "MAC"), "12.4 GMAC"),
        (units.bytes_(2**30), "1.00 GiB"),
        (units.bytes_(512), "512 B"),
        (units.percent(0.123), "12.3 %"),
        (units.percent(0), "0 %"),
        (units.number(12345.6), "12,346"),
        (units.number(23.456), "23.46"),
        (units.plus_minus(1.1234, 0.0123), "1.123 ± 0.012"),
        (units.plus_minus(1.1234, 0.0323), "1.12 ± 0.03"),
        (units.plus_minus(1.1234, 0), "1.123"),
        (units.plus_minus(0.75, 1e-16), "0.7500"),
    ],
)
def test_quantities_read_as_a_person_would_write_them(shown: str, wanted: str) -> None:
    assert shown == wanted


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((1.12, 1.11, 1.13), "1.120 ± 0.010"),
        ((0.5, 0.0027, 92.0), "0.50 (0.0027 to 92)"),
        ((0.5, None, None), "0.500"),
        ((0.75, 0.75, 0.75), "0.7500"),
        ((-0.3, -27.3, 26.7), "0 ± 27"),
        ((-4.2, -6.2, -2.2), "−4 ± 2"),
    ],
)
def test_an_uneven_interval_is_told_by_its_ends(ends: tuple[float, float | None, float | None], wanted: str) -> None:
    assert units.interval(*ends) == wanted


def test_a_minus_is_a_minus_and_no_zero_has_one() -> None:
    assert units.minus("-0.3 to -0, -0.0 and -0.05, 2e-07, nf-resnet50 a-1") == (
        "−0.3 to 0, 0.0 and −0.05, 2e-07, nf-resnet50 a-1"
    )


@pytest.mark.parametrize("value", [1e300, -1e300, 1e15, 1e-300, 1e-15, 1.7e308])
@pytest.mark.parametrize("unit", [units.seconds, units.bytes_, units.percent, units.number, lambda v: units.si(v, "J")])
def test_what_no_clock_and_no_scale_gives_is_short_all_the_same(value: float, unit: Callable[[float], str]) -> None:
    assert len(unit(value)) < 24


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
@pytest.mark.parametrize("unit", [units.seconds, units.bytes_, units.percent, units.number, lambda v: units.si(v, "J")])
def test_what_is_no_number_is_absent(value: float | None, unit: Callable[[float | None], str]) -> None:
    assert unit(value) == units.ABSENT


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (units.seconds(1e300), "1.000e+300 s"),
        (units.si(2.5e15, "FLOP"), "2.50 PFLOP"),
        (units.si(3e21, "FLOP"), "3.00e+21 FLOP"),
        (units.significant(999_999_999_999.0, 3), "999999999999"),
        (units.significant(1e300), "1.00e+300"),
        (units.plus_minus(1e300, 2e299), "1.00e+300 ± 2e+299"),
    ],
)
def test_beyond_the_prefixes_there_is_an_exponent(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_names_and_counts_read_as_a_person_would_write_them() -> None:
    assert [units.plural(n, "row") for n in (0, 1, 2, 3.0)] == ["0 rows", "1 row", "2 rows", "3 rows"]
    assert units.first_few(["a", "b"], 2) == "a, b"
    assert units.first_few([*"abcd"], 2) == "a, b and 2 more"


@pytest.mark.parametrize("longest", [7, 80])
def test_a_strangers_text_is_one_short_line_with_both_its_ends(longest: int) -> None:
    shown = units.shorten("a\x1b\n" + "x" * 10**6 + "z", longest)
    assert len(shown) == longest and shown.isprintable()
    assert shown[0] == "a" and "…" in shown and shown[-1] == "z"
    assert units.shorten("x" * longest, longest) == "x" * longest


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("NVIDIA H200", "nvidia-h200"),
        ("NVIDIA H200 MIG 1g.18gb", "nvidia-h200-mig-1g-18gb"),
        ("AMD EPYC™ 9654", "amd-epyctm-9654"),
        ("", "unknown"),
        ("..", "unknown"),
        ("../../etc", "etc"),
        ("a/b\\c:d\0e\nf", "a-b-c-d-e-f"),
        ("Привет", "unknown"),
        ("-" * 300, "unknown"),
        ("x" * 59 + " y" * 100, "x" * 59),
    ],
)
def test_a_slug_is_a_safe_folder_name(name: str, folder: str) -> None:
    assert units.slug(name) == folder
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", units.slug("!a" * 100))


def test_an_unknown_name_is_refused_with_the_nearest_or_with_those_that_there_are() -> None:
    names = ("speedup", "phases")
    units.known("phases", names, BadStudy, "unused")
    with pytest.raises(BadStudy) as near:
        units.known("speedpu", names, BadStudy, "There is no figure 'speedpu'.")
    assert str(near.value) == "There is no figure 'speedpu'.\nThe nearest is speedup.\nTry: speedup"
    with pytest.raises(BadStudy) as far:
        units.known("x" * 10**6, names, BadStudy, "No.", "nfbench plot")
    assert str(far.value) == "No.\nThere are: speedup, phases.\nTry: nfbench plot"


def test_a_path_that_leads_nowhere_is_still_a_path(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert units.resolved(tmp_path / "loop" / "x") == tmp_path.resolve() / "loop" / "x"
    assert units.expanded("~no-such-user/x") == Path("~no-such-user/x")
    assert units.expanded("~/x") == Path.home() / "x"


def test_numbers_with_more_digits_than_anybody_reads_are_short() -> None:
    assert [units.as_typed(value) for value in (-1, 0.25, 10**6)] == ["-1", "0.25", "1000000"]
    assert len(units.as_typed(-(10**400))) <= units.LONGEST


def test_what_is_grouped_keeps_its_order() -> None:
    assert units.grouped([3, 1, 4, 6, 5], lambda n: n % 2) == {1: [3, 1, 5], 0: [4, 6]}
    assert list(units.grouped([4, 1, 3], lambda n: n % 2)) == [0, 1]


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_not_collected_inside_and_after_it_as_before(collects: bool) -> None:
    assert gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(KeyError), units.no_collection(collect=True):
            assert not gc.isenabled()
            raise KeyError
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_a_ratio_that_spans_more_than_a_factor_of_two_is_too_noisy_to_say() -> None:
    assert units.ratio(1.6, 1.5, 1.7) == "1.60 ± 0.10"
    assert units.ratio(0.8, 0.45, 1.3) == "too noisy to say (0.45 to 1.3)"
    assert units.ratio(0.8) == "0.800"


def test_no_share_above_100_per_cent_stands_after_a_plus_minus() -> None:
    assert units.seconds_interval(0.01, 0.005, 0.015) == "10.00 ms ± 50 %"
    assert units.seconds_interval(0.01, 0.002, 0.04) == "10 ms (2.0 ms to 40 ms)"
