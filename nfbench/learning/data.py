"""The data sets that nets learn from: read once, checked, with a digest that tells two copies apart.

Small sets are arrays in memory, from the published files of (Fashion-)MNIST and CIFAR, each defect of which is worded.
Pictures stay in their folders, one folder per class, and are opened one by one.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import stat
import struct
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from nfbench.catalog.datasets import DATASETS, Dataset, find, imagenet_root, missing
from nfbench.devices.host import memory_available
from nfbench.errors import BadData
from nfbench.units import expanded, first_few, plural, resolved

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[["Image"], Any]

MOST_UNREADABLE = 0.01
"""The largest share of unreadable images: above it the accuracy would be that of another data set."""
SYSTEM = Path("/usr/share/datasets")
"""Where Debian's dataset packages put their files."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_AGAIN = "download the file again"
_BITS, _WHITE_IS = 258, 262
"""TIFF's tags BitsPerSample and PhotometricInterpretation, whose 0 says that 0 is white."""
_UNREADABLE, _REFUSED = 1, 2


class Arrays(NamedTuple):
    """Pictures in memory: ``images`` uint8 (N, H, W, C) with C 1 or 3, ``labels`` int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Pictures(NamedTuple):
    """Picture files of ``folder``, its class folders' parent: ``samples`` are (path, class index), ``passed_over`` the
    folders that were not read, and why."""

    folder: Path
    samples: list[tuple[str, int]]
    passed_over: tuple[str, ...] = ()


_Part = TypeVar("_Part", Arrays, Pictures)


class Parts(NamedTuple, Generic[_Part]):
    """The two parts of a data set and the names of its classes."""

    classes: tuple[str, ...]
    train: _Part
    test: _Part


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


def load(dataset: str, data_dir: Path | None = None) -> Data:
    """The data set of that name, or the pictures of ``imagefolder:PATH``, from ``data_dir`` or the folder ``data``.

    Raises:
        BadData: there is no such set, its files are missing, broken or not for this user, or ``data_dir`` is no folder.
    """
    try:
        return _load(dataset, data_dir)
    except OSError as error:
        if error.filename is None:
            raise
        raise BadData(
            f"{error.filename} cannot be read: {error.strerror}.",
            try_=f"chmod -R u+rX {Path(error.filename).parent}" if isinstance(error, PermissionError) else "",
        ) from error


def held_out(data: Data, share: float, part: float) -> Data:
    """``data`` without its test set: ``share`` of the training images of each class take its place, and ``part`` of
    the others (at least one of each class) are left to learn from. Which these are is always the same."""
    labels = np.asarray(
        data.train.labels if isinstance(data.train, Arrays) else [label for _, label in data.train.samples]
    )
    rng = np.random.default_rng(0)
    train: list[int] = []
    test: list[int] = []
    for each in np.unique(labels):
        places = rng.permutation(np.flatnonzero(labels == each))
        tested, rest = np.split(places, [max(1, round(share * len(places)))])
        test += tested.tolist()
        train += rest[: max(1, round(part * len(rest)))].tolist()
    return data._replace(train=_chosen(data.train, sorted(train)), test=_chosen(data.train, sorted(test)))


def _chosen(part: Arrays | Pictures, places: list[int]) -> Arrays | Pictures:
    if isinstance(part, Arrays):
        return Arrays(part.images[places], part.labels[places])
    return part._replace(samples=[part.samples[place] for place in places])


def _load(dataset: str, data_dir: Path | None) -> Data:
    row = find(dataset)
    folder = Path("data") if data_dir is None else expanded(data_dir)
    if data_dir is not None and not folder.is_dir():
        what = f"The data folder {folder}"
        raise BadData(f"{what} is a file." if folder.exists() else f"{what} does not exist.", try_="--data-dir FOLDER")
    if row.name == "imagefolder":
        path = dataset.partition(":")[2]
        if not path:
            raise BadData(f"{dataset} names no folder.", try_=row.obtain)
        root = expanded(path)
        # resolved, so that imagefolder:. has a name
        return _of_folders(row, f"imagefolder:{resolved(root).name}", read_folders(root))
    if row.name == "imagenet":
        return _of_folders(row, row.name, read_folders(imagenet_root(folder), row))
    if row.name == "digits":
        return _of_arrays(row, _digits())
    return _of_arrays(row, (read_cifar if row.name.startswith("cifar") else read_idx)(row, folder))


def _digits() -> Parts[Arrays]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = digits.target.astype(np.int64)
    places = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    train, test = (Arrays(images[part], labels[part]) for part in places)
    return Parts(tuple(map(str, digits.target_names)), train, test)


def _of_arrays(row: Dataset, parts: Parts[Arrays]) -> Data:
    digest = hashlib.blake2b(digest_size=6)
    for arrays in (parts.train, parts.test):
        digest.update(repr(arrays.images.shape).encode())
        digest.update(np.ascontiguousarray(arrays.images).data)
        digest.update(arrays.labels.astype("<i8").data)
    # exact from the counts of the 256 values, where a sum of floats would depend on its order
    images, values = parts.train.images, np.arange(256) / 255
    counts = [_counts(images[..., channel]) for channel in range(images.shape[-1])]
    means = [float(count @ values / count.sum()) for count in counts]
    stds = [
        float(np.sqrt(count @ (values - mean) ** 2 / count.sum())) for count, mean in zip(counts, means, strict=True)
    ]
    if any(np.count_nonzero(count) == 1 for count in counts):
        raise BadData(f"All training images of {row.title} have one and the same value in a channel.", try_=row.obtain)
    notes = _notes(row, len(images), len(parts.test.images))
    return Data(row.name, *parts, digest.hexdigest(), tuple(means), tuple(stds), notes)


def _counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    # in parts, because bincount makes eight bytes of each
    parts = np.array_split(values, 16)
    counts: NDArray[np.int64] = np.sum([np.bincount(part.ravel(), minlength=256) for part in parts], axis=0)
    return counts


def _of_folders(row: Dataset, name: str, parts: Parts[Pictures]) -> Data:
    digest = hashlib.blake2b(digest_size=6)
    for part, pictures in (("train", parts.train), ("test", parts.test)):
        for path, _ in sorted(pictures.samples):
            relative = Path(path).relative_to(pictures.folder).as_posix()
            # a link to nowhere is one more unreadable picture
            about = Path(path).stat() if Path(path).exists() else None
            if about and not stat.S_ISREG(about.st_mode):
                raise BadData(f"{path} is no file, though it is called like a picture.", try_="without it")
            size = about.st_size if about else -1
            digest.update(os.fsencode(f"{part}/{relative}\0{size}\n"))
    notes = _notes(row, len(parts.train.samples), len(parts.test.samples))
    if passed_over := parts.train.passed_over + parts.test.passed_over:
        notes["folders"] = f"not read: {first_few(passed_over)}"
    return Data(name, *parts, digest.hexdigest(), _IMAGENET_MEAN, _IMAGENET_STD, notes)


def _notes(row: Dataset, train: int, test: int) -> dict[str, str]:
    differences = [
        f"{images:,} of the {published:,} published {part} images"
        if images < published
        else f"{images:,} {part} images, where {published:,} were published"
        for part, images, published in (("training", train, row.train_images), ("test", test, row.test_images))
        if published is not None and images != published
    ]
    return {"data": ", ".join(differences)} if differences else {}


def read_idx(row: Dataset, data_dir: Path) -> Parts[Arrays]:
    """MNIST or Fashion-MNIST from the first of its folders that has any of the four files.

    Raises:
        BadData: no folder has one, one is missing, broken or cut off, or labels and images do not fit.
    """
    from torchvision import datasets

    reader = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[row.name]
    # data_dir itself comes after its subfolders: MNIST's and Fashion-MNIST's files have the same names
    folders = (
        data_dir / row.name,
        data_dir / row.name / "raw",
        data_dir / reader.__name__ / "raw",
        data_dir,
        SYSTEM / row.name,
    )
    names = [name for pair in _IDX_FILES.values() for name in pair]
    for folder in folders:
        paths = {name: path for name in names if (path := _idx_file(folder, name))}
        if paths:
            break
    else:
        raise missing(row, f"{', '.join(names[:-1])} or {names[-1]}, with or without .gz", folders)
    if lacking := [name for name in names if name not in paths]:
        raise BadData(f"{folder} lacks {', '.join(lacking)} (with or without .gz).", try_=row.obtain)
    train, test = (_idx_pair(row, paths[images], paths[labels]) for images, labels in _IDX_FILES.values())
    return Parts(tuple(reader.classes), train, test)


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def _idx_pair(row: Dataset, images_path: Path, labels_path: Path) -> Arrays:
    images = _idx(images_path, "images", 2051, dims=3)
    labels = _idx(labels_path, "labels", 2049, dims=1).astype(np.int64)
    if images.shape[1:] != (row.px, row.px):
        size = "×".join(map(str, images.shape[1:]))
        raise BadData(f"{images_path} holds images of {size} px, where {row.title} has {row.px}×{row.px}.")
    return _fitting(Arrays(images[..., None], labels), row, str(images_path), str(labels_path))


def _idx(path: Path, what: str, magic: int, *, dims: int) -> NDArray[np.uint8]:
    header = 4 + 4 * dims
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(header)
            says = header + math.prod(struct.unpack_from(f">{dims}I", content, 4)) if len(content) == header else 0
            if says > memory_available():
                raise BadData(
                    f"{path} says that it holds {says:,} bytes, more than this machine has free.", try_=_AGAIN
                )
            # what comes after that is not unpacked
            content += file.read(max(0, says - header) + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise BadData(
            f"{path} cannot be unpacked: cut off, corrupt or no gzip file.", why=f"gzip: {error}.", try_=_AGAIN
        ) from error
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}.") from error
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
        unpacked = f"{len(content):,} bytes unpacked, not {expected:,}" if than == "shorter" else f"{expected:,} bytes"
        raise BadData(f"{path} is {than} than its header says: {unpacked}.", try_=_AGAIN)
    # a copy, because torch warns of arrays that cannot be written
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def read_cifar(row: Dataset, data_dir: Path) -> Parts[Arrays]:
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


def _cifar(row: Dataset, reader: Any, root: Path, shown: Path) -> Parts[Arrays]:
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
    return Parts(tuple(parts[0].classes), train, test)


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


def read_folders(root: Path, row: Dataset = DATASETS["imagefolder"]) -> Parts[Pictures]:
    """The pictures of ``root``/train and ``root``/val (or test), by name; none is opened.

    Raises:
        BadData: a folder is missing, cannot be read, is without classes or with an empty class, the classes of the two
            differ, or are not as many as those of ``row``.
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
            f"only {test_folder.name} has {first_few(more)}" if more else "",
            f"only train has {first_few(fewer)}" if fewer else "",
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
    return Parts(classes, train, test)


