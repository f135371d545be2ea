"""The nets by name, and one net in full.

The list imports no torch: its counts come from ``catalog/macs.csv``.
"""

from __future__ import annotations

from typing import Any

import click

from nfbench import units
from nfbench.catalog.models import NETS, Net, counted, family, find
from nfbench.catalog.published import PAPER, TIMM_IMAGENET, top1
from nfbench.errors import NfbenchError
from nfbench.options import NumberOr, complete_nets, format_option
from nfbench.showing.screen import say, show
from nfbench.showing.tables import Column, Format, render


def _short(source: str | None) -> str:
    """A source in few words, timm's by the tag of its weights; the list's last lines spell them out."""
    source = source or ""
    if source.startswith(TIMM_IMAGENET):
        return f"timm {source.rpartition('.')[2]}"
    return source.replace(PAPER, "paper")


COLUMNS = (
    Column("model", "model", right=False),
    Column("family", "family", right=False),
    Column("norm", "norm", right=False, spare=1),
    Column("train_px", "train px"),
    Column("test_px", "test px"),
    Column("params", "params", units.counted),
    Column("train_px_macs", "MACs, train", units.counted, spare=2),
    Column("test_px_macs", "MACs, test", units.counted),
    Column("reported_top1", "top-1 %", lambda v: units.ABSENT if v is None else f"{v:.1f}"),
    Column("reported_px", "at px", spare=3),
    Column("source", "reported by", _short, right=False, spare=4),
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
    Column("about", "about", right=False),
    Column("what", "what", right=False),
    Column("value", "value", lambda v: v if isinstance(v, str) else _exact(v), right=False),
    Column("note", "note", lambda v: v or "", right=False, spare=1),
)


def _exact(value: float | None) -> str:
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return units.ABSENT if value is None else f"{value:g}"


@click.command(short_help="The nets by name, and one net in full.")
@click.argument("name", required=False, shell_complete=complete_nets)
@click.option("--family", "of", metavar="FAMILY", help="Only this family, such as nfnet or tiny.")
@click.option("--dependence", is_flag=True, help="Measure how NAME's images depend on their batch.")
@click.option("--batch", type=int, help="Images, with --dependence.  [default: 8]")
@click.option("--px", type=int, help="Side of the images, with --dependence.  [default: 64 at most]")
@click.option("--agc", type=NumberOr(float, "auto", "none"), help="λ, with --dependence.  [default: auto]")
@click.option("--seed", type=int, help="Of weights and images, with --dependence.  [default: 0]")
@format_option
def command(name: str | None, of: str | None, dependence: bool, format: Format, **measured: Any) -> None:
    """The nets of the catalogue, or the net NAME in full: recipe, px, parameter groups, what AGC clips.

    NAME ignores case, - and _; timm:NAME is any of timm's, package.module:factory your own.
    """
    if name is not None and of is not None:
        raise NfbenchError("A NAME and a --family were given.", try_=f"nfbench models {name}")
    given = {key: value for key, value in measured.items() if value is not None}
    if dependence:
        _dependence(name, given, format)
        return
    if given:
        flags = [f"--{key} {value}" for key, value in given.items()]
        raise NfbenchError(
            f"{flags[0]} needs --dependence.",
            why="Nothing else here runs a net.",
            try_=f"nfbench models {name or 'nfnet-f0'} --dependence {' '.join(flags)}",
        )
    if name is not None:
        from nfbench.nets.describe import describe

        net = find(name)
        show(render(SHEET, describe(net), format, title=net.name), format)
        return
    show(render(COLUMNS, [row(net) for net in (family(of) if of else NETS)], format), format)
    if format in ("rich", "md"):
        say(f"MACs are counted. Top-1 is reported: paper = {PAPER}; timm = its results-imagenet.csv, by weights.")
        say("One net in full: nfbench models nfnet-f0")


def _dependence(name: str | None, given: dict[str, Any], format: Format) -> None:
    if name is None:
        raise NfbenchError(
            "--dependence needs the NAME of a net.",
            why="It runs that net; `nfbench models` lists them.",
            try_="nfbench models nfnet-f0 --dependence",
        )
    from nfbench.nets.dependence import dependence_of, sentences
    from nfbench.showing.views import CHANGES, view

    net = find(name)
    figures = dependence_of(net, **given)
    row = {"kind": "dependence", "model": net.name, "status": "ok", "batch": given.get("batch", 8), **figures}
    show(view([row], "dependence", format), format)
    if format in ("rich", "md"):
        click.echo("\n" + "\n".join(sentences(figures)))
        say(CHANGES)
