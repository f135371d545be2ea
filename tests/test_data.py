from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nfbench.catalog import datasets
from nfbench.catalog.datasets import DATASETS
from nfbench.errors import BadData
from nfbench.learning.data import Arrays, ArraySet, Data, Pictures, PictureSet, load

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def nothing_else_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr("nfbench.learning.data.SYSTEM", tmp_path / "system")


def refusal(dataset: str, data_dir: Path | None = None) -> BadData:
    with pytest.raises(BadData) as caught:
        load(dataset, data_dir)
    return caught.value


# ---- the catalogue


@pytest.mark.parametrize(
    "typed, name",
    [
        ("digits", "digits"),
        ("Fashion_MNIST", "fashion-mnist"),
        ("CIFAR-10", "cifar10"),
        ("imagefolder", "imagefolder"),
        ("imagefolder:/some/where:else", "imagefolder"),
    ],
)
def test_a_data_set_is_found_as_it_is_typed(typed: str, name: str) -> None:
    assert datasets.find(typed) is DATASETS[name]


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(BadData) as caught:
        datasets.find("cifar1000")
    assert caught.value.what == "There is no data set called 'cifar1000'."
    assert caught.value.why == "The nearest: cifar100, cifar10."
    assert caught.value.try_ == "cifar100, or imagefolder:PATH for your own pictures"


def test_a_name_near_no_data_set_gets_all_names() -> None:
    with pytest.raises(BadData) as caught:
        datasets.find("zzz:qqq")
    assert caught.value.why == "No name of the catalogue is near it."
    assert caught.value.try_ == (
        "digits, fashion-mnist, mnist, cifar10, cifar100, imagenet, or imagefolder:PATH for your own"
    )


def test_only_pictures_that_keep_their_meaning_are_flipped() -> None:
    assert {name: row.augment for name, row in DATASETS.items()} == {
        "digits": "none",
        "mnist": "none",
        "fashion-mnist": "none",
        "cifar10": "flip",
        "cifar100": "flip",
        "imagenet": "recipe",
        "imagefolder": "recipe",
    }


# ---- digits


def test_digits_are_always_split_the_same_with_every_class_in_both_parts() -> None:
    first, second = load("digits"), load("digits")
    assert isinstance(first.train, Arrays) and isinstance(first.test, Arrays)
    assert first.train.images.shape == (1437, 8, 8, 1) and first.test.images.shape == (360, 8, 8, 1)
    assert first.train.images.dtype == np.uint8 and first.train.labels.dtype == np.int64
    assert first.train.images.max() == 255 and first.train.images.min() == 0
    assert set(first.train.labels) == set(first.test.labels) == set(range(10))
    assert first.digest == second.digest and len(first.digest) == 12
    assert first.notes == {}
    assert first.classes == tuple("0123456789")


def test_mean_and_std_are_those_of_the_training_pixels() -> None:
    data = load("digits")
    assert isinstance(data.train, Arrays)
    assert data.mean == pytest.approx([(data.train.images / 255).mean()], rel=1e-12)
    assert data.std == pytest.approx([(data.train.images / 255).std()], rel=1e-12)


def test_a_data_folder_that_is_none_is_refused_for_every_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in DATASETS:
        assert refusal(name, tmp_path / "none").what == f"The data folder {tmp_path / 'none'} does not exist."
        assert refusal(name, tmp_path / "file").what == f"The data folder {tmp_path / 'file'} is a file."
        assert refusal(name, tmp_path / "file").try_ == "--data-dir FOLDER"


# ---- idx files


def idx_images(count: int, px: int = 28, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, px, px), np.uint8)
    return struct.pack(">4I", 2051, count, px, px) + pixels.tobytes()


def idx_labels(labels: list[int]) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + bytes(labels)


def idx_set() -> dict[str, bytes]:
    return {
        TRAIN_IMAGES: idx_images(20),
        TRAIN_LABELS: idx_labels([*range(10)] * 2),
        TEST_IMAGES: idx_images(10, seed=1),
        TEST_LABELS: idx_labels([*range(10)]),
    }


