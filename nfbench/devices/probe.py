"""Finds the micro-batch on a GPU in a process of its own, so that a failed try leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from nfbench.devices.base import child_environment
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Record, Resolved, Workload


class Request(Record, frozen=True, kw_only=True):
    """What to probe, and on which of the cards that torch sees."""

    workload: Workload
    resolved: Resolved
    seed: int
    index: int


def in_own_process(workload: Workload, resolved: Resolved, seed: int, index: int) -> int:
    """The largest micro-batch that a fresh process could run.

    Raises:
        UnsupportedWorkload: not even the smallest pass fits.
    """
    request = Request(workload=workload, resolved=resolved, seed=seed, index=index)
    done = subprocess.run(
        [sys.executable, "-m", "nfbench.devices.probe"],
        input=msgspec.json.encode(request),
        env=child_environment(),
        capture_output=True,
        check=False,
    )
    held = [json.loads(line)["holds"] for line in done.stdout.splitlines() if line.startswith(b'{"holds"')]
    if held:
        return int(held[-1])
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    raise UnsupportedWorkload(
        f"{workload.model} at {resolved.px} px does not fit on the card with one image a pass.",
        why=last[0] if last else "",
        try_="a smaller --px, or --micro-batch to name one yourself",
    )


def main() -> None:
    """Read a `Request` on standard input; write a line for each size that holds, the largest last."""
    import torch

    from nfbench.devices.cuda import Cuda, use_of
    from nfbench.devices.fit import Use, largest

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    device = Cuda(request.index)
    room = torch.cuda.mem_get_info(device.torch_device)[0]
    steps = device.build(request.workload, request.resolved, request.seed)

    def tried(images: int) -> Use | None:
        try:
            return use_of(steps, request.resolved, images, device.torch_device)
        except Exception as error:
            if not device.out_of_memory(error):
                raise
            return None

    found = largest(request.workload.batch, room, tried)
    if found is not None:
        sys.stdout.write(json.dumps({"holds": found}) + "\n")


if __name__ == "__main__":
    main()
