"""The nets by name, and one net in full.

The list imports no torch: its counts come from ``catalog/macs.csv``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from nfbench.catalog.macs import counted
from nfbench.catalog.models import NETS, Net, family, find
from nfbench.catalog.published import TABLE3, TIMM_IMAGENET, table3, top1, trained_otherwise
from nfbench.catalog.recipes import RECIPES
from nfbench.options import format_option
from nfbench.showing.tables import Column, Format, render
from nfbench.units import ABSENT, si


def _count(value: float | None) -> str:
    return si(value, "", 4).rstrip()


def _short(source: str | None) -> str:
    """A source in few words; the list's last line spells them out."""
    return (source or "").replace(TABLE3, "paper").replace(f"{TIMM_IMAGENET}, ", "timm ")


COLUMNS = (
    Column("model", "model", right=False),
    Column("family", "family", right=False),
    Column("norm", "norm", right=False),
    Column("train_px", "train px"),
    Column("test_px", "test px"),
    Column("params", "params", _count),
    Column("train_px_macs", "MACs, train", _count),
    Column("test_px_macs", "MACs, test", _count),
    Column("reported_top1", "top-1 %", lambda v: ABSENT if v is None else f"{v:.1f}"),
    Column("reported_px", "at px"),
    Column("source", "reported by", lambda v: _short(v), right=False),
)


def row(net: Net) -> dict[str, Any]:
    """One net of the catalogue as a row of the list; accuracy is reported, never measured."""
    at_train, at_test, reported = counted(net.name, net.train_px), counted(net.name, net.test_px), top1(net)
    return {
        "model": net.name,
        "family": net.family,
        "norm": net.norm,
        "train_px": net.train_px,
        "test_px": net.test_px,
        "params": at_train.params if at_train else None,
        "train_px_macs": at_train.macs if at_train else None,
        "test_px_macs": at_test.macs if at_test else None,
        "reported_top1": reported.top1 if reported else None,
        "reported_px": reported.px if reported else None,
        "source": reported.source if reported else None,
    }


SHEET = (
    Column("about", "", right=False),
    Column("what", "", right=False),
    Column("value", "", lambda v: v if isinstance(v, str) else _exact(v), right=False),
    Column("note", "", lambda v: v or "", right=False),
)

_KINDS = {
    "conv": "convolution weights",
    "linear": "linear weights",
    "norm": "norm weights",
    "gain": "gains",
    "skipinit": "SkipInit gains",
    "bias": "biases",
    "other": "other",
}


def _exact(value: float | None) -> str:
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return ABSENT if value is None else f"{value:g}"


def describe(net: Net) -> list[dict[str, Any]]:
    """One net in full, as rows of (about, what, value, note): built on the meta device, so nothing is allocated."""
    from nfbench.nets.build import build, norm_of, px_of

    module = build(net, device="meta")
    train_px, test_px = px_of(net)
    norm = net.norm or norm_of(module)
    return [
        _line("net", "family", net.family),
        _line("net", "norm", norm),
        _line("net", "built as", net.config, _kwargs(net)),
        _line("net", "dropout", net.drop_rate, "before the classifier"),
        _line("net", "drop path", net.drop_path_rate, _drop_path_rule(net)),
        *_counts(net, module, {"train px": train_px, "test px": test_px}),
        *_groups(module, RECIPES[net.recipe].weight_decay if net.recipe else None),
        *_clipping(module, norm),
        *_recipe(net),
        *_reported(net),
    ]


def _line(about: str, what: str, value: Any, note: str | None = None) -> dict[str, Any]:
    return {"about": about, "what": what, "value": value, "note": note}


def _kwargs(net: Net) -> str | None:
    if net.source == "catalogue":
        return "timm" + "".join(f", {key}={value}" for key, value in net.kwargs)
    return {"timm": "timm's own defaults", "factory": "your own"}[net.source]


def _drop_path_rule(net: Net) -> str | None:
    if not net.drop_path_rate:
        return None
    rule = "block i of n: rate · i / n"
    return f"{rule}, survivors not scaled" if net.norm == "none" else f"{rule}, survivors scaled by 1 / keep"


def _counts(net: Net, module: Any, sizes: dict[str, int]) -> list[dict[str, Any]]:
    from nfbench.nets.flops import count

    lines = []
    for what, px in sizes.items():
        counts = count(module, px, name=net.name)
        lines += [_line("size", what, px), _line("size", f"MACs at {px} px", counts.macs, "counted, one image")]
    return [*{line["what"]: line for line in lines}.values(), _line("size", "params", counts.params)]