def write_idx(folder: Path, files: dict[str, bytes], zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_are_read_as_they_were_written(tmp_path: Path, zipped: bool) -> None:
    files = idx_set()
    data = load("mnist", write_idx(tmp_path / "data", files, zipped))
    assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
    assert data.train.images.shape == (20, 28, 28, 1) and data.test.images.shape == (10, 28, 28, 1)
    assert data.train.images.tobytes() == files[TRAIN_IMAGES][16:]
    assert data.test.images.tobytes() == files[TEST_IMAGES][16:]
    assert data.train.labels.tolist() == [*range(10)] * 2 and data.train.labels.dtype == np.int64
    assert data.classes[0] == "0 - zero" and len(data.classes) == 10


def test_gzip_or_not_is_the_same_data(tmp_path: Path) -> None:
    zipped = load("mnist", write_idx(tmp_path / "zipped", idx_set()))
    plain = load("mnist", write_idx(tmp_path / "plain", idx_set(), zipped=False))
    assert zipped.digest == plain.digest


def test_one_pixel_or_one_label_changes_the_digest(tmp_path: Path) -> None:
    files = idx_set()
    whole = load("mnist", write_idx(tmp_path / "a", files)).digest
    pixel = {**files, TEST_IMAGES: files[TEST_IMAGES][:-1] + bytes([files[TEST_IMAGES][-1] ^ 1])}
    label = {**files, TEST_LABELS: idx_labels([1, *range(1, 10)])}
    digests = {load("mnist", write_idx(tmp_path / name, f)).digest for name, f in (("b", pixel), ("c", label))}
    assert len(digests | {whole}) == 3


@pytest.mark.parametrize("name, reader", [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_idx_files_are_found_wherever_they_are_kept(tmp_path: Path, name: str, reader: str) -> None:
    for place in (".", name, f"{name}/raw", f"{reader}/raw"):
        data_dir = tmp_path / place.replace("/", "-").replace(".", "here")
        write_idx(data_dir / place, idx_set())
        assert load(name, data_dir).name == name
    write_idx(tmp_path / "work" / "data", idx_set())
    assert load(name).name == name


def test_the_folder_of_the_system_is_looked_in_last(tmp_path: Path) -> None:
    write_idx(tmp_path / "system" / "mnist", idx_set())
    other = {**idx_set(), TRAIN_IMAGES: idx_images(20, seed=7)}
    system = load("mnist")
    own = load("mnist", write_idx(tmp_path / "data", other))
    assert system.digest != own.digest


def test_the_other_sets_files_in_the_data_folder_itself_do_not_stand_in_for_a_folder_of_its_name(
    tmp_path: Path,
) -> None:
    own = write_idx(tmp_path / "a" / "fashion-mnist", idx_set()).parent
    digest = load("fashion-mnist", own).digest
    write_idx(own, {**idx_set(), TRAIN_IMAGES: idx_images(20, seed=7)})
    assert load("fashion-mnist", own).digest == digest


def test_fewer_images_than_published_are_noted(tmp_path: Path) -> None:
    notes = load("mnist", write_idx(tmp_path / "data", idx_set())).notes
    assert notes == {
        "data": "20 of the 60,000 published training images, 10 of the 10,000 published test images",
    }


def test_a_missing_set_says_what_was_looked_for_and_where_and_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    error = refusal("fashion-mnist", tmp_path / "data")
    assert error.what == (
        "Fashion-MNIST is not here: found no train-images-idx3-ubyte, train-labels-idx1-ubyte, "
        "t10k-images-idx3-ubyte or t10k-labels-idx1-ubyte, with or without .gz."
    )
    data = tmp_path / "data"
    assert error.why == (
        f"Looked in {data / 'fashion-mnist'}, {data / 'fashion-mnist' / 'raw'}, {data / 'FashionMNIST' / 'raw'}, "
        f"{data}, {tmp_path / 'system' / 'fashion-mnist'}."
    )
    assert error.try_ == (
        "apt-get install dataset-fashion-mnist, or --data-dir FOLDER with the four files of "
        "https://github.com/zalandoresearch/fashion-mnist"
    )
    assert refusal("mnist").why.startswith("Looked in data/mnist, data/mnist/raw, data/MNIST/raw, data, ")


def test_one_missing_file_is_named(tmp_path: Path) -> None:
    files = idx_set()
    del files[TEST_LABELS]
    folder = write_idx(tmp_path / "data", files)
    assert refusal("mnist", folder).what == f"{folder} lacks t10k-labels-idx1-ubyte (with or without .gz)."


def cut_gzip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_gzip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 255
    path.write_bytes(content)


def no_gzip(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


def spoil_deflate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:10] + b"\xff" * 500)


@pytest.mark.parametrize(
    "damage, why",
    [
        (cut_gzip, "gzip: Compressed file ended before the end-of-stream marker was reached."),
        (flip_gzip, "gzip: CRC check failed"),
        (no_gzip, "gzip: Not a gzipped file (b'<h')."),
        (spoil_deflate, "gzip: Error -3 while decompressing data"),
    ],
)
def test_a_broken_gzip_file_is_named_with_the_reason(tmp_path: Path, damage: Callable[[Path], None], why: str) -> None:
    folder = write_idx(tmp_path / "data", idx_set())
    path = folder / f"{TRAIN_IMAGES}.gz"
    damage(path)
    error = refusal("mnist", folder)
    assert error.what == f"{path} cannot be unpacked: cut off, corrupt or no gzip file."
    assert error.why.startswith(why)
    assert error.try_ == "download the file again"


ONE_IMAGE_MORE = idx_images(21)
IMAGES_20 = idx_images(20)


@pytest.mark.parametrize(
    "name, content, what",
    [
        (TRAIN_IMAGES, idx_labels([1]), " is no idx file of images: it starts with 2049, not with 2051."),
        (TEST_LABELS, idx_images(1), " is no idx file of labels: it starts with 2051, not with 2049."),
        (TRAIN_IMAGES, b"", " ends within its header: 0 of 16 bytes."),
        (TRAIN_LABELS, idx_labels([])[:5], " ends within its header: 5 of 8 bytes."),
        (TRAIN_IMAGES, IMAGES_20[:-1], " is shorter than its header says: 15,695 bytes unpacked, not 15,696."),
        (TEST_LABELS, idx_labels([*range(10)]) + b"x", " is longer than its header says: 19 bytes unpacked, not 18."),
        (TRAIN_IMAGES, idx_images(0), " holds no images."),
        (TEST_LABELS, idx_labels([]), " holds no labels."),
        (TEST_IMAGES, idx_images(10, px=8), " holds images of 8×8 px, where MNIST has 28×28."),
        (
            TEST_LABELS,
            idx_labels([0, 1, 2, 10, 4, 5, 6, 7, 8, 12]),
            ": label 10 at place 3 (counted from 0) is none of the 10 classes of MNIST, which are numbered from 0.",
        ),
    ],
)
def test_each_defect_of_an_idx_file_is_one_worded_error(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    folder = write_idx(tmp_path / "data", {**idx_set(), name: content}, zipped=False)
    assert refusal("mnist", folder).what == f"{folder / name}{what}"


def test_labels_and_images_that_differ_in_number_are_both_named(tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "data", {**idx_set(), TRAIN_IMAGES: ONE_IMAGE_MORE}, zipped=False)
    assert refusal("mnist", folder).what == (
        f"{folder / TRAIN_LABELS} has 20 labels, {folder / TRAIN_IMAGES} 21 images."
    )


def test_training_images_that_are_all_alike_are_refused_before_they_are_divided_by_zero(tmp_path: Path) -> None:
    grey = struct.pack(">4I", 2051, 20, 28, 28) + b"\x80" * (20 * 28 * 28)
    folder = write_idx(tmp_path / "data", {**idx_set(), TRAIN_IMAGES: grey})
    assert refusal("mnist", folder).what == "All training images of MNIST have one and the same value in a channel."


def test_the_real_fashion_mnist_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Path("/usr/share/datasets")
    if not (system / "fashion-mnist").is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    monkeypatch.setattr("nfbench.learning.data.SYSTEM", system)
    data = load("fashion-mnist")
    assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
    assert data.train.images.shape == (60_000, 28, 28, 1) and data.test.images.shape == (10_000, 28, 28, 1)
    assert np.bincount(data.train.labels).tolist() == [6000] * 10
    assert data.mean == pytest.approx([0.2860], abs=1e-4) and data.std == pytest.approx([0.3530], abs=1e-4)
    assert data.classes[9] == "Ankle boot"
    assert data.notes == {}


# ---- CIFAR

Cifar = Callable[..., Path]


def cifar_batch(count: int, classes: int, key: str, seed: int) -> dict[str, Any]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)
    return {"data": pixels, key: [n % classes for n in range(count)]}


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cifar:
    """Writes a small CIFAR, and gives torchvision's reader the md5 of these files for those of the published ones."""
    from torchvision.datasets import CIFAR10, CIFAR100

    def write(name: str = "cifar10", change: Callable[[dict[str, Any]], None] = lambda files: None) -> Path:
        reader, classes, key = {"cifar10": (CIFAR10, 10, "labels"), "cifar100": (CIFAR100, 100, "fine_labels")}[name]
        folder = tmp_path / "data" / reader.base_folder
        folder.mkdir(parents=True)
        names = [file for file, _ in (*reader.train_list, *reader.test_list)]
        files: dict[str, Any] = {file: cifar_batch(classes, classes, key, seed) for seed, file in enumerate(names)}
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


def pack(folder: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    from torchvision.datasets import CIFAR10, CIFAR100

    path = folder.parent / archive
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, folder.name)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    reader = CIFAR10 if archive == CIFAR10.filename else CIFAR100
    monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    return path


@pytest.mark.parametrize("name, classes, train", [("cifar10", 10, 50), ("cifar100", 100, 100)])
def test_cifar_is_the_same_from_its_folder_and_from_its_archive(
    cifar: Cifar, monkeypatch: pytest.MonkeyPatch, name: str, classes: int, train: int
) -> None:
    folder = cifar(name)
    extracted = load(name, folder.parent)
    assert isinstance(extracted.train, Arrays) and isinstance(extracted.test, Arrays)
    assert extracted.train.images.shape == (train, 32, 32, 3) and extracted.train.labels.shape == (train,)
    assert extracted.test.images.shape == (classes, 32, 32, 3)
    assert extracted.classes == tuple(f"class {n}" for n in range(classes))
    assert len(extracted.mean) == len(extracted.std) == 3
    channel = extracted.train.images[..., 1] / 255
    assert (extracted.mean[1], extracted.std[1]) == pytest.approx((channel.mean(), channel.std()), rel=1e-12)
    pack(folder, {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name], monkeypatch)
    assert load(name, folder.parent).digest == extracted.digest


def test_cifar_planes_become_channels_of_pixels(cifar: Cifar) -> None:
    data = load("cifar10", cifar().parent)
    planes = cifar_batch(10, 10, "labels", 0)["data"].reshape(10, 3, 32, 32)
    assert isinstance(data.train, Arrays)
    assert (data.train.images[:10] == planes.transpose(0, 2, 3, 1)).all()


def test_a_missing_cifar_says_where_it_was_looked_for(tmp_path: Path) -> None:
    error = refusal("cifar100", tmp_path)
    assert error.what == "CIFAR-100 is not here: found no cifar-100-python.tar.gz or folder cifar-100-python."
    assert error.why == f"Looked in {tmp_path}, {tmp_path / 'cifar100'}."
    assert error.try_ == "--data-dir FOLDER with cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html"


def test_a_missing_file_of_cifar_is_named(cifar: Cifar) -> None:
    folder = cifar()
    (folder / "data_batch_3").unlink()
    assert refusal("cifar10", folder.parent).what == f"{folder} lacks data_batch_3."


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


def test_an_altered_cifar_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"half a file")
    error = refusal("cifar10", tmp_path)
    assert error.what == f"{archive} is not the published file: its md5 is not c58f30108f718f92721af3b95e74349a."
    assert error.try_ == "download the file again"


def test_a_cifar_archive_that_cannot_be_extracted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"no tar at all")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert refusal("cifar10", tmp_path).what.startswith(f"{archive} cannot be extracted to a temporary folder: ")


