"""Weights for a net: those its authors published, or those of a file. No pickled code is ever run."""

from __future__ import annotations

import argparse
import http.client
import pickle
import re
import threading
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from nfbench.catalog.models import NETS, Net
from nfbench.devices.host import memory_available
from nfbench.errors import BadWeights, reason
from nfbench.learning.checkpoint import unpacked_size
from nfbench.learning.learner import digest
from nfbench.nets.build import build, head_names, shapes_of
from nfbench.units import expanded, first_few

PUBLISHED = "published"
PATIENCE_S = 5.0
"""How long a hub may take to answer at all."""
_SHOWN = 3
_STATES = ("state_dict", "model", "model_state_dict", "net", "network", "weights")
_AVERAGE = re.compile(r"(^|_)(ema|swa|averaged?)(_|$)", re.IGNORECASE)
"""The keys under which checkpoints hold weights, and what tells those of their moving averages: ``state_dict_ema``,
``model_ema``, ``ema_model``, ``swa_state_dict``."""


class LoadedWeights(NamedTuple):
    """Weights in memory, not yet in a net.

    ``source`` is ``published:NAME.TAG`` or ``file:`` and 12 hex digits of the file's content, never a path. ``classes``
    is the number of the classifier's outputs. ``config`` is timm's data config at the test size (``input_size`` in px,
    ``interpolation``, ``mean``, ``std``, ``crop_pct``, ``crop_mode``), None where the file holds none. ``ema`` is the
    file's moving average, None where it holds none or nothing else.
    """

    source: str
    classes: int
    config: dict[str, Any] | None
    ema: dict[str, Tensor] | None
    state: dict[str, Tensor]


def load(net: Net, wanted: str) -> LoadedWeights:
    """The weights ``wanted`` for the net: ``published``, or the path of a file. Answers in seconds without a network.

    Raises:
        BadWeights: the net has no published weights, or they are neither here nor to be had; the file is missing,
            unreadable, would run code, or holds no weights with the net's classifier.
        UnknownModel: timm has no such model or tag.
        UnsupportedWorkload: the net cannot be built.
    """
    if wanted == PUBLISHED:
        return _published(net)
    path = expanded(wanted)
    state, ema, config = _read(path)
    module = shapes_of(net)
    names = module.state_dict().keys()
    state = _unprefixed(state, names)
    # an average of the parameters alone goes with the buffers of the weights beside it
    ema = None if ema is None else {**state, **_unprefixed(ema, names)}
    return LoadedWeights(f"file:{digest(path)}", classes_of(state, module), config, ema, state)


def put(loaded: LoadedWeights, module: nn.Module, net: Net, *, fresh_head: bool) -> nn.Module:
    """The module with the weights in it; with ``fresh_head`` its classifier stays as it was initialized.

    All names and shapes must match, but for the classifier's with ``fresh_head``. A file's moving average is put by
    ``loaded._replace(state=loaded.ema)``.

    Raises:
        BadWeights: they are of another net; the module is as before.
    """
    left = _head_state(module, loaded) if fresh_head else frozenset[str]()
    wanted = {name: tensor for name, tensor in module.state_dict().items() if name not in left}
    given = {name: tensor for name, tensor in loaded.state.items() if name not in left}
    # files from before torch 0.4.1 lack this counter, which no forward pass reads; torch lets them pass too
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted]
    misshapen = [
        f"{name} ({_sides(given[name])} for {_sides(wanted[name])})"
        for name in wanted
        if name in given and wanted[name].shape != given[name].shape
    ]
    # torch would cast whole numbers, and complex ones without their imaginary parts, and say nothing
    mistyped = [
        f"{name} ({given[name].dtype} for {wanted[name].dtype})".replace("torch.", "")
        for name in wanted
        if name in given and wanted[name].is_floating_point() and not given[name].is_floating_point()
    ]
    if missing or unexpected or misshapen or mistyped:
        differences = (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of another shape"),
            (mistyped, "of another type"),
        )
        raise BadWeights(
            f"{loaded.source}: these are weights of another net than {net.name}.",
            why="\n".join(f"{len(names)} {what}: {first_few(names, _SHOWN)}." for names, what in differences if names),
            try_="the net that they were trained for: `nfbench models`",
        )
    module.load_state_dict(given, strict=False)
    return module


