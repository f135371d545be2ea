"""A run's state on disk at the end of each epoch: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from nfbench.analysis.store import replacing, sweep
from nfbench.devices.host import memory_available
from nfbench.errors import BadResults
from nfbench.records import Accuracy, Machine, Resolved, key

FORMAT = 1
_Kind = TypeVar("_Kind", Accuracy, Resolved, Machine)


class Checkpoints:
    """The checkpoint of one run, ``seed-N.pt`` in ``folder``. A folder holds the seeds of one workload.

    It can be read with ``torch.load(…, weights_only=True)``, and its weights with ``--weights``.

    Raises:
        BadResults: the folder cannot be written.
    """

    def __init__(self, folder: Path, workload: Accuracy, seed: int) -> None:
        self.path, self.workload, self.seed = folder / f"seed-{seed}.pt", workload, seed
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        if not os.access(folder, os.W_OK):
            raise BadResults(f"Checkpoints cannot be written to {folder}.", try_="--checkpoint with another folder")
        sweep(folder)

    def save(self, resolved: Resolved, state: dict[str, Any]) -> None:
        """Replace the last one; at any moment one of the two is there, whole.

        Raises:
            BadResults: the disk is full or the folder cannot be written; the last one stays.
        """
        head = {
            "format": FORMAT,
            "seed": self.seed,
            "workload": msgspec.to_builtins(self.workload),
            "resolved": msgspec.to_builtins(resolved),
        }
        try:
            with replacing(self.path) as part, part.open("wb") as file:
                self.write({**head, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                handle = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        except (OSError, RuntimeError) as error:  # torch's writer words a full disk as the latter
            raise _unwritable(self.path.parent, error) from error

    def load(self) -> dict[str, Any] | None:
        """What was saved last, or None where there is nothing.

        Raises:
            BadResults: it is of another run, or no checkpoint.
        """
        if not self.path.exists():
            # another seed's checkpoint tells whose folder this is
            for other in sorted(self.path.parent.glob("seed-*.pt"))[:1]:
                self._check(self._read(other), other)
            return None
        content = self._read(self.path)
        self._check(content, self.path)
        if content["seed"] != self.seed:
            raise BadResults(f"{self.path} is of seed {content['seed']}.", try_="another --checkpoint folder")
        return content

    def goes_on(self, content: dict[str, Any], resolved: Resolved, machine: Machine) -> None:
        """Raise `BadResults` unless ``resolved`` and the machine are those of the checkpoint's run."""
        other = _converted(content.get("machine"), Machine, self.path)
        if other != machine:
            raise BadResults(
                f"{self.path} was written on another machine ({other.title}, this is {machine.title}).",
                why="A result holds the times of one.",
                try_="another --checkpoint folder; --weights takes the weights of this one",
            )
        before = _converted(content["resolved"], Resolved, self.path)
        if before == resolved:
            return
        names = _differences(msgspec.to_builtins(before), msgspec.to_builtins(resolved))
        raise BadResults(
            f"{self.path} was written where {names}: going on from it would be another run.",
            try_="another --checkpoint folder",
        )

    def write(self, content: dict[str, Any], file: BinaryIO) -> None:
        """Put ``content`` into ``file``."""
        import torch  # takes seconds, which a fake device has no need of

        torch.save(content, file)

    def read(self, path: Path) -> Any:
        """What `write` has put there; runs no code of the file. Fails in any way where it is something else."""
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is no checkpoint may look like some older format
            return torch.load(path, map_location="cpu", weights_only=True)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            size = unpacked_size(path)
            content = self.read(path) if size <= memory_available() else size
        except Exception as error:
            raise BadResults(
                f"{path} is no checkpoint of nfbench, or was cut off.", try_=f"rm {path}, to begin that seed anew"
            ) from error
        if isinstance(content, int):
            raise BadResults(
                f"{path} would unpack to {content:,} bytes, more than this machine has free.",
                try_="a machine with more memory, or another --checkpoint folder",
            )
        if not isinstance(content, dict) or not {"format", "seed", "workload", "resolved"} <= content.keys():
            raise _no_checkpoint(path)
        return content

    def _check(self, content: dict[str, Any], path: Path) -> None:
        if not isinstance(content["format"], int) or content["format"] > FORMAT:
            raise BadResults(f"{path} was written by a newer nfbench.", try_="pip install --upgrade nfbench")
        other = _converted(content["workload"], Accuracy, path)
        if key(other) == key(self.workload):
            return
        asked, saved = msgspec.structs.asdict(self.workload), msgspec.structs.asdict(other)
        if asked["model"] != saved["model"]:
            raise BadResults(
                f"{path} is a checkpoint of {saved['model']}, not of {asked['model']}.",
                why="Nothing was changed in it.",
                try_="another --checkpoint folder",
            )
        raise BadResults(
            f"{path} is a checkpoint of a run with {_differences(saved, asked)}.",
            why="Only the same run can go on from it; nothing was changed in it.",
            try_="the same settings, or another --checkpoint folder",
        )


def unpacked_size(path: Path) -> int:
    """The bytes that ``path`` holds, once unpacked where it is a zip archive as torch writes it.

    Raises:
        OSError: it cannot be read.
        zipfile.BadZipFile: the archive is broken.
    """
    if not zipfile.is_zipfile(path):
        return path.stat().st_size
    with zipfile.ZipFile(path) as packed:
        return sum(part.file_size for part in packed.infolist())


def _converted(held: Any, kind: type[_Kind], path: Path) -> _Kind:
    try:
        return msgspec.convert(held, kind)
    except msgspec.ValidationError as error:
        raise _no_checkpoint(path) from error


def _no_checkpoint(path: Path) -> BadResults:
    return BadResults(f"{path} is no checkpoint of nfbench.", try_="another --checkpoint folder")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """'--epochs 10, not 20' of the values that differ."""
    parts = []
    for name in before.keys() | now.keys():
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            parts.append(_differences(old, new))
        elif old != new:
            parts.append(f"--{name.replace('_', '-')} {old}, not {new}")
    return ", ".join(sorted(filter(None, parts)))


def _unwritable(folder: Path, error: Exception) -> BadResults:
    # torch words a full disk as a position in its archive
    why = getattr(error, "strerror", None) or "the disk may be full"
    return BadResults(f"Checkpoints cannot be written to {folder}: {why}.", try_="--checkpoint with another folder")