def test_a_file_that_a_cifar_archive_lacks_is_named_with_the_archive(
    cifar: Cifar, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cifar()
    (folder / "test_batch").unlink()
    archive = pack(folder, "cifar-10-python.tar.gz", monkeypatch)
    assert refusal("cifar10", archive.parent).what == f"{archive} lacks test_batch."


def test_a_cifar_label_outside_the_classes_is_named_with_its_place(cifar: Cifar) -> None:
    folder = cifar(change=lambda files: files["test_batch"]["labels"].__setitem__(4, 10))
    assert refusal("cifar10", folder.parent).what == (
        f"{folder} (test): label 10 at place 4 (counted from 0) is none of the 10 classes of CIFAR-10, "
        "which are numbered from 0."
    )


def test_cifar_labels_that_are_too_few_are_counted(cifar: Cifar) -> None:
    folder = cifar(change=lambda files: files["data_batch_2"]["labels"].pop())
    assert refusal("cifar10", folder.parent).what == f"{folder} (train) has 49 labels, {folder} (train) 50 images."


# ---- folders


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (value, 0, 0)).save(path)


def tree(root: Path, classes: tuple[str, ...] = ("cat", "dog"), parts: tuple[str, ...] = ("train", "val")) -> Path:
    for part in parts:
        for name in classes:
            picture(root / part / name / "1.png")
    return root


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_folder_of_pictures_has_its_class_folders_in_order(tmp_path: Path, part: str) -> None:
    root = tree(tmp_path / "secret" / "pets", ("dog", "cat", "Ant"), ("train", part))
    data = load(f"imagefolder:{root}")
    assert data.classes == ("Ant", "cat", "dog")
    assert isinstance(data.train, Pictures) and isinstance(data.test, Pictures)
    assert data.train.folder == root / "train" and data.test.folder == root / part
    assert data.train.samples[2] == (str(root / "train" / "dog" / "1.png"), 2)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.notes == {}


