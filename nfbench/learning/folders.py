"""Pictures in folders, one folder a class, and the map datasets that hand pictures to a loader one by one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nfbench.catalog.datasets import DATASETS, Dataset
from nfbench.errors import BadData

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], Any]

MOST_UNREADABLE = 0.01
"""The share of a set's pictures that may be unreadable before its accuracy is that of another set."""


class Pictures(NamedTuple):
    """Picture files of ``folder``, its class folders' parent: ``samples`` are (path, class index)."""

    folder: Path
    samples: list[tuple[str, int]]


class Folders(NamedTuple):
    """What a folder with train/ and val/ (or test/) holds."""

    classes: tuple[str, ...]
    train: Pictures
    test: Pictures


def read_folders(root: Path, row: Dataset = DATASETS["imagefolder"]) -> Folders:
    """The pictures of ``root``/train and ``root``/val (or test), by name; none is opened.

    Raises:
        BadData: a folder is missing, without classes or with an empty class, the classes of the two differ, or are
            not as many as those of ``row``.
    """
    if not root.is_dir():
        raise BadData(f"{root} is a file, not a folder." if root.exists() else f"There is no folder {root}.")
    test_folder = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if not (root / "train").is_dir():
        raise BadData(f"{root} has no folder train.", try_=row.obtain)
    if test_folder is None:
        raise BadData(f"{root} has neither a folder val nor test.", try_=row.obtain)
    classes, train = _pictures(root / "train", row)
    test_classes, test = _pictures(test_folder, row)
    if classes != test_classes:
        more, fewer = sorted(set(test_classes) - set(classes)), sorted(set(classes) - set(test_classes))
        differences = [
            f"only {test_folder.name} has {_some(more)}" if more else "",
            f"only train has {_some(fewer)}" if fewer else "",
        ]
        raise BadData(
            f"The classes of {root / 'train'} and {test_folder} differ: {'; '.join(filter(None, differences))}.",
            try_="the same class folders in both",
        )
    if row.classes is not None and len(classes) != row.classes:
        raise BadData(
            f"{root} has {len(classes):,} class folders, where {row.title} has {row.classes:,}.",
            try_=f"imagefolder:{root} for a set of your own",
        )
    return Folders(classes, train, test)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _pictures(folder: Path, row: Dataset) -> tuple[tuple[str, ...], Pictures]:
    from torchvision.datasets import ImageFolder

    if not any(entry.is_dir() for entry in folder.iterdir()):
        raise BadData(f"{folder} has no class folder.", try_=row.obtain)
    found = ImageFolder(str(folder), allow_empty=True)
    filled = {label for _, label in found.samples}
    if empty := [name for label, name in enumerate(found.classes) if label not in filled]:
        folders = f"class folder{'s'[: len(empty) != 1]} {_some(empty)}"
        raise BadData(f"{folder}: no picture in {folders}.", try_="pictures in each, or without that folder")
    return tuple(found.classes), Pictures(folder, found.samples)


class PictureSet:
    """A map dataset over picture files: (RGB picture, after ``transform``, and its class index).

    In training the next readable picture takes the place of one that cannot be read; in evaluation a blank one of
    ``px`` × ``px`` with target -1 does, so that every process of a loader has as many. Which ones were unreadable is
    known in all worker processes and in the main one.
    """

    def __init__(self, pictures: Pictures, *, training: bool, px: int, transform: Transform | None = None) -> None:
        import torch

        self.pictures, self.training, self.px, self.transform = pictures, training, px, transform
        self._marks = torch.zeros(len(pictures.samples), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.pictures.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Picture ``index`` and its target.

        Raises:
            BadData: in training, not one picture of the set can be read.
        """
        from PIL import Image

        total = len(self)
        if not -total <= index < total:
            raise IndexError(index)
        for place in range(index, index + total) if self.training else (index,):
            path, label = self.pictures.samples[place % total]
            if (picture := self._read(place % total, path)) is not None:
                return self._transformed(picture), label
        if self.training:
            raise BadData(f"Not one of the {total:,} pictures in {self.pictures.folder} can be read.")
        return self._transformed(Image.new("RGB", (self.px, self.px))), -1

    def _transformed(self, picture: Image) -> Any:
        return picture if self.transform is None else self.transform(picture)

    def _read(self, place: int, path: str) -> Image | None:
        from PIL import Image

        if self._marks[place]:
            return None
        try:
            # Pillow warns of odd but readable files, of ImageNet's among them
            with warnings.catch_warnings(), Path(path).open("rb") as file:
                warnings.simplefilter("ignore")
                return Image.open(file).convert("RGB")
        except MemoryError:
            raise
        except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
            self._marks[place] = 1
            return None

    def unreadable(self) -> list[str]:
        """The pictures that could not be read so far, relative to the folder, sorted."""
        places = self._marks.nonzero().flatten().tolist()
        return sorted(Path(self.pictures.samples[p][0]).relative_to(self.pictures.folder).as_posix() for p in places)

    def check(self) -> None:
        """Raises BadData where more than 1 % of the pictures could not be read so far."""
        names, total = self.unreadable(), len(self)
        if len(names) > MOST_UNREADABLE * total:
            raise BadData(
                f"{len(names):,} of the {total:,} pictures in {self.pictures.folder} cannot be read: {_some(names)}.",
                why=f"At most {MOST_UNREADABLE:.0%} may be.",
                try_="mend or remove them",
            )
