"""Published files are read right and broken ones refused in words; a picture that cannot be read is counted."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nfbench.catalog.datasets import DATASETS, find
from nfbench.errors import BadData
from nfbench.learning import data as sets
from nfbench.learning.data import Arrays, Pictures, PictureSet, load, rgb

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SYSTEM = sets.SYSTEM


@pytest.fixture(autouse=True)
def nothing_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(sets, "SYSTEM", tmp_path / "system")


def refusal(dataset: str, data_dir: Path | None = None) -> BadData:
    with pytest.raises(BadData) as caught:
        load(dataset, data_dir)
    return caught.value


# ---- the catalogue and digits


def test_a_data_set_is_found_as_it_is_typed() -> None:
    for typed, name in (
        ("Fashion_MNIST", "fashion-mnist"),
        ("CIFAR-10", "cifar10"),
        ("imagefolder:/a:b", "imagefolder"),
    ):
        assert find(typed) is DATASETS[name]
    with pytest.raises(BadData, match=r"(?s)near it\.\nTry: digits, fashion-mnist, mnist, cifar10, .* for your own$"):
        find("zzz:qqq")


def test_digits_are_always_split_the_same_with_every_class_in_both_parts() -> None:
    first, second = load("digits"), load("digits")
    assert isinstance(first.train, Arrays) and isinstance(first.test, Arrays)
    images = first.train.images
    assert images.shape == (1437, 8, 8, 1) and first.test.images.shape == (360, 8, 8, 1)
    assert (images.dtype, images.min(), images.max(), first.train.labels.dtype) == (np.uint8, 0, 255, np.int64)
    assert set(first.train.labels) == set(first.test.labels) == set(range(10))
    # no test image is a training image
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in first.test.images}
    assert first.digest == second.digest and len(first.digest) == 12
    assert (first.notes, first.classes) == ({}, tuple("0123456789"))
    assert first.mean == pytest.approx([(images / 255).mean()], rel=1e-12)
    assert first.std == pytest.approx([(images / 255).std()], rel=1e-12)


# ---- idx files


def idx_images(count: int, px: int = 28, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, px, px), np.uint8)
    return struct.pack(">4I", 2051, count, px, px) + pixels.tobytes()


def idx_labels(*labels: int) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + bytes(labels)


IDX = {
    TRAIN_IMAGES: idx_images(20),
    TRAIN_LABELS: idx_labels(*range(10), *range(10)),
    TEST_IMAGES: idx_images(10, seed=1),
    TEST_LABELS: idx_labels(*range(10)),
}
ZIPPED = {f"{name}.gz": gzip.compress(content, 1) for name, content in IDX.items()}
OTHER = IDX | {TRAIN_IMAGES: idx_images(20, seed=7)}


def write(folder: Path, files: dict[str, bytes] = IDX) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_idx_files_are_read_as_they_were_written_zipped_or_not(tmp_path: Path) -> None:
    zipped, plain = load("mnist", write(tmp_path / "zipped", ZIPPED)), load("mnist", write(tmp_path / "plain"))
    assert zipped.digest == plain.digest
    for data in (zipped, plain):
        assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
        assert data.train.images.shape == (20, 28, 28, 1) and data.test.images.shape == (10, 28, 28, 1)
        assert data.train.images.tobytes() == IDX[TRAIN_IMAGES][16:]
        assert data.test.images.tobytes() == IDX[TEST_IMAGES][16:]
        assert data.train.labels.tolist() == [*range(10)] * 2 and data.train.labels.dtype == np.int64
        assert data.classes[0] == "0 - zero" and len(data.classes) == 10
        assert data.notes == {
            "data": "20 of the 60,000 published training images, 10 of the 10,000 published test images"
        }
    # one pixel or one label changes the digest
    pixel = IDX | {TEST_IMAGES: IDX[TEST_IMAGES][:-1] + bytes([IDX[TEST_IMAGES][-1] ^ 1])}
    label = IDX | {TEST_LABELS: idx_labels(1, *range(1, 10))}
    others = [load("mnist", write(tmp_path / name, held)) for name, held in (("b", pixel), ("c", label))]
    assert len({data.digest for data in (plain, *others)}) == 3


def test_idx_files_are_found_wherever_they_are_kept_and_in_the_systems_folder_last(tmp_path: Path) -> None:
    for name, reader in (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")):
        for number, place in enumerate((".", name, f"{name}/raw", f"{reader}/raw")):
            folder = tmp_path / f"{name} {number}"
            write(folder / place)
            assert load(name, folder).name == name
    write(tmp_path / "system" / "mnist")
    system = load("mnist").digest
    write(tmp_path / "work" / "data", OTHER)
    assert load("mnist").digest != system
    # the other set's files in the data folder itself do not stand in for those of a folder of its name
    mixed = write(tmp_path / "mixed" / "fashion-mnist").parent
    digest = load("fashion-mnist", mixed).digest
    write(mixed, OTHER)
    assert load("fashion-mnist", mixed).digest == digest


def test_a_missing_set_says_what_was_looked_for_and_where_and_what_to_type(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mnist = str(refusal("fashion-mnist", data))
    assert mnist.startswith("Fashion-MNIST is not here: found no train-images-idx3-ubyte, train-labels-idx1-ubyte, ")
    assert f"{data}, {tmp_path / 'system' / 'fashion-mnist'}.\nTry: apt-get install dataset-fashion-mnist, or " in mnist
    cifar, imagenet = str(refusal("cifar100", data)), str(refusal("imagenet", data))
    assert cifar.startswith("CIFAR-100 is not here: found no cifar-100-python.tar.gz or folder cifar-100-python.\n")
    assert f"\nLooked in {data / 'imagenet'}, {data}.\nTry: --data-dir FOLDER with train/ and val/" in imagenet
    write(data)
    (data / TEST_LABELS).unlink()
    assert refusal("mnist", data).what == f"{data} lacks t10k-labels-idx1-ubyte (with or without .gz)."


WHOLE = ZIPPED[f"{TRAIN_IMAGES}.gz"]
UNPACKED = " cannot be unpacked: cut off, corrupt or no gzip file.\ngzip: "


@pytest.mark.parametrize(
    "name, content, words",
    [
        (f"{TRAIN_IMAGES}.gz", WHOLE[:-100], f"{UNPACKED}Compressed file ended before the end-of-stream marker"),
        (f"{TRAIN_IMAGES}.gz", WHOLE[:-6] + bytes([WHOLE[-6] ^ 255]) + WHOLE[-5:], f"{UNPACKED}CRC check failed"),
        (f"{TRAIN_IMAGES}.gz", b"<html>404</html>", f"{UNPACKED}Not a gzipped file (b'<h')."),
        (f"{TRAIN_IMAGES}.gz", WHOLE[:10] + b"\xff" * 500, f"{UNPACKED}Error -3 while decompressing data"),
        (TRAIN_IMAGES, idx_labels(1), " is no idx file of images: it starts with 2049, not with 2051."),
        (TEST_LABELS, idx_images(1), " is no idx file of labels: it starts with 2051, not with 2049."),
        (TRAIN_IMAGES, b"", " ends within its header: 0 of 16 bytes."),
        (TRAIN_LABELS, idx_labels()[:5], " ends within its header: 5 of 8 bytes."),
        (TRAIN_IMAGES, idx_images(20)[:-1], " is shorter than its header says: 15,695 bytes unpacked, not 15,696."),
        (TEST_LABELS, idx_labels(*range(10)) + b"x", " is longer than its header says: 18 bytes."),
        (TRAIN_IMAGES, idx_images(0), " holds no images."),
        (TEST_LABELS, idx_labels(), " holds no labels."),
        (TEST_IMAGES, idx_images(10, px=8), " holds images of 8×8 px, where MNIST has 28×28."),
        (TEST_LABELS, idx_labels(0, 1, 2, 10, 4, 5, 6, 7, 8, 12), ": label 10 at place 3 (counted from 0) is none"),
    ],
)
def test_each_defect_of_an_idx_file_is_one_worded_error(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    error = str(refusal("mnist", write(tmp_path / "data", IDX | {name: content})))
    assert error.startswith(f"{tmp_path / 'data' / name}{words}")
    assert "\nTry: download the file again" in error or "px" in words or "label 10" in words


def test_images_that_do_not_fit_their_labels_or_are_all_alike_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "data", IDX | {TRAIN_IMAGES: idx_images(21)})
    labels, images = folder / TRAIN_LABELS, folder / TRAIN_IMAGES
    assert refusal("mnist", folder).what == f"{labels} has 20 labels, {images} 21 images."
    # or normalization would divide by zero
    images.write_bytes(struct.pack(">4I", 2051, 20, 28, 28) + b"\x80" * (20 * 28 * 28))
    assert refusal("mnist", folder).what == "All training images of MNIST have one and the same value in a channel."


@pytest.mark.skipif(not (SYSTEM / "fashion-mnist").is_dir(), reason="dataset-fashion-mnist is not installed")
def test_the_real_fashion_mnist_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "SYSTEM", SYSTEM)
    data = load("fashion-mnist")
    assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
    assert data.train.images.shape == (60_000, 28, 28, 1) and data.test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert data.mean == pytest.approx([0.2860], abs=1e-4) and data.std == pytest.approx([0.3530], abs=1e-4)
    assert (data.classes[9], data.notes) == ("Ankle boot", {})


# ---- CIFAR

Cifar = Callable[..., Path]


def cifar_batch(count: int, key: str, seed: int) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    return {"data": pixels, key: [*range(count)]}


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cifar:
    """Writes a small CIFAR, and gives torchvision's reader the md5 of these files for those of the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    def write(name: str = "cifar10", change: Callable[[dict[str, Any]], None] = lambda files: None) -> Path:
        reader, classes, key = {"cifar10": (CIFAR10, 10, "labels"), "cifar100": (CIFAR100, 100, "fine_labels")}[name]
        folder = tmp_path / "data" / reader.base_folder
        folder.mkdir(parents=True)
        names = [file for file, _ in (*reader.train_list, *reader.test_list)]
        files: dict[str, Any] = {file: cifar_batch(classes, key, seed) for seed, file in enumerate(names)}
        files[reader.meta["filename"]] = {reader.meta["key"]: [f"class {n}" for n in range(classes)]}
        change(files)
        md5 = {}
        for file, content in files.items():
            (folder / file).write_bytes(pickle.dumps(content, protocol=2))
            md5[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
        monkeypatch.setattr(reader, "train_list", [[file, md5[file]] for file, _ in reader.train_list])
        monkeypatch.setattr(reader, "test_list", [[file, md5[file]] for file, _ in reader.test_list])
        monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5[reader.meta["filename"]]})
        return folder

    return write


