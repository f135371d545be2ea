"""What was asked, in words."""

from __future__ import annotations

import msgspec

from nfbench.records import AgcCost, Workload

_WORDS = {"agc": "λ {}", "agc_impl": "clip by {}", "px": "{} px", "norm": "{} norm", "impl": "{}", "sam": "SAM {}"}
_UNSAID = ("model", "broadcast_buffers")


def settings_in_words(workload: Workload) -> list[str]:
    """The settings of a workload that are not at their default, and its batch, in words."""
    found = []
    for field in msgspec.structs.fields(type(workload)):
        value = getattr(workload, field.name)
        if field.name in _UNSAID or (value == field.default and field.name not in ("batch", "impl")):
            continue
        if field.name == "impl" and isinstance(workload, AgcCost):
            continue
        if field.name == "clipped":
            found.append(f"{value:.0%} of the units over their limit")
            continue
        text = f"{value:g}" if isinstance(value, float) else str(value)
        found.append(_WORDS.get(field.name, field.name.replace("_", " ") + " {}").format(text))
    return found