def test_the_name_of_a_folder_of_pictures_holds_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path / "secret" / "pets")
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


def test_a_link_to_nowhere_is_left_to_those_who_read_pictures(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    (root / "train" / "cat" / "2.png").symlink_to(tmp_path / "nowhere.png")
    data = load(f"imagefolder:{root}")
    assert isinstance(data.train, Pictures)
    assert len(data.train.samples) == 3


def test_a_folder_of_pictures_without_a_path_or_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal("imagefolder").what == "imagefolder names no folder."
    error = refusal("imagefolder:")
    assert error.what == "imagefolder: names no folder."
    assert error.try_ == "imagefolder:PATH with PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg"
    assert refusal(f"imagefolder:{tmp_path}/none").what == f"There is no folder {tmp_path}/none."
    (tmp_path / "file").write_text("")
    assert refusal(f"imagefolder:{tmp_path}/file").what == f"{tmp_path}/file is a file, not a folder."


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    tree(tmp_path / "a", parts=("val",))
    assert refusal(f"imagefolder:{tmp_path}/a").what == f"{tmp_path}/a has no folder train."
    tree(tmp_path / "b", parts=("train",))
    assert refusal(f"imagefolder:{tmp_path}/b").what == f"{tmp_path}/b has neither a folder val nor test."


def test_pictures_without_a_class_folder_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, parts=("val",))
    picture(tmp_path / "train" / "1.png")
    assert refusal(f"imagefolder:{tmp_path}").what == f"{tmp_path / 'train'} has no class folder."


