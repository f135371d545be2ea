"""Names of nets that stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nfbench.records import StepTime


def labels(nets: Sequence[tuple[str, Mapping[str, object]]]) -> list[str]:
    """Each by its model, with the settings in which those of the same model differ: "nfnet-f1 (px 192)"."""
    texts = []
    for model, settings in nets:
        alike = [other for name, other in nets if name == model]
        telling = [key for key in settings if len({other[key] for other in alike}) > 1]
        text = ", ".join(f"{key} {settings[key]}" for key in telling)
        texts.append(f"{model} ({text})" if text else model)
    return texts


def names(workloads: Sequence[StepTime]) -> list[str]:
    """The `labels` of workloads."""
    return labels([(w.model, {name: getattr(w, name) for name in StepTime.__struct_fields__}) for w in workloads])
