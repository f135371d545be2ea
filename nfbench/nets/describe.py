"""One net in full: size, parameter groups, what AGC clips, recipe and reported figures."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from nfbench.catalog.models import Net
from nfbench.catalog.published import paper as paper_row
from nfbench.catalog.published import top1, trained_otherwise
from nfbench.catalog.recipes import RECIPES
from nfbench.nets.build import head_weights, px_of, shapes_of
from nfbench.nets.flops import count_net
from nfbench.nets.norm import norm_of
from nfbench.nets.optimizer import decayed_names

_KINDS = {
    "conv": "convolution weights",
    "linear": "linear weights",
    "norm": "norm weights",
    "gain": "gains",
    "skipinit": "SkipInit gains",
    "bias": "biases",
    "other": "other",
}


def describe(net: Net) -> list[dict[str, Any]]:
    """One net in full, as rows of (about, what, value, note): built on the meta device, so nothing is allocated."""
    module = shapes_of(net)
    train_px, test_px = px_of(net)
    norm = net.norm or norm_of(module)
    return [
        _line("net", "family", net.family),
        _line("net", "norm", norm),
        _line("net", "built as", net.config, _kwargs(net)),
        _line("net", "dropout", net.drop_rate, "before the classifier"),
        _line("net", "drop path", net.drop_path_rate, _drop_path_rule(net)),
        *_counts(net, {"train px": train_px, "test px": test_px}),
        *_groups(module, RECIPES[net.recipe].weight_decay if net.recipe else None),
        *_clipping(module, norm),
        *_recipe(net),
        *_reported(net),
    ]


def _line(about: str, what: str, value: Any, note: str | None = None) -> dict[str, Any]:
    return {"about": about, "what": what, "value": value, "note": note}


def _kwargs(net: Net) -> str | None:
    if net.source == "catalogue":
        twin = f", the batch-normalized twin of {net.twin_of}" if net.twin_of else ""
        return "timm" + "".join(f", {key}={value}" for key, value in net.kwargs) + twin
    return {"timm": "timm's own defaults", "factory": "your own"}[net.source]


def _drop_path_rule(net: Net) -> str | None:
    if not net.drop_path_rate:
        return None
    rule = "block i of n: rate · i / n"
    return f"{rule}, survivors scaled by 1 / keep" if net.scales_survivors else f"{rule}, survivors not scaled"


def _counts(net: Net, sizes: dict[str, int]) -> list[dict[str, Any]]:
    lines = []
    for (what, px), counts in zip(sizes.items(), count_net(net, list(sizes.values())), strict=True):
        lines += [
            _line("size", what, px),
            _line("size", f"MACs at {px} px", counts.macs, counts.note or "counted, one image"),
        ]
    return [*{line["what"]: line for line in lines}.values(), _line("size", "params", counts.params)]


def _groups(module: nn.Module, decay: float | None) -> list[dict[str, Any]]:
    """Parameter groups, by kind of parameter."""
    totals: dict[tuple[str, bool], list[int]] = {}
    names = decayed_names(module)
    for prefix, owner in module.named_modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            decayed = (f"{prefix}.{leaf}" if prefix else leaf) in names
            total = totals.setdefault((_kind(type(owner).__name__, leaf, parameter.dim()), decayed), [0, 0])
            total[0] += 1
            total[1] += parameter.numel()
    rate = "weight decay" if decay is None else f"weight decay {decay:g}"
    order = list(_KINDS)
    return [
        _line(
            "parameters",
            _KINDS[kind],
            params,
            f"in {tensors} tensor{'s' * (tensors != 1)}; {rate if decayed else 'no weight decay'}",
        )
        for (kind, decayed), (tensors, params) in sorted(totals.items(), key=lambda item: order.index(item[0][0]))
    ]


def _kind(owner: str, leaf: str, dims: int) -> str:
    if leaf in ("gain", "bias"):
        return leaf
    if leaf == "skipinit_gain":
        return "skipinit"
    if leaf != "weight":
        return "other"
    if "Conv" in owner and dims > 2:
        return "conv"
    return "linear" if dims == 2 else "norm" if dims == 1 else "other"


def _clipping(module: nn.Module, norm: str) -> list[dict[str, Any]]:
    """What AGC clips: the units of the reference, and of timm's function, which takes each gain for a unit."""
    head = sorted(head_weights(module))
    clipped = {name: tuple(p.shape) for name, p in module.named_parameters() if name not in head}
    units = sum(shape[0] if sum(d > 1 for d in shape) > 1 else 1 for shape in clipped.values())
    timm_units = sum(shape[0] if len(shape) > 1 else 1 for shape in clipped.values())
    default = "0.01" if norm == "none" else "none"
    on = "" if norm == "none" else "normalized nets are clipped only with --agc X"
    return [
        _line("AGC", "default λ", default, on),
        _line("AGC", "clipped tensors", len(clipped), "all but the classifier's weight; its bias is one"),
        _line("AGC", "clipped units", units, "a norm for each output unit, one for a whole vector"),
        _line("AGC", "with timm's function", timm_units, "units; each element of a (C, 1, 1, 1) gain is one"),
        *(_line("AGC", "not clipped", name, "the classifier's weight") for name in head),
    ]


def _recipe(net: Net) -> list[dict[str, Any]]:
    if net.recipe is None:
        return [_line("recipe", "recipe", None, "none published here; step-time takes nfbench's SGD")]
    recipe = dataclasses.asdict(RECIPES[net.recipe])
    source, published = recipe.pop("source"), recipe.pop("augmentation")
    layers, magnitude = recipe.pop("randaugment")
    for name in ("decay_rate", "decay_epochs") if recipe["schedule"] != "exponential" else ():
        del recipe[name]
    for name in ("alpha", "eps") if recipe["optimizer"] != "rmsproptf" else ():
        del recipe[name]
    if net.norm != "none":
        recipe["agc"] = None  # a twin is trained as its NF net is, but for the clip
    augment = {"randaugment": "RandAugment", "nfnet": "RandAugment, MixUp, CutMix"}.get(recipe["augment"])
    if augment:
        augment = augment.replace("RandAugment", f"RandAugment of {layers} layers at magnitude {magnitude:g}")
    notes = {
        "optimizer": "timm's name",
        "lr": "per 256 images of the batch",
        "agc": "λ",
        "weight_decay": "on weights only",
        "ema": "min of it and (1 + t) / (10 + t)",
        "augment": f"{augment}; published with {published}" if published else augment or "random crop and flip",
        "mixup": "α, on half of the batch",
        "cutmix": "α, on the other half",
    }
    lines = [_line("recipe", key.replace("_", " "), value, notes.get(key)) for key, value in recipe.items()]
    return [_line("recipe", "recipe", net.recipe, source), *(line for line in lines if line["value"])]


def _reported(net: Net) -> list[dict[str, Any]]:
    """Published figures only; each with its source."""
    lines = []
    if paper := paper_row(net.name) or trained_otherwise(net.name):
        figures = {
            "MACs (10⁹)": paper.macs_g,
            "params (10⁶)": paper.params_m,
            "TPUv3 step (ms)": paper.tpuv3_step_ms,
            "V100 step (ms)": paper.v100_step_ms,
        }
        source = paper.source + (f"; {paper.note}" if paper.note else "")
        lines = [_line("reported", what, value, source) for what, value in figures.items() if value is not None]
    if best := top1(net):
        at = f" at {best.px} px" if best.px else ""
        lines.append(_line("reported", f"ImageNet top-1{at} (%)", best.top1, best.source))
    return lines or [_line("reported", "figures", None, "none known")]