def test_class_folders_without_a_picture_are_named(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "val" / "cow").mkdir()
    (tmp_path / "val" / "cow" / "notes.txt").write_text("no picture")
    assert refusal(f"imagefolder:{tmp_path}").what == f"{tmp_path / 'val'}: no picture in class folder cow."
    (tmp_path / "val" / ".checkpoints").mkdir()
    error = refusal(f"imagefolder:{tmp_path}")
    assert error.what == f"{tmp_path / 'val'}: no picture in class folders .checkpoints, cow."
    assert error.try_ == "pictures in each, or without that folder"


def test_classes_that_only_one_part_has_are_named_both_ways(tmp_path: Path) -> None:
    tree(tmp_path, ("ant", "cat"), ("train",))
    tree(tmp_path, ("cat", "dog", "eel"), ("val",))
    assert refusal(f"imagefolder:{tmp_path}").what == (
        f"The classes of {tmp_path / 'train'} and {tmp_path / 'val'} differ: only val has dog, eel; only train has ant."
    )


def test_of_many_differing_classes_the_first_are_named(tmp_path: Path) -> None:
    tree(tmp_path, tuple("abcdefgh"), ("train",))
    tree(tmp_path, ("a",), ("val",))
    assert refusal(f"imagefolder:{tmp_path}").what.endswith("differ: only train has b, c, d, e, f and 2 more.")


