"""The catalogue and `nfbench models`."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner, Result

from nfbench.catalog.models import ALIASES, FAMILIES, NETS, batch_normalized, counted, find, fold, normalizer_free
from nfbench.catalog.recipes import RECIPES
from nfbench.cli import main
from nfbench.errors import UnknownModel


def nfbench(*args: str) -> Result:
    return CliRunner().invoke(main, ["models", *args])


def test_no_two_names_are_the_same_without_case_dashes_and_underscores() -> None:
    names = [fold(net.name) for net in NETS] + [fold(alias) for alias in ALIASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("typed", "name", "twin_of"),
    [
        ("NFNet-F0", "nfnet-f0", None),
        ("nfnet_f0", "nfnet-f0", None),
        ("BN_NFNet_F0", "bn-nfnet-f0", "nfnet-f0"),
        ("timm-efficientnet-b0", "timm-efficientnet-b0", None),
    ],
)
def test_a_name_ignores_case_dashes_and_underscores(typed: str, name: str, twin_of: str | None) -> None:
    assert (find(typed).name, find(typed).twin_of) == (name, twin_of)


def test_any_timm_net_and_any_factory_is_a_net_without_being_imported() -> None:
    assert (find("timm:resnet18").source, find("timm:resnet18").config) == ("timm", "resnet18")
    assert (find("no.such.module:net").source, find("no.such.module:net").config) == ("factory", "no.such.module:net")


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("bn-nfnet-f7", "bn-nfnet-f6"), ("nfnet-f8", "nfnet-f7"), ("nfnet-f0-base", "nfnet-f0-baseline")],
)
def test_the_nearest_name_is_of_the_family_that_was_typed(typed: str, nearest: str) -> None:
    with pytest.raises(UnknownModel, match=f"There is no net called '{typed}'.\nThe nearest: {nearest}, "):
        find(typed)


@pytest.mark.parametrize(
    ("normalized", "free"),
    [
        ("bn-nf-resnet50", "nf-resnet50"),
        ("ResNet_101", "nf-resnet101"),
        ("efficientnet-b0", None),
        ("nf-resnet50", None),
        ("timm:resnet50", None),
    ],
)
def test_a_normalized_net_pairs_with_its_nf_net(normalized: str, free: str | None) -> None:
    found = normalizer_free(normalized)
    assert (found and found.name) == free


def test_an_nf_net_pairs_with_its_twin_before_its_resnet() -> None:
    names = ("nf-resnet50", "nf-resnet101", "NFNet_F3", "nfnet-f7", "resnet50", "timm:nf_resnet50")
    pairs = [batch_normalized(name) for name in names]
    assert [net and net.name for net in pairs] == ["bn-nf-resnet50", "resnet101", "bn-nfnet-f3", None, None, None]


def test_the_ladder_climbs_to_the_nfnet_in_macs() -> None:
    for i in range(4):
        rungs = [counted(f"nfnet-f{i}{rung}", find(f"nfnet-f{i}").train_px) for rung in ("-baseline", "-width", "")]
        macs = [rung.macs for rung in rungs if rung]
        assert len(macs) == 3 and macs == sorted(set(macs))


def test_an_nf_resnet_has_the_macs_of_its_resnet() -> None:
    for depth in (26, 50, 101, 152, 200):
        free, normalized = counted(f"nf-resnet{depth}", 224), counted(f"resnet{depth}", 224)
        assert free and normalized and free[::2] == normalized[::2]


@pytest.mark.parametrize("name", ["", "zzz", "timm:", ":", "a:b:c", "a b:c"])
def test_a_name_near_to_nothing_says_where_the_names_are(name: str) -> None:
    with pytest.raises(UnknownModel, match="`nfbench models` for all names"):
        find(name)


def test_every_net_is_counted_at_both_sizes_and_has_a_recipe() -> None:
    for net in NETS:
        assert counted(net.name, net.train_px) and counted(net.name, net.test_px)
        assert net.recipe in RECIPES


def test_the_list_has_a_row_for_each_net_and_its_columns_by_name() -> None:
    rows = list(csv.DictReader(io.StringIO(nfbench("--format", "csv").stdout)))
    assert [row["model"] for row in rows] == [net.name for net in NETS]
    f0 = rows[0]
    assert (f0["family"], f0["norm"], f0["train_px"], f0["test_px"]) == ("nfnet", "none", "192", "256")
    assert (f0["params"], f0["train_px_macs"], f0["test_px_macs"]) == ("71489284", "6977003520", "12384198656")
    assert (f0["reported_top1"], f0["source"]) == ("83.6", "arXiv 2102.06171, Table 3")


def test_a_family_lists_its_nets_alone() -> None:
    rows = json.loads(nfbench("--family", "NFNET", "--format", "json").stdout)
    assert [row["model"] for row in rows] == [f"nfnet-f{i}" for i in range(8)]
    assert all(FAMILIES.count(net.family) == 1 for net in NETS)


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ("--family resnets", "There is no family called 'resnets'.\nThe families are nfnet, nfnet-light, nf-regnet,"),
        ("nfnet-f0 --family nfnet", "A NAME and a --family were given.\nTry: nfbench models nfnet-f0\n"),
        ("nfnet-f9", "There is no net called 'nfnet-f9'.\nThe nearest: nfnet-f"),
    ],
)
def test_what_is_not_there_is_answered_in_words(args: str, answer: str) -> None:
    done = nfbench(*args.split())
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(answer)


def _sheet(name: str) -> dict[tuple[str, str], tuple[object, str]]:
    rows = json.loads(nfbench(name, "--format", "json").stdout)
    return {(row["about"], row["what"]): (row.get("value"), row.get("note", "")) for row in rows}


def test_one_net_in_full_has_its_recipe_sizes_groups_and_reported_figures() -> None:
    sheet = _sheet("NFNet_F0")
    assert sheet["recipe", "recipe"][0] == "nfnet"
    assert sheet["recipe", "weight decay"][0] == 2e-5
    assert (sheet["net", "dropout"][0], sheet["net", "drop path"][0]) == (0.2, 0.25)
    assert sheet["size", "MACs at 192 px"][0] == 6977003520
    assert sheet["reported", "V100 step (ms)"] == (56.7, "arXiv 2102.06171, Table 3")
    groups = {what: value for (about, what), value in sheet.items() if about == "parameters"}
    assert sum(int(str(params)) for params, _ in groups.values()) == sheet["size", "params"][0]
    without = {what for what, (_, note) in groups.items() if "no weight decay" in note}
    assert without == {"gains", "SkipInit gains", "biases"}


def test_agc_clips_all_but_the_classifier_s_weight_and_by_default_nf_nets_alone() -> None:
    nf, bn = _sheet("tiny-nfnet"), _sheet("tiny-resnet")
    assert nf["AGC", "not clipped"][0] == "head.fc.weight"
    assert bn["AGC", "not clipped"][0] == "fc.weight"
    assert (nf["AGC", "default λ"][0], bn["AGC", "default λ"][0]) == ("0.01", "none")


@pytest.mark.parametrize("size", ["-s", "", "-l"])
def test_tiny_resnets_cost_what_tiny_nf_resnets_of_their_topology_cost(size: str) -> None:
    resnet, nf = counted(f"tiny-resnet{size}", 32), counted(f"tiny-nf-resnet{size}", 32)
    assert resnet and nf
    assert abs(resnet.macs / nf.macs - 1) < 0.01 and abs(resnet.params / nf.params - 1) < 0.01


def test_a_timm_net_is_shown_with_timm_s_sizes_and_what_it_is_built_of() -> None:
    sheet = _sheet("timm:test_resnet")
    assert sheet["size", "train px"][0] == 160
    assert sheet["net", "norm"][0] == "batch"
    assert sheet["reported", "figures"] == (None, "none known")
