"""The data sets that nets learn from: read once, checked, with a digest that tells two copies apart."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench.catalog.datasets import Dataset, find
from nfbench.errors import BadData
from nfbench.learning.archives import Archive, Arrays, missing, read_cifar, read_idx
from nfbench.learning.folders import Folders, Pictures, PictureSet, Transform, read_folders

__all__ = ["ArraySet", "Arrays", "Data", "PictureSet", "Pictures", "as_pictures", "load"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Data(NamedTuple):
    """One data set, ready to learn from.

    ``name`` holds the last folder's name at most, never a path. ``digest`` is 12 hex digits: of all images and labels,
    or of the relative names and sizes of all picture files. ``mean`` and ``std`` are one a channel, of training pixels
    scaled to 0..1 (of folders those of ImageNet). ``notes`` are what a reader of the results should know.
    """

    name: str
    classes: tuple[str, ...]
    train: Arrays | Pictures
    test: Arrays | Pictures
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: dict[str, str]


class ArraySet:
    """`PictureSet` for pictures in memory, all of which can be read."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.transform: Transform | None = None

    def __len__(self) -> int:
        return len(self.arrays.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        image = self.arrays.images[index]
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")
        return picture if self.transform is None else self.transform(picture), int(self.arrays.labels[index])

    def unreadable(self) -> list[str]:
        return []

    def check(self) -> None:
        pass


def as_pictures(arrays: Arrays) -> ArraySet:
    """Pictures in memory as a map dataset of RGB pictures, for timm's loader."""
    return ArraySet(arrays)


def load(dataset: str, data_dir: Path | None = None) -> Data:
    """The data set of that name, or the pictures of ``imagefolder:PATH``, from ``data_dir`` or the folder ``data``.

    Raises:
        BadData: there is no such set, its files are missing or broken, or ``data_dir`` is no folder.
    """
    row = find(dataset)
    folder = Path("data") if data_dir is None else data_dir.expanduser()
    if data_dir is not None and not folder.is_dir():
        what = f"The data folder {folder}"
        raise BadData(f"{what} is a file." if folder.exists() else f"{what} does not exist.", try_="--data-dir FOLDER")
    if row.name == "imagefolder":
        path = dataset.partition(":")[2]
        if not path:
            raise BadData(f"{dataset} names no folder.", try_=row.obtain)
        root = Path(path).expanduser()
        # resolved, so that imagefolder:. has a name
        return _of_folders(row, f"imagefolder:{root.resolve().name}", read_folders(root))
    if row.name == "imagenet":
        return _of_folders(row, row.name, _imagenet(row, folder))
    if row.name == "digits":
        return _of_arrays(row, _digits())
    return _of_arrays(row, (read_cifar if row.name.startswith("cifar") else read_idx)(row, folder))


def _imagenet(row: Dataset, folder: Path) -> Folders:
    roots = (folder / "imagenet", folder)
    for root in roots:
        if (root / "train").is_dir() or (root / "val").is_dir():
            return read_folders(root, row)
    raise missing(row, "folders train and val", roots)


def _digits() -> Archive:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    places = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, test = (Arrays(images[part], labels[part]) for part in places)
    return Archive(tuple(map(str, digits.target_names)), train, test)


def _of_arrays(row: Dataset, archive: Archive) -> Data:
    digest = hashlib.blake2b(digest_size=6)
    for arrays in (archive.train, archive.test):
        digest.update(repr(arrays.images.shape).encode())
        digest.update(np.ascontiguousarray(arrays.images).data)
        digest.update(arrays.labels.astype("<i8").data)
    # exact from the counts of the 256 values, where a sum of floats would depend on its order
    images, values = archive.train.images, np.arange(256) / 255
    counts = [_counts(images[..., channel]) for channel in range(images.shape[-1])]
    means = [float(count @ values / count.sum()) for count in counts]
    stds = [
        float(np.sqrt(count @ (values - mean) ** 2 / count.sum())) for count, mean in zip(counts, means, strict=True)
    ]
    if any(np.count_nonzero(count) == 1 for count in counts):
        raise BadData(f"All training images of {row.title} have one and the same value in a channel.", try_=row.obtain)
    notes = _notes(row, len(images), len(archive.test.images))
    return Data(row.name, *archive, digest.hexdigest(), tuple(means), tuple(stds), notes)


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    # in parts, because bincount makes eight bytes of each
    parts = np.array_split(values, 16)
    counts: NDArray[np.int64] = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    return counts


def _of_folders(row: Dataset, name: str, folders: Folders) -> Data:
    digest = hashlib.blake2b(digest_size=6)
    for part, pictures in (("train", folders.train), ("test", folders.test)):
        for path, _ in sorted(pictures.samples):
            relative = Path(path).relative_to(pictures.folder).as_posix()
            # a link to nowhere is one more unreadable picture
            size = Path(path).stat().st_size if Path(path).exists() else -1
            digest.update(os.fsencode(f"{part}/{relative}\0{size}\n"))
    notes = _notes(row, len(folders.train.samples), len(folders.test.samples))
    return Data(name, *folders, digest.hexdigest(), _IMAGENET_MEAN, _IMAGENET_STD, notes)


def _notes(row: Dataset, train: int, test: int) -> dict[str, str]:
    parts = [
        f"{found:,} of the {published:,} published {part} images"
        if found < published
        else f"{found:,} {part} images, where {published:,} were published"
        for part, found, published in (("training", train, row.train_images), ("test", test, row.test_images))
        if published is not None and found != published
    ]
    return {"data": ", ".join(parts)} if parts else {}