def _pictures(folder: Path, row: Dataset) -> tuple[tuple[str, ...], Pictures]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    def unreadable(error: OSError) -> NoReturn:
        raise error

    passed_over: list[str] = []
    classes: list[str] = []
    samples: list[tuple[str, int]] = []
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        at = Path(place)
        for name in list(folders):
            back = (at / name).is_symlink() and _leads_back(folder, at / name)
            if back or name.startswith("."):
                folders.remove(name)
                passed_over.append(f"{(at / name).relative_to(folder.parent)} ({'a link back' if back else 'hidden'})")
        # a link to a picture that is gone is one more unreadable picture
        for name in names:
            if (at / name).is_symlink() and not name.lower().endswith(IMG_EXTENSIONS) and not (at / name).exists():
                raise BadData(
                    f"{at / name} is a link to nowhere: {(at / name).readlink()}.",
                    why="Where it led to a folder, pictures would be missing.",
                    try_="mend or remove it",
                )
        if at == folder:
            classes = sorted(folders)
            continue
        label = classes.index(at.relative_to(folder).parts[0])
        samples += [(str(at / name), label) for name in names if name.lower().endswith(IMG_EXTENSIONS)]
    if not classes:
        raise BadData(f"{folder} has no class folder.", try_=row.obtain)
    filled = {label for _, label in samples}
    if empty := [name for label, name in enumerate(classes) if label not in filled]:
        raise BadData(
            f"{folder}: no picture in {plural(len(empty), 'class folder')}: {first_few(empty)}.",
            try_="pictures in each, or without that folder",
        )
    samples.sort(key=lambda sample: (sample[1], Path(sample[0]).parent.parts, sample[0]))
    return tuple(classes), Pictures(folder, samples, tuple(sorted(passed_over)))


