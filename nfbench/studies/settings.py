"""Settings, from flags or from a study file, become records here and nowhere else.

A setting's name is the field that it fills; a message names it as the flag that it is on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nfbench.catalog.models import find
from nfbench.errors import NfbenchError, UnsupportedWorkload
from nfbench.records import Sampling, StepTime

_DEFAULTS = {"within": "1%", "batch": 32, "px": 224, "min-steps": 10, "rounds": 4, "turns": 4, "max-time": 60}


def workload(settings: Mapping[str, Any]) -> StepTime:
    """The `StepTime` of settings named like its fields.

    Raises:
        NfbenchError: a value has the wrong type or range, or the model is unknown; the message names the setting.
    """
    return checked(_record(StepTime, settings))


def sampling(settings: Mapping[str, Any]) -> Sampling:
    """The `Sampling` of settings named like its fields; errors as `workload`."""
    found: Sampling = _record(Sampling, settings)
    positive("within", found.within)
    positive("min-steps", found.min_steps)
    positive("rounds", found.rounds)
    positive("turns", found.turns)
    positive("max-time", found.max_time)
    if not 0 <= found.turn_time < float("inf"):
        raise UnsupportedWorkload(f"--turn-time {found.turn_time:g} is negative.", try_="--turn-time 3")
    return found


def checked(workload: StepTime) -> StepTime:
    """``workload`` with its model under the catalogue's name.

    Raises:
        UnsupportedWorkload: a value that no device could run.
        UnknownModel: the model is not known.
    """
    positive("batch", workload.batch)
    if workload.px != "train":
        positive("px", workload.px)
    if not isinstance(workload.agc, str):
        positive("agc", workload.agc, "--agc 0.01, or --agc none not to clip")
    _checked_extras(workload)
    micro_batch = workload.micro_batch
    if micro_batch != "auto":
        positive("micro-batch", micro_batch)
        if workload.batch % micro_batch:
            near = max(d for d in range(1, min(micro_batch, workload.batch) + 1) if workload.batch % d == 0)
            raise UnsupportedWorkload(
                f"--micro-batch {micro_batch} does not divide --batch {workload.batch}.",
                why="Every pass of an update takes the same number of images.",
                try_=f"--micro-batch {near}, or --micro-batch auto",
            )
    return msgspec.structs.replace(workload, model=find(workload.model).name)


def _checked_extras(workload: StepTime) -> None:
    plain = StepTime(model=workload.model)
    if workload.agc == "none" and workload.agc_impl != "auto":
        raise UnsupportedWorkload(
            f"--agc-impl {workload.agc_impl} is of a clip that --agc none leaves out.", try_="one of the two"
        )
    if workload.sam != "none":
        positive("sam", workload.sam, "--sam 0.05, or --sam none")
    elif msgspec.structs.replace(workload, sam_fraction=plain.sam_fraction, sam_scope=plain.sam_scope) != workload:
        raise UnsupportedWorkload(
            "--sam-fraction and --sam-scope are of an ascent that was not asked for.", try_="--sam 0.05 with them"
        )
    if not 0 < workload.sam_fraction <= 1:
        raise UnsupportedWorkload(
            f"--sam-fraction {workload.sam_fraction:g} is no share of the images.", try_="--sam-fraction 0.2"
        )
    if not isinstance(workload.ema, str) and not 0 < workload.ema < 1:
        raise UnsupportedWorkload(f"--ema {workload.ema:g} is not between 0 and 1.", try_="--ema 0.99999")


def positive(name: str, value: float, try_: str = "") -> None:
    """Raise `UnsupportedWorkload` unless ``value``, of flag ``name``, is positive and finite."""
    if not value > 0 or value == float("inf"):
        default = _DEFAULTS.get(name, "auto")
        raise UnsupportedWorkload(f"--{name} {value:g} is not positive.", try_=try_ or f"--{name} {default}")


def _record(kind: type[Any], settings: Mapping[str, Any]) -> Any:
    try:
        return msgspec.convert(dict(settings), kind)
    except msgspec.ValidationError as error:
        raise NfbenchError(f"A setting has a wrong value: {error}.") from error