def test_imagenet_has_a_thousand_classes(tmp_path: Path) -> None:
    tree(tmp_path / "imagenet")
    error = refusal("imagenet", tmp_path)
    assert error.what == f"{tmp_path / 'imagenet'} has 2 class folders, where ImageNet has 1,000."
    assert error.try_ == f"imagefolder:{tmp_path / 'imagenet'} for a set of your own"


@pytest.mark.parametrize("place", [".", "imagenet"])
def test_imagenet_is_found_in_the_data_folder_or_one_of_its_name(tmp_path: Path, place: str) -> None:
    names = [f"n{n:08}" for n in range(1000)]
    for part in ("train", "val"):
        for name in names:
            (tmp_path / place / part / name).mkdir(parents=True)
            (tmp_path / place / part / name / "1.jpeg").touch()
    data: Data = load("imagenet", tmp_path)
    assert data.name == "imagenet" and data.classes == tuple(names)
    assert data.notes == {
        "data": "1,000 of the 1,281,167 published training images, 1,000 of the 50,000 published test images"
    }


def test_a_missing_imagenet_says_where_it_was_looked_for(tmp_path: Path) -> None:
    error = refusal("imagenet", tmp_path)
    assert error.what == "ImageNet is not here: found no folders train and val."
    assert error.why == f"Looked in {tmp_path / 'imagenet'}, {tmp_path}."
    assert error.try_.startswith("--data-dir FOLDER with train/ and val/ of ILSVRC2012")


# ---- pictures one by one


def some_pictures(root: Path, count: int, broken: tuple[int, ...]) -> Pictures:
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
    pictures = some_pictures(tmp_path, 3, ())
    Image.new("L", (4, 4), 9).save(pictures.samples[2][0])
    found = PictureSet(pictures, training=True, px=4)
    assert len(found) == 3
    image, target = found[1]
    assert image.mode == "RGB" and image.getpixel((0, 0)) == (1, 0, 0) and target == 1
    assert found[2][0].getpixel((0, 0)) == (9, 9, 9)
    found.transform = lambda image: image.size
    assert found[1] == ((4, 4), 1)
    with pytest.raises(IndexError):
        found[3]


def test_in_training_the_next_readable_picture_takes_the_place_of_a_broken_one(tmp_path: Path) -> None:
    found = PictureSet(some_pictures(tmp_path, 5, (1, 2, 4)), training=True, px=4)
    for _ in range(2):
        images = [found[n][0].getpixel((0, 0))[0] for n in range(5)]
        assert images == [0, 3, 3, 3, 0]
        assert [found[n][1] for n in range(5)] == [0, 1, 1, 1, 0]
    assert found.unreadable() == ["cat/001.png", "cat/002.png", "cat/004.png"]


def test_in_evaluation_a_broken_picture_is_blank_and_of_no_class(tmp_path: Path) -> None:
    found = PictureSet(some_pictures(tmp_path, 3, (1,)), training=False, px=6)
    for _ in range(2):
        image, target = found[1]
        assert image.mode == "RGB" and image.size == (6, 6) and image.getextrema() == ((0, 0),) * 3
        assert target == -1
    assert found[2][1] == 0
    assert found.unreadable() == ["cat/001.png"]


