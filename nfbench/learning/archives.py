"""The published files of (Fashion-)MNIST and CIFAR, each defect worded before torchvision reads them."""

from __future__ import annotations

import gzip
import math
import struct
import tarfile
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench.catalog.datasets import Dataset
from nfbench.errors import BadData

SYSTEM = Path("/usr/share/datasets")
"""Where Debian's dataset packages put their files."""

_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_AGAIN = "download the file again"


class Arrays(NamedTuple):
    """Pictures in memory: ``images`` uint8 (N, H, W, C) with C 1 or 3, ``labels`` int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Archive(NamedTuple):
    """What the files of one data set hold."""

    classes: tuple[str, ...]
    train: Arrays
    test: Arrays


def read_idx(row: Dataset, data_dir: Path) -> Archive:
    """MNIST or Fashion-MNIST from the first of its folders that has any of the four files.

    Raises:
        BadData: no folder has one, one is missing, broken or cut off, or labels and images do not fit.
    """
    from torchvision import datasets

    reader = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[row.name]
    # data_dir itself comes after its subfolders: MNIST's and Fashion-MNIST's files have the same names
    own = (data_dir / row.name, data_dir / row.name / "raw", data_dir / reader.__name__ / "raw", data_dir)
    folders = (*own, SYSTEM / row.name)
    names = [name for pair in _IDX_FILES.values() for name in pair]
    found = {folder: {name: path for name in names if (path := _idx_file(folder, name))} for folder in folders}
    folder = next((folder for folder in folders if found[folder]), None)
    if folder is None:
        raise missing(row, f"{', '.join(names[:-1])} or {names[-1]}, with or without .gz", folders)
    if lacking := [name for name in names if name not in found[folder]]:
        raise BadData(f"{folder} lacks {', '.join(lacking)} (with or without .gz).", try_=row.obtain)
    train, test = (
        _idx_pair(row, found[folder][images], found[folder][labels]) for images, labels in _IDX_FILES.values()
    )
    return Archive(tuple(reader.classes), train, test)


def missing(row: Dataset, sought: str, folders: tuple[Path, ...]) -> BadData:
    """The error of a set that is in none of its folders."""
    return BadData(
        f"{row.title} is not here: found no {sought}.",
        why=f"Looked in {', '.join(map(str, folders))}.",
        try_=row.obtain,
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _idx_pair(row: Dataset, images_path: Path, labels_path: Path) -> Arrays:
    from torchvision.datasets import mnist

    images = _idx(images_path, "images", 2051, mnist.read_image_file)
    labels = _idx(labels_path, "labels", 2049, mnist.read_label_file)
    if images.shape[1:] != (row.px, row.px):
        size = "×".join(map(str, images.shape[1:]))
        raise BadData(f"{images_path} holds images of {size} px, where {row.title} has {row.px}×{row.px}.")
    return _fitting(Arrays(images[..., None], labels), row, str(images_path), str(labels_path))


def _idx(path: Path, what: str, magic: int, read: Any) -> NDArray[Any]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise BadData(
            f"{path} cannot be unpacked: cut off, corrupt or no gzip file.", why=f"gzip: {error}.", try_=_AGAIN
        ) from error
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}.") from error
    dims = 3 if what == "images" else 1
    header = 4 + 4 * dims
    if len(content) >= 4 and (got := int.from_bytes(content[:4], "big")) != magic:
        raise BadData(f"{path} is no idx file of {what}: it starts with {got}, not with {magic}.", try_=_AGAIN)
    if len(content) < header:
        raise BadData(f"{path} ends within its header: {len(content)} of {header} bytes.", try_=_AGAIN)
    shape = struct.unpack_from(f">{dims}I", content, 4)
    if shape[0] == 0:
        raise BadData(f"{path} holds no {what}.", try_=_AGAIN)
    expected = header + math.prod(shape)
    if len(content) != expected:
        than = "shorter" if len(content) < expected else "longer"
        raise BadData(
            f"{path} is {than} than its header says: {len(content):,} bytes unpacked, not {expected:,}.", try_=_AGAIN
        )
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "idx")
        plain.write_bytes(content)
        array: NDArray[Any] = read(str(plain)).numpy()
        return array


def read_cifar(row: Dataset, data_dir: Path) -> Archive:
    """CIFAR-10 or CIFAR-100, from the extracted folder or the published archive.

    Raises:
        BadData: neither is there, or a file is missing, altered or does not fit. Nothing is unpickled before its md5
            is checked, because a pickle can run any code.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[row.name]
    roots = (data_dir, data_dir / row.name)
    for root in roots:
        if (root / reader.base_folder).is_dir():
            return _cifar(row, reader, root, root / reader.base_folder)
        archive = root / reader.filename
        if archive.is_file():
            if not check_integrity(str(archive), reader.tgz_md5):
                raise BadData(f"{archive} is not the published file: its md5 is not {reader.tgz_md5}.", try_=_AGAIN)
            with tempfile.TemporaryDirectory() as folder:
                try:
                    with tarfile.open(archive) as tar:
                        tar.extractall(folder, filter="data")
                except (OSError, tarfile.TarError) as error:
                    raise BadData(f"{archive} cannot be extracted to a temporary folder: {error}.") from error
                return _cifar(row, reader, Path(folder), archive)
    raise missing(row, f"{reader.filename} or folder {reader.base_folder}", roots)


def _cifar(row: Dataset, reader: Any, root: Path, shown: Path) -> Archive:
    from torchvision.datasets.utils import check_integrity

    folder = root / reader.base_folder
    for name, md5 in (*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])):
        if not (folder / name).is_file():
            raise BadData(f"{shown} lacks {name}.", try_=row.obtain)
        if not check_integrity(str(folder / name), md5):
            raise BadData(f"{shown / name} is not the published file: its md5 is not {md5}.", try_=row.obtain)
    with warnings.catch_warnings():
        # numpy has deprecated what the published pickles, of Python 2, say of their dtype
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        parts = [reader(str(root), train=train, download=False) for train in (True, False)]
    pairs = [Arrays(np.ascontiguousarray(p.data), np.asarray(p.targets, np.int64)) for p in parts]
    train, test = (
        _fitting(arrays, row, f"{shown} ({part})", f"{shown} ({part})")
        for arrays, part in zip(pairs, _IDX_FILES, strict=True)
    )
    return Archive(tuple(parts[0].classes), train, test)


def _fitting(arrays: Arrays, row: Dataset, images: str, labels: str) -> Arrays:
    assert row.classes is not None
    if len(arrays.images) != len(arrays.labels):
        raise BadData(f"{labels} has {len(arrays.labels):,} labels, {images} {len(arrays.images):,} images.")
    wrong = np.flatnonzero((arrays.labels < 0) | (arrays.labels >= row.classes))
    if len(wrong):
        raise BadData(
            f"{labels}: label {arrays.labels[wrong[0]]} at place {wrong[0]} (counted from 0) is none of the "
            f"{row.classes} classes of {row.title}, which are numbered from 0."
        )
    return arrays
