"""Where the training runs of a study keep their checkpoints until their results are kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from nfbench.learning.learner import Sources
from nfbench.records import Accuracy, Workload, key
from nfbench.studies.entry import Task


def folder_of(workload: Workload, where: object) -> str:
    """The name of the folder of a net's checkpoints; a run does not go on with other software or on another machine,
    which are ``where``."""
    return hashlib.blake2b(key(workload).encode() + msgspec.json.encode(where), digest_size=6).hexdigest()


class Checkpoints:
    """Those of ``tasks`` in the study's ``folder``, or where the study says that it wants to have them.

    ``where`` is the machine and the software.
    """

    def __init__(self, folder: Path, tasks: Sequence[Task], where: object) -> None:
        self.folder, self.where = folder / ".checkpoints", where
        self.several = len({task.keys for task in tasks if isinstance(task.workload, Accuracy)}) > 1

    def file(self, task: Task) -> Path | None:
        """The file of a training run, unless the study has a folder of its own for them."""
        if not isinstance(task.workload, Accuracy) or task.entry.sources.checkpoint is not None:
            return None
        return self.folder / folder_of(task.workload, self.where) / f"seed-{task.seed}.pt"

    def sources(self, task: Task) -> Sources:
        """The paths of a training run, with the folder of its checkpoints."""
        sources, own = task.entry.sources, self.file(task)
        if own is not None:
            return msgspec.structs.replace(sources, checkpoint=str(own.parent.resolve()))
        assert sources.checkpoint is not None
        # a folder holds one run's checkpoints
        given = Path(sources.checkpoint)
        folder = given / folder_of(task.workload, self.where) if self.several else given
        return msgspec.structs.replace(sources, checkpoint=str(folder))

    def forget(self, task: Task) -> None:
        """Remove the file of a run, and the folders around it where no other is in them."""
        path = self.file(task)
        if path is None:
            return
        path.unlink(missing_ok=True)
        for folder in (path.parent, self.folder):
            with suppress(OSError):
                if folder.is_dir() and not any(folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