def pack(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published archive in place of the folder."""
    from torchvision import datasets

    reader = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    path = folder.parent / reader.filename
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("name, classes, train", [("cifar10", 10, 50), ("cifar100", 100, 100)])
def test_cifar_is_the_same_from_its_folder_and_from_its_archive(
    cifar: Cifar, monkeypatch: pytest.MonkeyPatch, name: str, classes: int, train: int
) -> None:
    folder = cifar(name)
    data = load(name, folder.parent)
    assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
    assert data.train.images.shape == (train, 32, 32, 3) and data.train.labels.shape == (train,)
    assert data.test.images.shape == (classes, 32, 32, 3)
    assert data.classes == tuple(f"class {n}" for n in range(classes))
    planes = cifar_batch(classes, "labels", 0)["data"].reshape(classes, 3, 32, 32)
    assert (data.train.images[:classes] == planes.transpose(0, 2, 3, 1)).all()
    channel = data.train.images[..., 1] / 255
    assert (data.mean[1], data.std[1]) == pytest.approx((channel.mean(), channel.std()), rel=1e-12)
    pack(folder, name, monkeypatch)
    assert load(name, folder.parent).digest == data.digest


class Payload:
    """A pickle that leaves a trace where it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_an_altered_file_of_cifar_is_named_and_never_unpickled(cifar: Cifar, tmp_path: Path, name: str) -> None:
    folder = cifar()
    (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "trace")))
    error = refusal("cifar10", folder.parent)
    assert error.what.startswith(f"{folder / name} is not the published file: its md5 is not ")
    assert not (tmp_path / "trace").exists()


