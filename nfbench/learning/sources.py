"""Where a training run's files are: paths, which no record holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nfbench.records import Record


class Sources(Record, frozen=True, kw_only=True):
    """Paths of one run: the folder of published data sets, the folder of ``imagefolder``, a file of weights, and the
    folder of its checkpoints. ``workers`` are the processes that read a set which does not stay on the device."""

    data_dir: str | None = None
    folder: str | None = None
    weights: str | None = None
    checkpoint: str | None = None
    workers: int | None = None


def digest(path: Path) -> str:
    """Twelve hex digits of the content of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
