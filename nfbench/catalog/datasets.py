"""Every data set by name: one row per set, and `find`, which reads a name as a person types it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nfbench.catalog.models import fold
from nfbench.errors import BadData
from nfbench.units import nearest


@dataclass(frozen=True)
class Dataset:
    """One data set of square or any pictures.

    ``classes`` is None where the folders tell, ``px`` (the native side) where pictures differ in size. ``augment`` is
    what ``--augment auto`` becomes: ``none`` where objects are centred, or a mirrored 2 is no 2. ``train_images`` and
    ``test_images`` are as published (digits: as nfbench splits them), or None. ``obtain`` says how to get the files,
    as the end of an error message.
    """

    name: str
    title: str
    classes: int | None
    channels: Literal[1, 3]
    px: int | None
    augment: Literal["none", "flip", "recipe"]
    train_images: int | None = None
    test_images: int | None = None
    obtain: str = ""


_FOUR = "--data-dir FOLDER with the four files of"
_CIFAR = "--data-dir FOLDER with {} of https://www.cs.toronto.edu/~kriz/cifar.html"

DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        Dataset("digits", "scikit-learn's digits", 10, 1, 8, "none", 1437, 360),
        Dataset(
            "fashion-mnist",
            "Fashion-MNIST",
            10,
            1,
            28,
            "none",
            60_000,
            10_000,
            f"apt-get install dataset-fashion-mnist, or {_FOUR} https://github.com/zalandoresearch/fashion-mnist",
        ),
        Dataset(
            "mnist",
            "MNIST",
            10,
            1,
            28,
            "none",
            60_000,
            10_000,
            f"{_FOUR} http://yann.lecun.com/exdb/mnist (mirror: https://ossci-datasets.s3.amazonaws.com/mnist/)",
        ),
        Dataset("cifar10", "CIFAR-10", 10, 3, 32, "flip", 50_000, 10_000, _CIFAR.format("cifar-10-python.tar.gz")),
        Dataset("cifar100", "CIFAR-100", 100, 3, 32, "flip", 50_000, 10_000, _CIFAR.format("cifar-100-python.tar.gz")),
        Dataset(
            "imagenet",
            "ImageNet",
            1000,
            3,
            None,
            "recipe",
            1_281_167,
            50_000,
            "--data-dir FOLDER with train/ and val/ of ILSVRC2012 (https://image-net.org/download), a folder per class",
        ),
        Dataset(
            "imagefolder",
            "your own pictures",
            None,
            3,
            None,
            "recipe",
            obtain="imagefolder:PATH with PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg",
        ),
    )
}

_BY_NAME = {fold(name): row for name, row in DATASETS.items()}


def find(name: str) -> Dataset:
    """The data set of that name; ``imagefolder:ANYTHING`` is ``imagefolder``. Looks at no file.

    Raises:
        BadData: there is no such name; the message names the nearest.
    """
    scheme, colon, _ = name.partition(":")
    if colon and fold(scheme) == "imagefolder":
        return DATASETS["imagefolder"]
    if row := _BY_NAME.get(fold(name)):
        return row
    near = [_BY_NAME[key].name for key in nearest(fold(name), _BY_NAME, 3)]
    raise BadData(
        f"There is no data set called {name!r}.",
        why=f"The nearest: {', '.join(near)}." if near else "No name of the catalogue is near it.",
        try_=f"{near[0]}, or imagefolder:PATH for your own pictures"
        if near
        else f"{', '.join(set_ for set_ in DATASETS if set_ != 'imagefolder')}, or imagefolder:PATH for your own",
    )


def imagenet_root(data_dir: Path) -> Path:
    """The folder that holds ImageNet's ``train`` or ``val``: ``data_dir`` or its subfolder ``imagenet``.

    Raises:
        BadData: neither does.
    """
    roots = (data_dir / "imagenet", data_dir)
    for root in roots:
        if (root / "train").is_dir() or (root / "val").is_dir():
            return root
    raise missing(DATASETS["imagenet"], "folders train and val", roots)


def missing(row: Dataset, sought: str, folders: tuple[Path, ...]) -> BadData:
    """The error of a set that is in none of its folders."""
    return BadData(
        f"{row.title} is not here: found no {sought}.",
        why=f"Looked in {', '.join(map(str, folders))}.",
        try_=row.obtain,
    )