def test_a_cifar_archive_that_is_altered_or_broken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"no tar at all")
    error = refusal("cifar10", tmp_path)
    assert error.what == f"{archive} is not the published file: its md5 is not c58f30108f718f92721af3b95e74349a."
    assert error.try_ == "download the file again"
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert refusal("cifar10", tmp_path).what.startswith(f"{archive} cannot be extracted to a temporary folder: ")


def test_cifar_labels_outside_the_classes_or_too_few_are_named(cifar: Cifar) -> None:
    folder = cifar("cifar10", lambda files: files["test_batch"]["labels"].__setitem__(4, 10))
    assert refusal("cifar10", folder.parent).what == (
        f"{folder} (test): label 10 at place 4 (counted from 0) is none of the 10 classes of CIFAR-10, "
        "which are numbered from 0."
    )
    folder = cifar("cifar100", lambda files: files["train"]["fine_labels"].pop())
    assert refusal("cifar100", folder.parent).what == f"{folder} (train) has 99 labels, {folder} (train) 100 images."


# ---- folders


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def tree(root: Path, classes: str = "cat dog", parts: str = "train val") -> Path:
    for part in parts.split():
        for name in classes.split():
            picture(root / part / name / "1.png")
    return root


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_folder_of_pictures_has_its_classes_in_order(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "secret" / "pets", "dog cat Ant", f"train {part}")
    # left to those who read pictures
    (root / "train" / "dog" / "2.png").symlink_to(tmp_path / "nowhere.png")
    data = load(f"imagefolder:{root}")
    assert data.classes == ("Ant", "cat", "dog")
    assert isinstance(data.train, Pictures) and isinstance(data.test, Pictures)
    assert data.train.folder == root / "train" and data.test.folder == root / part
    assert data.train.samples[2:] == [(str(root / "train" / "dog" / f"{number}.png"), 2) for number in (1, 2)]
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.notes == {}
    monkeypatch.chdir(root)
    for path in (str(root), f"{root}/", ".", "../pets"):
        assert load(f"imagefolder:{path}").name == "imagefolder:pets"


