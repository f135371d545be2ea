"""What needs no clock: a net counted from shapes, or how far its images depend on each other."""

from __future__ import annotations

import msgspec

from nfbench.devices.base import Device
from nfbench.measuring.measure import kept_once
from nfbench.measuring.outcome import Keep, Labels, Turn, Watch, begun
from nfbench.records import Dependence, Flops, Resolved, Result, Sampling, Status


def count(
    device: Device,
    workload: Flops | Dependence,
    keep: Keep,
    *,
    seed: int = 0,
    watch: Watch | None = None,
    labels: Labels | None = None,
) -> Result:
    """Count ``workload``, or measure how far its images depend on each other, and hand the result to ``keep`` once.

    Counts are of shapes and run beside anything; a dependence takes the lock of ``device``, whose timings it would
    disturb, although it always runs on the CPU. ``sampling`` is the default one, since nothing is sampled.

    Raises:
        NfbenchError: the net cannot be had or run; nothing is kept.
        Stop, KeyboardInterrupt: raised again after an `interrupted` result has been kept.
    """
    watch = watch or Watch()
    timed = isinstance(workload, Dependence)
    result = begun(device, Turn(workload=workload, sampling=Sampling(), seed=seed, labels=labels or Labels()))

    def counted() -> Result:
        watch.phase("measuring dependence" if timed else "counting")
        return _counted(device, workload, result, seed)

    def cut_short(status: Status, message: str | None) -> Result:
        return msgspec.structs.replace(result, status=status, message=message)

    return kept_once(device, device.lock_name() if timed else None, keep, watch, counted, cut_short)


def _counted(device: Device, workload: Flops | Dependence, result: Result, seed: int) -> Result:
    found = device.flops(workload) if isinstance(workload, Flops) else device.dependence(workload, seed)
    values = {r.name: r.values[0] for r in found}
    resolved = Resolved(
        px=int(values["px"] or 0),
        micro_batch=workload.batch if isinstance(workload, Dependence) else 1,
        precision="fp32",
        layout="nchw",
        agc=values.get("clipping"),
    )
    return msgspec.structs.replace(
        result,
        status="ok",
        # asked for again: a factory's file, whose commit counts, is known once it has been imported
        software=device.software(workload.model),
        conditions=device.conditions() if isinstance(workload, Dependence) else result.conditions,
        resolved=resolved,
        readings=tuple(found),
    )