def _head_state(module: nn.Module, loaded: LoadedWeights) -> frozenset[str]:
    """The names of the classifier's parameters, of the buffers beside them, and of buffers anywhere that differ from
    those of the file by the number of classes alone."""
    heads, state = head_names(module), module.state_dict()
    owners = tuple(f"{owner}." for name in heads if (owner := name.rpartition(".")[0]))
    classes = classes_of(state, module)
    by_class = [
        name
        for name, buffer in module.named_buffers()
        if name in loaded.state
        and buffer.shape != loaded.state[name].shape
        and list(buffer.shape) == [classes if side == loaded.classes else side for side in loaded.state[name].shape]
    ]
    return heads.union(by_class, (name for name in state if name.startswith(owners)))


def _unprefixed(state: dict[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """``state`` without the prefix under which it holds the net's ``names``, such as ``module.`` or ``model.encoder.``.

    What lies elsewhere, such as the weights of a loss, is dropped where the net is whole without it, and the counter of
    torch's `AveragedModel` always. A state that holds the net twice keeps its names.
    """
    state = {key: tensor for key, tensor in state.items() if key != "n_averaged"}
    places = Counter(key[:i] for key in state for i in _beginnings(key) if key[i:] in names)
    most = places.most_common(2)
    if not most or [count for _, count in most] == 2 * [most[0][1]]:
        return state
    prefix = most[0][0]
    whole = all(prefix + name in state or name.endswith("num_batches_tracked") for name in names)
    if not whole and not all(key.startswith(prefix) for key in state):
        return state
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _beginnings(key: str) -> list[int]:
    """Where the parts of a dotted key begin."""
    return [0, *(place + 1 for place, letter in enumerate(key) if letter == ".")]


def classes_of(state: Mapping[str, Tensor], module: nn.Module) -> int:
    """The number of outputs of the classifier in ``state``, whose name is that of the module's own.

    Raises:
        BadWeights: ``state`` has no such tensor.
    """
    heads = head_names(module)
    weights = [name for name, p in module.named_parameters() if name in heads and p.dim() > 1]
    weight = state.get(weights[-1]) if weights else None
    if weight is None or not weight.dim():
        raise BadWeights(
            "The weights are of another net, or of one without a classifier.",
            why=f"The classifier's {weights[-1] if weights else 'weight'} is not among their {len(state)} tensors: "
            f"{first_few(list(state), _SHOWN)}.",
            try_="the net that they were trained for: `nfbench models`",
        )
    return weight.shape[0]


def _published(net: Net) -> LoadedWeights:
    if net.kwargs or net.twin_of or net.source == "factory":
        raise _nothing_published(net, "Its graph is not one of timm's.")
    module: Any = build(replace(net, config=net.weights or net.config), device="meta")
    config = module.pretrained_cfg
    if not any(config.get(place) for place in ("file", "hf_hub_id", "url")):
        raise _nothing_published(net, f"timm {timm.__version__} knows of none.")
    name = ".".join(filter(None, (config["architecture"], config.get("tag"))))
    state = _read(_fetch(name, config)).state
    if net.source == "timm":  # the catalogue's nets are stored as timm builds them; others it may convert
        state = _converted(name, state)
    at_test = resolve_data_config(pretrained_cfg=config, use_test_size=True)
    return LoadedWeights(f"{PUBLISHED}:{name}", classes_of(state, module), at_test, None, state)


def _nothing_published(net: Net, why: str) -> BadWeights:
    near = [n for n in NETS if net.family == n.family or net.config == n.config]
    timms = [n for n in near if not n.kwargs and not n.twin_of]
    configs = {n.name: timm.models.get_pretrained_cfg(n.weights or n.config) for n in timms}
    known = [name for name, config in configs.items() if config and config.has_weights]
    return BadWeights(
        f"There are no published weights of {net.name}.",
        why=f"{why} " + (f"Nets near it that have some: {', '.join(known)}." if known else "No net near it has any."),
        try_=f"--weights FILE, for your own{f', or another net: {known[0]}' if known else ''}",
    )


def _converted(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights as timm renames and cuts them for the model of that name (old names, a class for background)."""
    try:
        built: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": state, "custom_load": False}
        )
    except Exception as error:
        raise BadWeights(
            f"timm {timm.__version__} cannot use its weights {name}.", why=reason(error), try_="another net or tag"
        ) from error
    return built.state_dict()


def _fetch(name: str, config: Mapping[str, Any]) -> Path:
    """The file of the weights ``name``, whose place timm's ``config`` tells: from a cache, else from the hub.

    Raises:
        BadWeights: it is in no cache, and the hub does not answer within 5 s or does not have it.
    """
    repo, _, revision = (config.get("hf_hub_id") or "").partition("@")
    file = config.get("hf_hub_filename")
    files = [file] if file else ["model.safetensors", "pytorch_model.bin"]
    url = config.get("url") or ""
    checkpoints = Path(torch.hub.get_dir(), "checkpoints")
    in_hub = [try_to_load_from_cache(repo, file, revision=revision or None) for file in files] if repo else []
    for place in (config.get("file"), *in_hub, checkpoints / url.rpartition("/")[2] if url else None):
        if isinstance(place, (str, Path)) and Path(place).is_file():
            return Path(place)
    looked = [f"{url.rpartition('/')[2]} in {_with_tilde(checkpoints)}"] if url else []
    if not repo:
        raise _absent(name, looked, "nfbench fetches none but the hub's.", f"curl -LO {url}")
    trouble = "HF_HUB_OFFLINE is set."
    if not constants.HF_HUB_OFFLINE:
        silence = _silence(constants.ENDPOINT)
        trouble = f"{constants.ENDPOINT} does not answer: {silence}."
        for file in files if silence is None else ():
            try:
                return Path(hf_hub_download(repo, file, revision=revision or None))
            except Exception as error:
                trouble = f"{constants.ENDPOINT} answers, but: {reason(error)}"
                # the second stands for a connection lost, on which the next file would wait as long again
                if not isinstance(error, EntryNotFoundError) or isinstance(error, LocalEntryNotFoundError):
                    break
    looked.insert(0, f"{files[0]} of {repo} in {_with_tilde(Path(constants.HF_HUB_CACHE))}")
    raise _absent(name, looked, trouble, f"hf download {repo} {files[0]} --local-dir .")


def _absent(name: str, looked: Sequence[str], trouble: str, bring: str) -> BadWeights:
    return BadWeights(
        f"The published weights {name} are not on this machine.",
        why=f"Looked for {', and for '.join(looked)}. {trouble}",
        try_=f"`{bring}` on a machine with a network, then --weights FILE",
    )


def _silence(url: str) -> str | None:
    """Why nobody but a failing server or proxy is there, else None; in a thread, since DNS knows no time limit."""
    heard: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE_S):
                heard.append(None)
        except urllib.error.HTTPError as error:
            heard.append(f"status {error.code}" if error.code in (403, 407) or error.code >= 500 else None)
            error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            heard.append(str(getattr(error, "reason", error)))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE_S)
    return heard[0] if heard else f"nothing came in {PATIENCE_S:.0f} s"


class _File(NamedTuple):
    state: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    config: dict[str, Any] | None


def _read(path: Path) -> _File:
    shown = _with_tilde(path)
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.suffix in (".safetensors", ".pth", ".pt", ".bin"))
        advice = f"a file in it: {first_few(inside, _SHOWN)}" if inside else "the path of a .safetensors or .pth file"
        raise BadWeights(f"{shown} is a folder, not a file of weights.", try_=advice)
    if not path.exists():
        raise BadWeights(f"There is no file {shown}.", try_=f"--weights {PUBLISHED}, or a .safetensors or .pth file")
    again = "fetch or save it once more"
    try:
        if not path.stat().st_size:
            raise BadWeights(f"{shown} is empty.", try_=again)
        if (size := unpacked_size(path)) > memory_available():
            raise BadWeights(
                f"{shown} would unpack to {size:,} bytes, more than this machine has free.",
                try_="a machine with more memory, or the file from where it was published",
            )
        held = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except BadWeights:
        raise
    except OSError as error:
        raise BadWeights(f"{shown} cannot be read.", why=error.strerror or reason(error), try_=again) from error
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            raise BadWeights(
                f"{shown} is refused: to open it would run code stored in it.",
                why="It holds Python objects besides tensors, perhaps a whole model.",
                try_="where it comes from, save `model.state_dict()` alone with torch.save, or as .safetensors",
            ) from None  # torch's own text fills a page and advises to run the code
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if packed:
            raise BadWeights(f"{shown} is packed by gzip.", try_=f"gunzip {shown}") from error
        raise BadWeights(f"{shown} is no file of weights, or is cut short.", try_=again) from error
    outer = held if isinstance(held, dict) else {}
    within = {key: state for key, value in outer.items() if (state := _state_in(value)) is not None}
    plain = next((within.pop(key) for key in _STATES if key in within), None)
    averages = [key for key in within if isinstance(key, str) and _AVERAGE.search(key)]
    average = within.pop(averages[0]) if averages else None
    if plain is None and len(within) == 1:
        (plain,) = within.values()
    if plain is None and not within:
        plain, average = average, None
    if plain is None and not within:
        # what is no tensor beside them, such as a version, is no weight
        plain = {key: t for key, t in outer.items() if isinstance(key, str) and isinstance(t, Tensor)} or None
    if plain is None:
        keys = first_few([repr(key) for key in outer], 2 * _SHOWN)
        raise BadWeights(
            f"{shown} holds several sets of weights." if within else f"{shown} holds no weights.",
            why=f"It is {f'a dict of {keys}' if outer else type(held).__name__}; weights are tensors by name.",
            try_=f"torch.save(torch.load(FILE)[{next(iter(within))!r}], NEW), for the set that you mean"
            if within
            else "torch.save(model.state_dict(), FILE)",
        )
    states = [plain] if average is None else [plain, average]
    for kind, remedy, holds in _NOT_DENSE:
        if names := [name for state in states for name, tensor in state.items() if holds(tensor)]:
            raise BadWeights(
                f"{shown} holds {kind}: {first_few(names, _SHOWN)}.", why="Nets here have dense ones.", try_=remedy
            )
    cleaned = [timm.models.clean_state_dict(state) for state in states]
    config = outer.get("data_config")
    return _File(cleaned[0], cleaned[1] if len(cleaned) > 1 else None, config if isinstance(config, dict) else None)


_NOT_DENSE: tuple[tuple[str, str, Callable[[Tensor], bool]], ...] = (
    (
        "sparse tensors",
        "tensor.to_dense() for each, and save them once more",
        lambda tensor: tensor.layout is not torch.strided,
    ),
    ("quantized tensors", "the weights from before they were quantized", lambda tensor: tensor.is_quantized),
    ("tensors without values, on torch's meta device", "save the weights themselves", lambda tensor: tensor.is_meta),
)


def _state_in(held: object) -> dict[str, Tensor] | None:
    """Tensors by name: ``held`` itself, or the one of its entries that is such."""
    if not isinstance(held, dict):
        return None
    states = [state for state in (held, *held.values()) if isinstance(state, dict) and _is_state(state)]
    return states[0] if len(states) == 1 else None


def _is_state(held: dict[Any, Any]) -> bool:
    return bool(held) and all(isinstance(name, str) and isinstance(t, Tensor) for name, t in held.items())


def _unpickled(path: Path) -> object:
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
        warnings.simplefilter("ignore")  # of formats that torch will drop: they are read, or refused below in words
        return torch.load(path, map_location="cpu", weights_only=True)  # the Namespace is in checkpoints of timm


def _sides(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _with_tilde(path: Path) -> str:
    """A path with ``~`` for the home folder."""
    home = expanded("~")
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