def test_the_digest_of_a_folder_moves_with_it_and_changes_with_any_file(tmp_path: Path) -> None:
    def digest(name: str) -> str:
        return load(f"imagefolder:{tmp_path / name}").digest

    tree(tmp_path / "a")
    tree(tmp_path / "b")
    first = digest("a")
    assert digest("b") == first and len(first) == 12
    picture(tmp_path / "b" / "val" / "cat" / "2.png")
    more = digest("b")
    (tmp_path / "b" / "val" / "cat" / "2.png").write_bytes(b"longer than before" * 100)
    assert len({first, more, digest("b")}) == 3


def test_imagenet_is_found_in_the_data_folder_or_one_of_its_name_and_has_a_thousand_classes(tmp_path: Path) -> None:
    names = [f"n{number:08}" for number in range(1000)]
    for part in ("train", "val"):
        for name in names:
            (tmp_path / "a" / "imagenet" / part / name).mkdir(parents=True)
            (tmp_path / "a" / "imagenet" / part / name / "1.jpeg").touch()
    for folder in (tmp_path / "a", tmp_path / "a" / "imagenet"):
        data = load("imagenet", folder)
        assert data.name == "imagenet" and data.classes == tuple(names)
        assert data.notes == {
            "data": "1,000 of the 1,281,167 published training images, 1,000 of the 50,000 published test images"
        }
    error = refusal("imagenet", tree(tmp_path / "b"))
    assert error.what == f"{tmp_path / 'b'} has 2 class folders, where ImageNet has 1,000."
    assert error.try_ == f"imagefolder:{tmp_path / 'b'} for a set of your own"


def classless(root: Path) -> None:
    tree(root, parts="val")
    picture(root / "train" / "1.png")


def empty_classes(root: Path) -> None:
    tree(root)
    for name in ("cow", ".checkpoints"):
        (root / "val" / name).mkdir()
    (root / "val" / "cow" / "notes.txt").write_text("no picture")


def differing(root: Path) -> None:
    tree(root, "ant cat", "train")
    tree(root, "cat dog eel", "val")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "There is no folder {root}."),
        (lambda root: root.write_text(""), "{root} is a file, not a folder."),
        (lambda root: tree(root, parts="val"), "{root} has no folder train."),
        (lambda root: tree(root, parts="train"), "{root} has neither a folder val nor test."),
        (classless, "{root}/train has no class folder."),
        (empty_classes, "{root}/val: no picture in 1 class folder: cow."),
        (differing, "The classes of {root}/train and {root}/val differ: only val has dog, eel; only train has ant."),
    ],
)
def test_each_defect_of_a_folder_of_pictures_is_named(tmp_path: Path, make: Callable[[Path], Any], words: str) -> None:
    make(tmp_path / "pets")
    assert refusal(f"imagefolder:{tmp_path / 'pets'}").what.startswith(words.format(root=tmp_path / "pets"))
    error = refusal("imagefolder:")
    assert error.what == "imagefolder: names no folder."
    assert error.try_ == "imagefolder:PATH with PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg"


