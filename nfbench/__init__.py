"""nfbench: does removing batch normalization pay, on this device?

And for a training of one's own: `AGC`, `adaptive_clip_grad_`, `agc_parameters`, `unitwise_norm`, `normalizer_free`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nfbench.nets.agc import adaptive_clip_grad_, agc_parameters, unitwise_norm
    from nfbench.nets.agc_optimizer import AGC
    from nfbench.nets.convert import normalizer_free

__version__ = "0.1.0"

__all__ = ["AGC", "adaptive_clip_grad_", "agc_parameters", "normalizer_free", "unitwise_norm"]

# torch takes seconds to import, and the command line looks things up without it
_HOMES = {
    "AGC": "nfbench.nets.agc_optimizer",
    "adaptive_clip_grad_": "nfbench.nets.agc",
    "agc_parameters": "nfbench.nets.agc",
    "normalizer_free": "nfbench.nets.convert",
    "unitwise_norm": "nfbench.nets.agc",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
