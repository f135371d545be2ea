"""Finds the micro-batch on a GPU in a process of its own, so that a failed try leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec

from nfbench.devices.base import child_environment
from nfbench.errors import UnsupportedWorkload
from nfbench.records import Record, Resolved, StepTime


class Request(Record, frozen=True, kw_only=True):
    """What to probe, and on which of the cards that torch sees."""

    workload: StepTime
    resolved: Resolved
    seed: int
    index: int


def in_own_process(workload: StepTime, resolved: Resolved, seed: int, index: int) -> int:
    """The largest micro-batch that a fresh process could run.

    Raises:
        UnsupportedWorkload: not even the smallest pass fits.
        RuntimeError: the search itself failed.
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
    if not held:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise RuntimeError(f"the search for a micro-batch ended with exit code {done.returncode}: {last[0]}")
    if held[-1] is None:
        raise UnsupportedWorkload(
            f"{workload.model} at {resolved.px} px does not fit on the card with one image a pass.",
            try_="a smaller --px",
        )
    return int(held[-1])


def main() -> None:
    """Read a `Request` on standard input; write the largest size that holds, or null."""
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

    with steps.step.eager():
        found = largest(request.workload.batch, room, tried)
    sys.stdout.write(json.dumps({"holds": found}) + "\n")


if __name__ == "__main__":
    main()