# ---- pictures one by one


def some_pictures(root: Path, count: int, broken: tuple[int, ...] = ()) -> Pictures:
    """``count`` pictures whose red is their number; the broken ones are PNG files cut in the middle."""
    samples = []
    for number in range(count):
        path = root / "cat" / f"{number:03}.png"
        picture(path, number)
        if number in broken:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
        samples.append((str(path), number % 2))
    return Pictures(root, samples)


def test_a_readable_picture_comes_as_rgb_with_its_class_and_goes_through_the_transform(tmp_path: Path) -> None:
    files = some_pictures(tmp_path, 4)
    Image.new("L", (4, 4), 9).save(files.samples[2][0])
    # of which Pillow warns
    palette = Image.new("P", (4, 4))
    palette.putpalette([0, 0, 7] * 256)
    palette.save(files.samples[3][0], transparency=bytes(reversed(range(256))))
    pictures = PictureSet(files, training=True, px=4)
    assert len(pictures) == 4
    image, target = pictures[1]
    assert (image.mode, image.getpixel((0, 0)), target) == ("RGB", (1, 0, 0), 1)
    assert pictures[2][0].getpixel((0, 0)) == (9, 9, 9) and pictures[3][0].getpixel((0, 0)) == (0, 0, 7)
    assert pictures.unreadable() == []
    pictures.transform = lambda image: image.size
    assert pictures[1] == ((4, 4), 1)
    with pytest.raises(IndexError):
        pictures[4]


def test_in_training_the_next_readable_picture_takes_the_place_of_a_broken_one(tmp_path: Path) -> None:
    pictures = PictureSet(some_pictures(tmp_path, 5, (1, 2, 4)), training=True, px=4)
    for _ in range(2):
        assert [pictures[n][0].getpixel((0, 0))[0] for n in range(5)] == [0, 3, 3, 3, 0]
        assert [pictures[n][1] for n in range(5)] == [0, 1, 1, 1, 0]
    assert pictures.unreadable() == ["cat/001.png", "cat/002.png", "cat/004.png"]
    nothing = PictureSet(some_pictures(tmp_path, 3, (0, 1, 2)), training=True, px=4)
    with pytest.raises(BadData, match=r"^Not one of the 3 pictures in .* can be read\.$"):
        nothing[1]


def test_in_evaluation_a_broken_or_missing_picture_is_blank_and_of_no_class(tmp_path: Path) -> None:
    files = some_pictures(tmp_path, 5, (1,))
    Path(files.samples[2][0]).unlink()
    Path(files.samples[3][0]).write_bytes(b"")
    Path(files.samples[4][0]).write_text("<html>not found</html>")
    pictures = PictureSet(files, training=False, px=6)
    for _ in range(2):
        assert [pictures[n][1] for n in range(5)] == [0, -1, -1, -1, -1]
        image, _ = pictures[1]
        assert image.mode == "RGB" and image.size == (6, 6) and image.getextrema() == ((0, 0),) * 3
    assert pictures.unreadable() == [f"cat/00{n}.png" for n in range(1, 5)]


