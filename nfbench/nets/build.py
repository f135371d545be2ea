"""A module from a name, with the dropout and stochastic depth of its training; random weights, no network."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, cast, get_args

import timm
import torch
from timm.layers.drop import DropPath
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from nfbench.catalog.models import Net, call_factory, factory_example, find, fold
from nfbench.errors import UnknownModel, UnsupportedWorkload, of_device, reason
from nfbench.nets.norm import Kind, is_norm, with_norm
from nfbench.nets.standardized import uncopied
from nfbench.nets.twin import batchnorm_twin
from nfbench.units import nearest

DEFAULT_PX = 224


def build(
    net: str | Net,
    *,
    num_classes: int = 1000,
    device: str | torch.device = "cpu",
    norm: str = "auto",
    px: int | None = None,
) -> nn.Module:
    """The net, in training mode, on ``device``. On ``meta`` nothing is allocated.

    ``px`` is the side of the image that gives lazy layers their sizes, by default the train px.

    ``norm`` is a `Kind` of normalization in the place of the net's batch normalization, or ``auto``: the net's own.

    Raises:
        UnknownModel: no such net, or no such factory.
        UnsupportedWorkload: the factory raises or returns something else than a module, the net cannot be built, or it
            cannot have that ``norm``.
    """
    net = find(net) if isinstance(net, str) else net
    if norm not in ("auto", *get_args(Kind)):
        raise UnsupportedWorkload(
            f"There is no normalization called {norm!r}.",
            why=f"The kinds are {', '.join(get_args(Kind))}.",
            try_="--norm auto for the net's own",
        )
    with torch.device(device), _RatesOnHost():
        own = net.source == "factory"
        module = _from_factory(net.config, num_classes) if own else _from_timm(net, num_classes, device)
        if any(map(is_lazy, (*module.parameters(), *module.buffers()))):
            _materialize(module, px or px_of(net)[0], device, net.name)
        if norm != "auto":
            module = with_norm(module, cast(Kind, norm), name=net.name)
    return module.train()


def shapes_of(net: str | Net, **given: Any) -> nn.Module:
    """The net as `build` makes it, on the meta device; on the CPU where its factory reads values while it builds."""
    net = find(net) if isinstance(net, str) else net
    try:
        return build(net, device="meta", **given)
    except UnsupportedWorkload:
        if net.source == "catalogue":
            raise
        with torch.random.fork_rng(devices=[]):
            return build(net, **given)


def px_of(net: str | Net) -> tuple[int, int]:
    """(train px, test px), from timm's own configuration for a ``timm:`` net; 224 for a factory's."""
    net = find(net) if isinstance(net, str) else net
    if net.train_px is not None:
        return net.train_px, net.test_px or net.train_px
    if net.source == "factory":
        return DEFAULT_PX, DEFAULT_PX
    config = timm.models.get_pretrained_cfg(_timm_name(net.config))
    train = config.input_size[-1] if config else DEFAULT_PX
    test = config.test_input_size[-1] if config and config.test_input_size else train
    return train, test


def head_names(module: nn.Module) -> frozenset[str]:
    """The names of the classifier's parameters: timm's ``get_classifier()``, else the last linear layer.

    That is the last of what the net calls its classifier, head or fc, where that has one; one inside of attention is
    none. A net without linear layers may have a convolution for it, the last of what it calls so.
    """
    returned: Any = None
    # somebody's own may be something else
    with contextlib.suppress(Exception):
        returned = module.get_classifier()  # type: ignore[operator]
    several = returned if isinstance(returned, (tuple, list)) else (returned,)  # distilled nets have two
    heads = [head for head in several if isinstance(head, nn.Module)]
    own = {id(p) for head in heads or _last_layer(module) for p in head.parameters()}
    return frozenset(name for name, p in module.named_parameters() if id(p) in own)


def _last_layer(module: nn.Module) -> Sequence[nn.Module]:
    named = [child for name, child in module.named_children() if name in ("classifier", "head", "heads", "fc")]
    called = [m for child in named for m in child.modules()]
    linear = (nn.Linear, nn.Bilinear)
    for places, kinds in ((called, linear), (module.modules(), linear), (called, (nn.Conv2d,))):
        layers = [m for m in places if isinstance(m, kinds) and not isinstance(m, NonDynamicallyQuantizableLinear)]
        if layers:
            return layers[-1:]
    return []


def head_weights(module: nn.Module) -> frozenset[str]:
    """Of `head_names` those that make its weight, which may be computed from several: all but a bias."""

    def of_bias(name: str) -> bool:
        # under a parametrization it is computed too
        return name.rpartition(".")[2] in ("bias", "bias_orig", "bias_g", "bias_v") or ".parametrizations.bias." in name

    return frozenset(name for name in head_names(module) if not of_bias(name))


def awaken(module: nn.Module) -> list[str]:
    """Set to 1 each gain that is zero throughout, which mutes its branch; return their names.

    A gain is SkipInit's scalar, a convolution's ``gain`` or the weight of a normalization layer. Biases, slopes of
    activations and the weights of convolutions and linear layers stay. Reads values: on the meta device none is zero.
    """
    awake = []
    for prefix, owner in module.named_modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            gain = leaf in ("gain", "skipinit_gain") or (leaf == "weight" and is_norm(owner))
            if gain and not parameter.is_meta and not parameter.detach().any():
                nn.init.ones_(parameter)
                awake.append(f"{prefix}.{leaf}" if prefix else leaf)
    return awake


@torch.no_grad()
def _materialize(module: nn.Module, px: int, device: str | torch.device, name: str) -> None:
    """Give lazy layers their sizes by one image of ``px`` × ``px``, in evaluation mode."""
    try:
        module.eval()(torch.zeros(1, 3, px, px, device=device))
    except Exception as error:
        if of_device(error):
            raise
        raise UnsupportedWorkload(
            f"The lazy layers of {name} get no sizes at {px} px.", why=reason(error), try_="another --px"
        ) from error


class _RatesOnHost(TorchFunctionMode):
    """``torch.linspace`` on the CPU: older timm reads its drop rates off one, which the meta device cannot give."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def _from_timm(net: Net, num_classes: int, device: str | torch.device) -> nn.Module:
    name = _timm_name(net.config) if net.source == "timm" else net.config
    arguments: dict[str, Any] = {"num_classes": num_classes, **dict(net.kwargs)}
    if net.drop_rate:
        arguments["drop_rate"] = net.drop_rate
    if net.drop_path_rate and net.scales_survivors:
        arguments["drop_path_rate"] = net.drop_path_rate
    try:
        module: Any = timm.create_model(name, pretrained=False, **arguments)
    except Exception as error:
        if of_device(error):
            raise
        raise UnsupportedWorkload(
            f"{net.name} cannot be built on {device} by timm {timm.__version__}.",
            why=reason(error),
            try_="another net: `nfbench models`",
        ) from error
    if net.drop_path_rate and not net.scales_survivors:
        _drop_paths(module, net.drop_path_rate)
    if net.twin_of:
        module = batchnorm_twin(module)
    elif net.source == "catalogue":
        uncopied(module)
    built: nn.Module = module
    return built


