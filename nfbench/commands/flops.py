"""MACs, parameters and activations, counted from shapes.

Everything is counted on the meta device, one image at a time; no weight is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from nfbench import units
from nfbench.catalog.models import NETS, Net, find
from nfbench.catalog.published import reported_macs
from nfbench.errors import NfbenchError, UnsupportedWorkload
from nfbench.options import complete_nets, format_option
from nfbench.showing.screen import say, show
from nfbench.showing.tables import Column, Format, render


def _signed(value: float | None) -> str:
    return units.ABSENT if value is None else f"{100 * value:+.2f} %"


COLUMNS = (
    Column("model", "model", right=False),
    Column("px", "px"),
    Column("role", "px of", right=False, spare=1),
    Column("macs", "MACs", units.counted),
    Column("params", "params", units.counted),
    Column("activations", "activations", units.counted, spare=2),
    Column("train_macs", "MACs, forward + backward", units.counted),
    Column("reported_macs", "reported MACs", units.counted),
    Column("difference", "difference", _signed),
    Column("source", "source", right=False, spare=3),
)


def columns(train: bool) -> list[Column]:
    """The table's columns; forward + backward only where it was asked for."""
    return [c for c in COLUMNS if train or c.key != "train_macs"]


def sizes(net: Net, px: int | None) -> list[tuple[int, str]]:
    """(px, role) of each row: the px given, or the net's train and test px, one row where they are the same."""
    from nfbench.nets.build import px_of

    train_px, test_px = px_of(net)
    roles = {train_px: "train", test_px: "test"} if train_px != test_px else {train_px: "both"}
    return [(px, roles.get(px, "given"))] if px is not None else list(roles.items())


def rows(net: Net, px: int | None = None, train: bool = False) -> Iterator[dict[str, Any]]:
    """The counted rows of one net; ``difference`` is counted / reported − 1."""
    from nfbench.nets.flops import count_net

    asked = sizes(net, px)
    if px is not None and px <= 0:
        raise UnsupportedWorkload(
            f"{net.name} cannot run at {px} px.",
            why="px is the side of the square input.",
            try_=f"nfbench flops {net.name}",
        )
    counts = count_net(net, [side for side, _ in asked], train=train)
    for (side, role), counted in zip(asked, counts, strict=True):
        reported = reported_macs(net, side)
        yield {
            "model": net.name,
            "px": side,
            "role": role,
            "macs": counted.macs,
            "params": counted.params,
            "activations": counted.activations,
            "train_macs": counted.train_macs,
            "reported_macs": round(reported[0]) if reported else None,
            "difference": round(counted.macs / reported[0] - 1, 6) if reported else None,
            "source": reported[1] if reported else None,
            "note": counted.note or None,
        }


@click.command(short_help="MACs, parameters and activations, counted from shapes.")
@click.argument("models", nargs=-1, metavar="[MODEL]...", shell_complete=complete_nets)
@click.option("--all", "every", is_flag=True, help="Count every net of the catalogue.")
@click.option("--px", type=int, help="Side of the square input.  [default: the net's train and test px]")
@click.option("--train", is_flag=True, help="Count forward + backward too.")
@format_option
def command(models: tuple[str, ...], every: bool, px: int | None, train: bool, format: Format) -> None:
    """MACs, parameters and activations of each MODEL, counted from shapes.

    MACs are multiply-accumulates of one image (1 MAC = 2 FLOPs), what papers call FLOPs; activations are the output
    elements of convolutions and linear layers. Nothing is allocated.
    """
    if models and every:
        raise NfbenchError(f"--all counts every net, {models[0]} too.", try_=f"nfbench flops {models[0]}, or --all")
    if not models and not every:
        raise NfbenchError(
            "No model was named.",
            why="`nfbench models` lists them.",
            try_="nfbench flops nfnet-f0, or nfbench flops --all",
        )
    nets = dict.fromkeys([*(NETS if every else ()), *(find(name) for name in models)])
    found = [row for net in nets for row in rows(net, px, train)]
    show(render(columns(train), found, format), format)
    for note in dict.fromkeys(f"! {row['model']}: {row['note']}." for row in found if row["note"]):
        say(note)