def width(image: Image.Image) -> int:
    return image.size[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # spawned workers would import torch for seconds
def test_worker_processes_tell_the_main_one_what_they_could_not_read(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    pictures = PictureSet(some_pictures(tmp_path, 8, (1, 6)), training=False, px=4, transform=width)
    loader: Any = DataLoader(pictures, batch_size=2, num_workers=2, multiprocessing_context="fork")
    assert [target for _, batch in loader for target in batch.tolist()] == [0, -1, 0, 1, 0, 1, -1, 1]
    assert pictures.unreadable() == ["cat/001.png", "cat/006.png"]


@pytest.mark.parametrize(
    ("mode", "values", "shown"),
    [
        ("I;16", [0, 257, 32896, 65535], [0, 1, 128, 255]),
        ("L", [0, 1, 128, 255], [0, 1, 128, 255]),
        ("1", [0, 255, 255, 0], [0, 255, 255, 0]),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_picture_of_any_depth_has_its_greys(
    tmp_path: Path, mode: str, values: list[int], shown: list[int], suffix: str
) -> None:
    path = tmp_path / "cat" / f"1{suffix}"
    path.parent.mkdir()
    dtype = np.uint16 if mode == "I;16" else np.uint8
    Image.fromarray(np.array([values], dtype)).convert(mode).save(path)
    read, label = PictureSet(Pictures(tmp_path, [(str(path), 0)]), training=True, px=8)[0]
    assert read.mode == "RGB" and label == 0
    assert [read.getpixel((x, 0)) for x in range(4)] == [(grey,) * 3 for grey in shown]


def test_big_endian_greys_are_read_as_such() -> None:
    picture = Image.frombytes("I;16B", (2, 1), np.array([257, 65535], ">u2").tobytes())
    assert [rgb(picture, "x").getpixel((x, 0)) for x in range(2)] == [(1, 1, 1), (255, 255, 255)]


def tiff(content: bytes, bits: int, *, white_is: int = 1, sample: int = 1) -> Image.Image:
    """A TIFF of two grey pixels in forms that Pillow reads and does not write."""
    tags = ((256, 2), (257, 1), (258, bits), (259, 1), (262, white_is), (273, 8), (277, 1), (278, 1))
    entries = [*tags, (279, len(content)), (339, sample)]
    start = 8 + len(content)
    parts = [b"II*\0", struct.pack("<I", start), content, struct.pack("<H", len(entries))]
    parts += [struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries]
    return Image.open(io.BytesIO(b"".join([*parts, bytes(4)])))


def test_greys_of_other_depths_are_scaled_by_their_own_white() -> None:
    greys = np.array([0, 4095], ">u2").tobytes()
    pictures = (
        (Image.open(io.BytesIO(b"P5 2 1 65535\n" + np.array([0, 65535], ">u2").tobytes())), [0, 255]),
        (Image.open(io.BytesIO(b"P5 2 1 4095\n" + greys)), [0, 255]),
        (Image.open(io.BytesIO(b"P5 2 1 15\n" + bytes([0, 15]))), [0, 255]),
        (tiff(bytes([0x80, 0x0F, 0xFF]), 12), [128, 255]),
        (tiff(np.array([0, 65535], "<u2").tobytes(), 16, white_is=0), [255, 0]),
    )
    for picture, greys_shown in pictures:
        shown = rgb(picture, "x")
        assert [shown.getpixel((x, 0)) for x in range(2)] == [(grey,) * 3 for grey in greys_shown]


def test_transparent_pixels_are_white_whatever_lies_beneath(tmp_path: Path) -> None:
    beneath = np.array([[[0, 0, 0, 0], [9, 9, 9, 255], [0, 0, 0, 128]]], np.uint8)
    pictures = [Image.fromarray(beneath), Image.fromarray(beneath).convert("LA")]
    for transparency in (0, bytes([0, 255, 127])):
        palette = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
        palette.putpalette([0, 0, 0, 9, 9, 9, 0, 0, 0])
        palette.info["transparency"] = transparency
        pictures.append(palette)
    for number, picture in enumerate(pictures):
        path = tmp_path / f"{number}.png"
        picture.save(path)
        with Image.open(path) as opened:
            shown = np.asarray(rgb(opened, "x"))
        assert shown[0, 0].tolist() == [255] * 3 and shown[0, 1].tolist() == [9] * 3, picture.mode
        if picture.mode != "P":
            assert shown[0, 2].tolist() == [127] * 3


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "1", "P", "PA", "RGBX"])
def test_an_opaque_picture_is_as_pillow_converts_it(mode: str) -> None:
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).convert(mode)
    assert rgb(picture, "x").tobytes() == picture.convert("RGB").tobytes()


@pytest.mark.parametrize(("mode", "words"), [("F", "has floats for pixels"), ("I", "has integers of 32 bits")])
def test_a_picture_whose_white_nobody_knows_is_refused_in_words(tmp_path: Path, mode: str, words: str) -> None:
    path = tmp_path / "cat" / "1.tiff"
    path.parent.mkdir()
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).convert(mode).save(path)
    pictures = Pictures(tmp_path, [(str(path), 0)])
    for training in (True, False):
        with pytest.raises(BadData, match=words):
            PictureSet(pictures, training=training, px=8)[0]


def test_integers_with_a_sign_are_refused_in_words() -> None:
    with pytest.raises(BadData, match="or with a sign for pixels"):
        rgb(tiff(bytes(4), 16, sample=2), "x")


