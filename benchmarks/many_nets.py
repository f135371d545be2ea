"""Whether nfbench counts, times, converts and clips the nets that people have: one of each family of timm, and
torchvision's classification nets, of at most 25 M parameters.

uv run python benchmarks/many_nets.py

Each net has a process of its own. Stopped, the same command goes on where it was; ``--net NAME`` tries one. A refusal
in words counts as run.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from evidence import add_out

from nfbench.catalog.models import find
from nfbench.devices import open_device
from nfbench.errors import NfbenchError
from nfbench.measuring.measure import measure
from nfbench.nets.build import build, px_of
from nfbench.nets.convert import normalizer_free
from nfbench.nets.flops import count_net
from nfbench.records import Result, Sampling, StepTime

MOST_PARAMETERS = 25e6
SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 299, 384)
PATIENCE = 300
"""Seconds for one net."""
TOLERANCE = 0.02
COLUMNS = ("net", "px", "macs", "published", "difference", "flops", "step_time", "group", "normalizer_free")
TRIED = COLUMNS[5:]


def nets() -> Iterator[str]:
    """The nets' names: of each module of timm the first that is small enough, then torchvision's."""
    for family in timm.list_modules():
        for name in timm.list_models(module=family):
            if _is_small(lambda: timm.create_model(name, pretrained=False)):  # noqa: B023 - called at once
                yield f"timm:{name}"
                break
    for name in torchvision.models.list_models(module=torchvision.models):
        weights = torchvision.models.get_model_weights(name)
        if weights.DEFAULT.meta["num_params"] <= MOST_PARAMETERS:
            yield f"torchvision.models:{name}"


def _is_small(make: Callable[[], Any]) -> bool:
    try:
        with torch.device("meta"):
            return int(sum(p.numel() for p in make().parameters())) <= MOST_PARAMETERS
    except Exception:  # one that reads values while it is built; the next of its family may not
        return False


def tried(work: Callable[[], object]) -> str:
    """How ``work`` ended: ok, the words of a refusal, or a fault."""
    try:
        work()
    except (NfbenchError, ValueError) as error:
        return f"refused: {' '.join(str(error).split())[:200]}"
    except Exception as error:
        return f"FAULT: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "ok"


def row(name: str) -> dict[str, Any]:
    """The row of one net: its smallest px of `SIDES` or its own, its MACs at the published px, and what was tried."""
    net, device = find(name), open_device("cpu")
    macs, published = published_macs(name)
    found: dict[str, Any] = {"net": name, "macs": macs, "published": published}
    if macs and published:
        found["difference"] = round(macs / published - 1, 4)
    found["px"] = next((px for px in SIDES if tried(lambda: count_net(net, [px])) == "ok"), px_of(net)[0])  # noqa: B023

    def timed(norm: str) -> None:
        kept: list[Result] = []
        workload = StepTime(model=net.name, px=found["px"], batch=2, norm=norm, layout="nhwc")  # type: ignore[arg-type]
        measure(device, workload, Sampling(max_time=0.5, min_steps=1), kept.append)
        if kept[0].status not in ("ok", "diverged"):
            raise RuntimeError(f"{kept[0].status}: {kept[0].message}")
        if kept[0].value("macs") is None and "macs" not in kept[0].notes:
            raise RuntimeError("its MACs are absent without a word")

    found["flops"] = tried(lambda: count_net(net, [found["px"]], train=True))
    found["step_time"] = tried(lambda: timed("auto"))
    found["group"] = tried(lambda: timed("group"))
    found["normalizer_free"] = tried(lambda: normalizer_free(build(net)))
    return found


def published_macs(name: str) -> tuple[int | None, float | None]:
    """MACs as counted and as torchvision publishes them, at the px of its weights; nothing of other nets."""
    if not name.startswith("torchvision"):
        return None, None
    weights = torchvision.models.get_model_weights(name.partition(":")[2]).DEFAULT
    (side,) = weights.transforms().crop_size
    (counts,) = count_net(find(name), [side])
    return counts.macs, 1e9 * weights.meta["_ops"]


def main() -> None:
    """Try the nets, write a line of each, and print what is not right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", help="print the row of this one")
    add_out(parser, "nets")
    args = parser.parse_args()
    if args.net is not None:
        print(json.dumps(row(args.net)))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "nets.csv"
    rows = list(csv.DictReader(file.open(encoding="utf-8", newline=""))) if file.exists() else []
    done = {r["net"] for r in rows}
    for name in nets():
        if name not in done:
            rows.append(in_a_process(name))
            print(", ".join(f"{key} {rows[-1][key]}" for key in ("net", *TRIED))[:200], flush=True)
            write(file, rows)
    wrong = [r for r in rows if any(str(r[what]).startswith("FAULT") for what in TRIED)]
    off = [r for r in rows if r["difference"] not in ("", None) and abs(float(r["difference"])) > TOLERANCE]
    print(f"{len(rows)} nets: {len(wrong)} with a fault, {len(off)} more than {TOLERANCE:.0%} off what is published.")
    for r in wrong:
        print(f"{r['net']}: " + "; ".join(f"{what} {r[what]}" for what in TRIED if str(r[what]).startswith("FAULT")))
    for r in off:
        print(f"{r['net']}: {float(r['difference']):+.1%} of the published MACs")


def in_a_process(name: str) -> dict[str, Any]:
    """The row of a net from a process of its own; of one that dies or hangs all is a fault."""
    command = [sys.executable, __file__, "--net", name]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        made: dict[str, Any] = json.loads(printed.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        made = {"net": name} | dict.fromkeys(TRIED, f"FAULT: {type(error).__name__}")
    return dict.fromkeys(COLUMNS) | made


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """All rows, in the place of the file."""
    part = file.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(file)


if __name__ == "__main__":
    main()