def _groups(module: Any, decay: float | None) -> list[dict[str, Any]]:
    """Parameter groups: a tensor that is a vector once its size-1 dimensions are squeezed gets no weight decay."""
    totals: dict[tuple[str, bool], list[int]] = {}
    for owner in module.modules():
        for leaf, parameter in owner.named_parameters(recurse=False):
            decayed = sum(d > 1 for d in parameter.shape) > 1
            total = totals.setdefault((_kind(type(owner).__name__, leaf, parameter.dim()), decayed), [0, 0])
            total[0] += 1
            total[1] += parameter.numel()
    rate = "weight decay" if decay is None else f"weight decay {decay:g}"
    order = list(_KINDS)
    return [
        _line("parameters", _KINDS[kind], params, f"in {tensors} tensors; {rate if decayed else 'no weight decay'}")
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


def _clipping(module: Any, norm: str) -> list[dict[str, Any]]:
    """What AGC clips: the units of the reference, and of timm's function, which takes each gain for a unit."""
    from nfbench.nets.build import head_names

    head = sorted(name for name in head_names(module) if name.endswith("weight"))
    clipped = {name: tuple(p.shape) for name, p in module.named_parameters() if name not in head}
    units = sum(shape[0] if sum(d > 1 for d in shape) > 1 else 1 for shape in clipped.values())
    timm_units = sum(shape[0] if len(shape) > 1 else 1 for shape in clipped.values())
    default = "0.01" if norm == "none" else "none"
    on = "" if norm == "none" else "a net with normalization is clipped only with --agc X"
    return [
        _line("AGC", "λ without --agc", default, on),
        _line(
            "AGC", "clipped tensors", len(clipped), "every parameter but the classifier's weight; its bias is clipped"
        ),
        _line("AGC", "clipped units", units, "one norm an output unit; one for a vector: bias, gain, scalar"),
        _line("AGC", "with timm's function", timm_units, "which takes a norm for each element of a (C, 1, 1, 1) gain"),
        *(_line("AGC", "not clipped", name, "the classifier's weight") for name in head),
    ]


def _recipe(net: Net) -> list[dict[str, Any]]:
    if net.recipe is None:
        return [_line("recipe", "recipe", None, "none published here; step-time takes nfbench's SGD")]
    recipe = dataclasses.asdict(RECIPES[net.recipe])
    source = recipe.pop("source")
    notes = {"lr": "per 256 images of the batch", "agc": "λ", "weight_decay": "on weights only"}
    lines = [_line("recipe", key.replace("_", " "), value, notes.get(key)) for key, value in recipe.items()]
    return [_line("recipe", "recipe", net.recipe, source), *(line for line in lines if line["value"] is not None)]


def _reported(net: Net) -> list[dict[str, Any]]:
    """Published figures only; each with its source."""
    lines = []
    if paper := table3(net.name) or trained_otherwise(net.name):
        figures = {
            "MACs (10⁹)": paper.macs_g,
            "params (10⁶)": paper.params_m,
            "TPUv3 step, batch 32 a device, bf16 (ms)": paper.tpuv3_step_ms,
            "V100 step, batch 32, fp16 (ms)": paper.v100_step_ms,
        }
        source = paper.source + (f"; {paper.note}" if paper.note else "")
        lines = [_line("reported", what, value, source) for what, value in figures.items() if value is not None]
    if best := top1(net):
        at = f" at {best.px} px" if best.px else ""
        lines.append(_line("reported", f"ImageNet top-1{at} (%)", best.top1, best.source))
    return lines or [_line("reported", "figures", None, "none known")]


@click.command(short_help="The nets by name, and one net in full.")
@click.argument("name", required=False)
@click.option("--family", "of", metavar="FAMILY", help="Only this family, such as nfnet or tiny.")
@format_option
def command(name: str | None, of: str | None, format: Format) -> None:
    """The nets of the catalogue, or the net NAME in full: recipe, px, parameter groups, what AGC clips.

    NAME ignores case, - and _; timm:NAME is any of timm's, package.module:factory your own.
    """
    if name is not None:
        net = find(name)
        click.echo(render(SHEET, describe(net), format, title=net.name), nl=False)
        return
    click.echo(render(COLUMNS, [row(net) for net in (family(of) if of else NETS)], format), nl=False)
    if format in ("rich", "md"):
        click.echo(f"MACs are counted. Top-1 is reported: paper = {TABLE3}; timm = {TIMM_IMAGENET}.", err=True)
        click.echo("One net in full: nfbench models nfnet-f0", err=True)
