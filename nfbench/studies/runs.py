"""Settings of a training run, from flags or from a study file, become its records here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from nfbench.catalog import datasets
from nfbench.catalog.models import find
from nfbench.errors import BadData, NfbenchError, UnsupportedWorkload
from nfbench.learning.learner import Sources, digest
from nfbench.records import Accuracy, Sampling, StepTime
from nfbench.studies import settings

PATHS = ("data_dir", "checkpoint", "workers")
_SHARED = ("batch", "micro_batch", "px", "agc", "agc_impl", "sam", "sam_fraction", "sam_scope")
_SHARES = ("label_smoothing", "drop_rate", "drop_path", "momentum", "alpha")
_POSITIVE = ("decay_epochs", "decay_rate", "eps")
_NOT_NEGATIVE = ("warmup_epochs", "weight_decay", "mixup", "cutmix")


class Runs(NamedTuple):
    """One net to be trained with each of ``seeds``."""

    workload: Accuracy
    sources: Sources
    sampling: Sampling
    seeds: tuple[int, ...]


def accuracy(given: Mapping[str, Any]) -> tuple[Accuracy, Sources]:
    """The run of settings named like the fields of `Accuracy` and `Sources`, ``dataset`` and ``weights`` with paths.

    Raises:
        NfbenchError: a value has the wrong type or range, or the model or data set is unknown; the message names it.
    """
    asked = dict(given)
    found = {name: asked.pop(name, None) for name in PATHS}
    paths: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in found.items()
        if value not in (None, "")
    }
    dataset = asked.get("dataset", Accuracy(model="").dataset)
    if isinstance(dataset, str):
        asked["dataset"], folder = _dataset(dataset)
        if folder is not None:
            paths["folder"] = folder
    weights = asked.get("weights", "none")
    if isinstance(weights, str) and weights not in ("none", "published"):
        asked["weights"] = f"file:{_digest(Path(weights))}"
        paths["weights"] = weights
    try:
        workload, sources = msgspec.convert(asked, Accuracy), msgspec.convert(paths, Sources)
    except msgspec.ValidationError as error:
        raise NfbenchError(f"A setting has a wrong value: {error}.") from error
    if sources.workers is not None and sources.workers < 0:
        raise UnsupportedWorkload(f"--workers {sources.workers} is negative.", try_="--workers 2")
    return _checked(workload), sources


def check(sources: Sources) -> None:
    """Raise `BadData` where a folder of data is not there, before anything slow begins."""
    for what, path, try_ in (
        ("The data folder", sources.data_dir, "--data-dir FOLDER"),
        ("The folder", sources.folder, "--dataset imagefolder:PATH"),
    ):
        folder = None if path is None else Path(path).expanduser()
        if folder is not None and not folder.is_dir():
            raise BadData(f"{what} {path} {'is a file' if folder.exists() else 'does not exist'}.", try_=try_)


def sampling(max_time: float) -> Sampling:
    """That of a run: ``max_time`` caps its seconds."""
    return settings.sampling({"max_time": max_time})


def _checked(run: Accuracy) -> Accuracy:
    # what a step and a run have in common is judged in one place
    step = settings.checked(
        StepTime(
            model=run.model,
            **{name: getattr(run, name) for name in _SHARED},
            ema="none" if run.ema == "auto" else run.ema,
        )
    )
    if run.epochs < 0:
        raise UnsupportedWorkload(f"--epochs {run.epochs} is negative.", try_="--epochs 10, or 0 to evaluate only")
    if run.norm == "frozen":
        raise UnsupportedWorkload(
            "--norm frozen trains nothing worth an accuracy: it is for time and memory only.", try_="--norm group"
        )
    if run.warmup_epochs != "auto" and run.warmup_epochs > run.epochs > 0:
        raise UnsupportedWorkload(
            f"--warmup-epochs {run.warmup_epochs:g} is more than --epochs {run.epochs}.", try_="--warmup-epochs auto"
        )
    if run.epochs == 0 and run.weights == "none":
        raise UnsupportedWorkload(
            "--epochs 0 evaluates weights, and none are given.", try_="--weights published, or --weights FILE"
        )
    if run.test_px != "auto":
        settings.positive("test-px", run.test_px, "--test-px 224, or auto")
    if run.lr != "auto":
        settings.positive("lr", run.lr, "--lr 0.1, or --lr auto")
    for name in _SHARES:
        value = getattr(run, name)
        if value != "auto" and not 0 <= value < 1:
            raise UnsupportedWorkload(
                f"--{_flag(name)} {value:g} is not from 0 to below 1.",
                try_=f"--{_flag(name)} {0.9 if name in ('momentum', 'alpha') else 0.1}",
            )
    for name in _POSITIVE:
        if (value := getattr(run, name)) != "auto":
            settings.positive(_flag(name), value)
    for name in _NOT_NEGATIVE:
        value = getattr(run, name)
        if value != "auto" and not 0 <= value < float("inf"):
            raise UnsupportedWorkload(f"--{_flag(name)} {value:g} is negative.", try_=f"--{_flag(name)} auto")
    for name in ("randaugment_layers", "randaugment_magnitude"):
        value = getattr(run, name)
        if value != "auto" and run.augment not in ("randaugment", "nfnet"):
            raise UnsupportedWorkload(
                f"--{_flag(name)} is of an augmentation that was not asked for.", try_="--augment randaugment with it"
            )
        if value != "auto" and value < (name == "randaugment_layers"):
            raise UnsupportedWorkload(f"--{_flag(name)} {value} is too small.", try_=f"--{_flag(name)} 2")
    return msgspec.structs.replace(run, model=find(step.model).name)


def _dataset(name: str) -> tuple[str, str | None]:
    """The name that a record holds, and the folder of an ``imagefolder``."""
    row = datasets.find(name)
    if row.name != "imagefolder":
        return row.name, None
    path = name.partition(":")[2]
    if not path:
        raise BadData(
            "--dataset imagefolder names no folder.",
            why="It needs one with train/ and val/, a folder for each class in both.",
            try_="--dataset imagefolder:PATH",
        )
    folder = Path(path).expanduser().resolve()
    # a home folder is called after its user
    return f"imagefolder:{'home' if folder == Path.home() else folder.name}", str(folder)


def _digest(path: Path) -> str:
    try:
        return digest(path.expanduser())
    except IsADirectoryError as error:
        raise NfbenchError(f"--weights {path} is a folder.", try_="--weights with a file in it") from error
    except FileNotFoundError as error:
        raise NfbenchError(
            f"There is no file of weights {path}.", try_="--weights published, or --weights with the path of a file"
        ) from error
    except OSError as error:
        raise NfbenchError(f"--weights {path} cannot be read: {error.strerror}.") from error


def _flag(name: str) -> str:
    return name.replace("_", "-")