def _leads_back(top: Path, link: Path) -> bool:
    """Whether to follow ``link`` would lead once more into ``top`` or into any folder, linked ones too, on the way from
    there to the link."""
    target = resolved(link)
    way = [resolved(place) for place in link.parents if place.is_relative_to(top)]
    return any(target.is_relative_to(place) or place.is_relative_to(target) for place in way)


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


def rgb(picture: Image, path: str) -> Image:
    """``picture`` in 8 bits a channel, on white where it is transparent.

    Pillow's own conversion would cut greys of more than 8 bits off at 255, and show the colour that lies beneath
    transparent pixels, mostly black.

    Raises:
        BadData: its values are floats, or integers of 32 bits or with a sign, of which no file says what white is.
    """
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        tags = getattr(picture, "tag_v2", {})
        bits = tags.get(_BITS, 16)
        # TIFF has 12 bits too; Pillow scales greys of other formats to 16
        values = np.asarray(picture) / (2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
        values = 1 - values if tags.get(_WHITE_IS) == 0 else values
        picture = Image.fromarray(np.rint(255 * values).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise BadData(
            f"{path} has {'floats' if picture.mode == 'F' else 'integers of 32 bits or with a sign'} for pixels.",
            why="The file does not say which value is white.",
            try_="pictures of 8 or 16 bits a channel",
        )
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _opened(path: str) -> Image:
    from PIL import Image

    # Pillow warns of odd but readable files, of ImageNet's among them
    with warnings.catch_warnings(), Path(path).open("rb") as file:
        warnings.simplefilter("ignore")
        return rgb(Image.open(file), path)


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
        if self._marks[place] == _UNREADABLE:
            return None
        try:
            return _opened(path)
        except BadData:
            self._marks[place] = _REFUSED
            raise
        except MemoryError:
            raise
        except Exception:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
            self._marks[place] = _UNREADABLE
            return None

    def unreadable(self) -> list[str]:
        """The pictures that could not be read so far, relative to the folder, sorted."""
        paths = [Path(self.pictures.samples[place][0]) for place in self._marked(_UNREADABLE)]
        return sorted(path.relative_to(self.pictures.folder).as_posix() for path in paths)

    def _marked(self, mark: int) -> list[int]:
        places: list[int] = (self._marks == mark).nonzero().flatten().tolist()
        return places

    def check(self) -> None:
        """Raises BadData where a picture was refused so far, or more than 1 % could not be read."""
        for place in self._marked(_REFUSED)[:1]:
            _opened(self.pictures.samples[place][0])
        names, total = self.unreadable(), len(self)
        if len(names) > MOST_UNREADABLE * total:
            raise BadData(
                f"{len(names):,} of the {total:,} pictures in {self.pictures.folder} cannot be read: "
                f"{first_few(names)}.",
                why=f"At most {MOST_UNREADABLE:.0%} may be.",
                try_="mend or remove them",
            )
