"""Names of workloads that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence

from nfbench.records import StepTime


def names(workloads: Sequence[StepTime]) -> list[str]:
    """Each by its model, with the settings in which those of the same model differ: "nfnet-f1 (px 192)"."""
    found = []
    for workload in workloads:
        same = [w for w in workloads if w.model == workload.model]
        fields = [name for name in StepTime.__struct_fields__ if len({getattr(w, name) for w in same}) > 1]
        settings = ", ".join(f"{name} {getattr(workload, name)}" for name in fields)
        found.append(f"{workload.model} ({settings})" if settings else workload.model)
    return found