def test_links_back_and_hidden_folders_are_not_read_and_both_are_said(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    for hidden in (root / "train" / ".ipynb_checkpoints", root / "train" / "cat" / ".thumbs"):
        hidden.mkdir()
        picture(hidden / "1.png")
    (root / "train" / "cat" / "again").symlink_to(root)
    (root / "train" / "dog" / "self").symlink_to(root / "train" / "dog")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(elsewhere / "2.png", 7)
    (elsewhere / "loop").symlink_to(elsewhere)
    (root / "train" / "dog" / "more").symlink_to(elsewhere)
    data = load(f"imagefolder:{root}")
    assert data.classes == ("cat", "dog")
    assert isinstance(data.train, Pictures)
    names = [Path(path).relative_to(root / "train").as_posix() for path, _ in data.train.samples]
    assert "dog/more/2.png" in names and len(names) == len(set(names))
    assert not any("again" in name or "self" in name or "loop" in name or "/." in f"/{name}" for name in names)
    said = data.notes["folders"]
    for place in ("train/.ipynb_checkpoints (hidden)", "train/cat/.thumbs (hidden)", "train/cat/again (a link back)"):
        assert place in said


def test_a_folder_that_cannot_be_read_is_an_error_and_not_fewer_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "pets")
    deep = root / "train" / "cat" / "deep"
    deep.mkdir()
    really = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) == deep:
            raise PermissionError(13, "Permission denied", str(deep))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert refusal(f"imagefolder:{root}").what == f"{deep} cannot be read: Permission denied."


def test_a_folder_whose_files_may_not_be_looked_at_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "pets")
    really = os.stat

    def stat(path: Any, **keywords: Any) -> Any:
        if str(path).endswith(".png"):
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, **keywords)

    monkeypatch.setattr(os, "stat", stat)
    error = refusal(f"imagefolder:{root}")
    assert error.what.endswith(".png cannot be read: Permission denied.") and "chmod -R u+rX" in error.try_


@pytest.mark.parametrize("place", ["train/bird", "train/cat/more", "val/cat/deep/er"])
@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_link_to_a_folder_that_is_gone_is_an_error_and_never_fewer_pictures(
    tmp_path: Path, place: str, target: str
) -> None:
    root = tree(tmp_path / "pets")
    link = root / place
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(link if target == "itself" else tmp_path / "nowhere")
    assert f"{link} is a link to nowhere" in str(refusal(f"imagefolder:{root}"))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    assert "pipe.png is no file" in str(refusal(f"imagefolder:{root}"))


def test_links_between_linked_folders_are_followed_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    for name, other in (("e", "f"), ("f", "e")):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / f"{name}.png")
        (tmp_path / name / "next").symlink_to(tmp_path / other)
    (root / "train" / "cat" / "e").symlink_to(tmp_path / "e")
    data = load(f"imagefolder:{root}")
    assert isinstance(data.train, Pictures)
    names = [Path(path).relative_to(root / "train").as_posix() for path, _ in data.train.samples]
    assert [name for name in names if "/e/" in name] == ["cat/e/e.png", "cat/e/next/f.png"]
    assert data.notes["folders"] == "not read: train/cat/e/next/next (a link back)"


@pytest.mark.parametrize("zipped", [True, False])
def test_an_idx_file_that_asks_for_more_than_the_machine_has_is_refused_before_it_is_unpacked(
    tmp_path: Path, zipped: bool
) -> None:
    bomb = struct.pack(">4I", 2051, 2**31, 2**14, 2**14) + bytes(100)
    name = "train-images-idx3-ubyte"
    folder = write(tmp_path / "d", {n: c for n, c in IDX.items() if not n.startswith(name)})
    (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(bomb) if zipped else bomb)
    error = refusal("mnist", folder)
    assert "more than this machine has free" in error.what


def test_what_follows_an_idx_file_s_own_bytes_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "t10k-labels-idx1-ubyte"
    folder = write(tmp_path / "d", {n: c for n, c in IDX.items() if not n.startswith(name)})
    (folder / f"{name}.gz").write_bytes(gzip.compress(idx_labels(*range(10)) + bytes(50 * 2**20)))
    tracemalloc.start()
    error = refusal("mnist", folder)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
    assert "is longer than its header says" in error.what