def _drop_paths(module: Any, rate: float) -> None:
    """Stochastic depth of google-deepmind/deepmind-research, nfnets: rate · i / n, survivors not scaled up.

    timm's own goes up to the full rate in the last block and divides by the probability to survive.
    """
    blocks = [block for stage in module.stages for block in stage]
    for i, block in enumerate(blocks):
        block.drop_path = DropPath(rate * i / len(blocks), scale_by_keep=False) if i else nn.Identity()


def _timm_name(name: str) -> str:
    """timm's spelling of ``name``, whose tag after a dot is kept."""
    name = timm.models.get_deprecated_models().get(name) or name
    base, dot, tag = name.partition(".")
    if not timm.is_model(base):
        spelled = {fold(known): known for known in timm.list_models()}
        if fold(base) not in spelled:
            near = [spelled[n] for n in nearest(fold(base), spelled, 3)]
            raise UnknownModel(
                f"timm {timm.__version__} has no model called {base!r}.",
                why=f"The nearest: {', '.join(near)}." if near else "None of its names is near it.",
                try_=f"timm:{near[0]}" if near else "python -c 'import timm; print(*timm.list_models())'",
            )
        base = spelled[fold(base)]
    if dot and base + dot + tag not in timm.list_pretrained(base + ".*"):
        raise UnknownModel(f"timm {timm.__version__} has no weights {name!r}.", try_=f"timm:{base}")
    return base + dot + tag


def _from_factory(name: str, num_classes: int) -> nn.Module:
    module = call_factory(name, num_classes)
    if not isinstance(module, nn.Module):
        raise UnsupportedWorkload(
            f"The factory {name} returned no torch.nn.Module.",
            why=f"It returned {type(module).__name__}.",
            try_=f"a callable that takes num_classes and returns a torch.nn.Module: {factory_example(name)}",
        )
    return module.train()