def test_a_missing_or_empty_file_and_one_that_is_no_picture_are_unreadable(tmp_path: Path) -> None:
    pictures = some_pictures(tmp_path, 4, ())
    Path(pictures.samples[0][0]).unlink()
    Path(pictures.samples[1][0]).write_bytes(b"")
    Path(pictures.samples[2][0]).write_text("<html>not found</html>")
    found = PictureSet(pictures, training=False, px=4)
    assert [found[n][1] for n in range(4)] == [-1, -1, -1, 1]


def test_a_picture_that_pillow_only_warns_of_is_readable(tmp_path: Path) -> None:
    pictures = some_pictures(tmp_path, 1, ())
    palette = Image.new("P", (4, 4))
    palette.putpalette([0, 0, 7] * 256)
    palette.save(pictures.samples[0][0], transparency=bytes(range(256)))
    found = PictureSet(pictures, training=False, px=4)
    assert found[0][0].getpixel((0, 0)) == (0, 0, 7)
    assert found.unreadable() == []


def test_one_unreadable_picture_of_fifty_is_too_many(tmp_path: Path) -> None:
    found = PictureSet(some_pictures(tmp_path, 50, (7,)), training=True, px=4)
    found.check()
    for n in range(50):
        found[n]
    with pytest.raises(BadData) as caught:
        found.check()
    assert caught.value.what == f"1 of the 50 pictures in {tmp_path} cannot be read: cat/007.png."
    assert caught.value.why == "At most 1% may be."
    assert caught.value.try_ == "mend or remove them"


def test_one_unreadable_picture_of_two_hundred_is_reported_and_no_error(tmp_path: Path) -> None:
    found = PictureSet(some_pictures(tmp_path, 200, (7,)), training=False, px=4)
    assert [found[n][1] for n in range(200)].count(-1) == 1
    found.check()
    assert found.unreadable() == ["cat/007.png"]


def test_a_set_without_one_readable_picture_is_an_error_in_training(tmp_path: Path) -> None:
    found = PictureSet(some_pictures(tmp_path, 3, (0, 1, 2)), training=True, px=4)
    with pytest.raises(BadData, match=r"^Not one of the 3 pictures in .* can be read\.$"):
        found[1]


def test_a_fault_of_the_transform_is_not_blamed_on_the_picture(tmp_path: Path) -> None:
    def broken(image: Image.Image) -> None:
        raise OSError("my own fault")

    found = PictureSet(some_pictures(tmp_path, 1, ()), training=True, px=4, transform=broken)
    with pytest.raises(OSError, match="my own fault"):
        found[0]
    assert found.unreadable() == []


def width(image: Image.Image) -> int:
    return image.size[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # spawned workers would import torch for seconds
def test_worker_processes_tell_the_main_one_what_they_could_not_read(tmp_path: Path) -> None:
    from torch.utils.data import DataLoader

    found = PictureSet(some_pictures(tmp_path, 8, (1, 6)), training=False, px=4, transform=width)
    loader: Any = DataLoader(found, batch_size=2, num_workers=2, multiprocessing_context="fork")
    targets = [target for _, batch in loader for target in batch.tolist()]
    assert targets == [0, -1, 0, 1, 0, 1, -1, 1]
    assert found.unreadable() == ["cat/001.png", "cat/006.png"]


def test_pictures_in_memory_come_one_by_one_as_rgb(tmp_path: Path) -> None:
    grey = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    colour = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    labels = np.array([4, 5])
    for images, pixel in ((grey, (5, 5, 5)), (colour, (15, 16, 17))):
        found = ArraySet(Arrays(images, labels))
        image, target = found[1]
        assert len(found) == 2
        assert image.mode == "RGB" and image.getpixel((1, 0)) == pixel
        assert target == 5 and type(target) is int
        found.transform = width
        assert found[0] == (2, 4)
        assert found.unreadable() == []
        found.check()
