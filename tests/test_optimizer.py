"""Which parameter is decayed: listed for each family, and true of every net of the catalogue."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nfbench.catalog.models import NETS
from nfbench.nets.agc import agc_parameters
from nfbench.nets.build import build, head_names
from nfbench.nets.optimizer import build_optimizer, decay_of, decayed_names, optimizer_name, parameter_groups


@pytest.mark.parametrize("family", list(dict.fromkeys(net.family for net in NETS)))
def test_in_every_family_only_weights_of_layers_are_decayed_and_the_classifiers_is(family: str) -> None:
    net = build(next(n for n in NETS if n.family == family), device="meta")
    decayed = decayed_names(net)
    layers = {
        f"{name}.weight"
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear))
    }
    assert decayed == layers
    (head,) = [name for name in head_names(net) if name.endswith("weight")]
    clipped = {id(p) for p in agc_parameters(net)}
    assert head in decayed and id(net.get_parameter(head)) not in clipped


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([4, 8, 8])
        self.table = nn.Parameter(torch.zeros(9, 4))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 4))
        self.one = nn.Linear(4, 1)


def test_shapes_mislead_about_neither_norms_nor_biases_nor_weights() -> None:
    assert decayed_names(Odd()) == {"table", "one.weight"}


def test_the_decay_is_the_families_own_or_the_same_for_all_and_sgd_is_fused_where_the_device_has_it() -> None:
    recipes = ("nfnet", "bn-resnet", "efficientnet")
    assert [decay_of("sgd", recipe) for recipe in recipes] == [2e-5] * 3  # type: ignore[arg-type]
    assert [decay_of("recipe", recipe) for recipe in recipes] == [2e-5, 1e-4, 1e-5]  # type: ignore[arg-type]
    net = nn.Linear(2, 2)
    groups = build_optimizer(net, "sgd", "nfnet").param_groups
    assert all(g["fused"] and g["nesterov"] and g["momentum"] == 0.9 for g in groups)
    assert [g["weight_decay"] for g in groups] == [2e-5, 0.0]
    on_meta = build_optimizer(nn.Linear(2, 2, device="meta"), "sgd", "nfnet").param_groups
    assert all(g["foreach"] and not g["fused"] for g in on_meta)
    names = [optimizer_name("sgd", "nfnet", kind) for kind in ("cpu", "cuda", "meta")]
    assert names == ["sgd fused", "sgd fused", "sgd foreach"]
    assert isinstance(build_optimizer(net, "recipe", "efficientnet"), torch.optim.Optimizer)


def test_frozen_parameters_are_in_no_group() -> None:
    net = build("tiny-resnet-s", norm="frozen")
    held = {id(p) for group in parameter_groups(net, 1e-4) for p in group["params"]}
    assert held == {id(p) for p in net.parameters() if p.requires_grad} != {id(p) for p in net.parameters()}
