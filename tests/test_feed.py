"""Batches follow from the seed and the epoch alone, and each image is cropped, flipped and augmented by itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from make import TRAINING
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nfbench.errors import BadData
from nfbench.learning.data import Arrays, ArraySet, Data, Pictures, PictureSet
from nfbench.learning.feed import (
    RESIDENT_SHARE,
    BatchPlan,
    Resident,
    Streaming,
    array_transforms,
    cropped,
    default_workers,
    folder_transforms,
    mixed_seed,
    stays,
)
from nfbench.records import Training

CPU = torch.device("cpu")
Batches = list[tuple[Tensor, Tensor]]


# ---- crops and flips


def by_hand(image: NDArray[np.uint8], down: int, right: int, flip: bool, pad: int) -> NDArray[np.uint8]:
    """One image of shape (C, H, W): bordered by its mirror image, cut out, mirrored."""
    height, width = image.shape[1:]
    bordered = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="reflect")
    cut = bordered[:, pad + down : pad + down + height, pad + right : pad + right + width]
    return cut[:, :, ::-1] if flip else cut


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 5, 9), (1, 12, 4)])
def test_a_batch_is_cropped_as_one_image_after_the_other_is_by_hand(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape), dtype=np.uint8)
    which, shifts = rng.integers(0, 20, 64), rng.integers(-3, 4, (2, 64))
    flips = rng.integers(0, 2, 64).astype(bool)
    got = cropped(*(torch.from_numpy(x) for x in (images, which, shifts, flips)))
    assert got.dtype == torch.uint8
    for place, (i, down, right, flip) in enumerate(zip(which, *shifts, flips, strict=True)):
        np.testing.assert_array_equal(got[place].numpy(), by_hand(images[i], down, right, flip, pad=3))


def test_without_a_shift_or_a_flip_an_image_is_what_it_was() -> None:
    images = torch.randint(256, (6, 3, 7, 5), dtype=torch.uint8)
    still = torch.zeros(2, 6, dtype=torch.int64)
    which = torch.arange(6).flip(0)
    assert torch.equal(cropped(images, which, still, torch.zeros(6, dtype=torch.bool)), images.flip(0))
    assert torch.equal(cropped(images, which, still, torch.ones(6, dtype=torch.bool)), images.flip(0).flip(3))


# ---- a set on the device


def numbered(images: int, side: int = 8, channels: int = 3, seed: int = 0) -> Arrays:
    """Random images, each with a class of its own."""
    shape = (images, side, side, channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Arrays(pixels, np.arange(images, dtype=np.int64))


def plain(values: NDArray[Any], side: int = 8, channels: int = 3) -> Arrays:
    """Images of one value each, with that value for a class."""
    pixels = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (len(values), side, side, channels))
    return Arrays(pixels.copy(), values.astype(np.int64))


def data_of(train: Arrays | Pictures, test: Arrays | Pictures) -> Data:
    return Data("set", tuple(map(str, range(10))), train, test, "0123", (0.5,) * 3, (0.25,) * 3, {})


PLAN = BatchPlan(CPU, batch=16, test_batch=16, px=8, test_px=8, mean=(0.5,), std=(0.25,), layout="nchw", seed=0)


def resident(train: Arrays, test: Arrays | None = None, augment: bool = True, **fields: Any) -> Resident:
    return Resident(data_of(train, test or train), PLAN._replace(**fields), augment=augment)


def same(some: Batches, others: Batches) -> bool:
    return len(some) == len(others) and all(
        torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(some, others, strict=True)
    )


def order(batches: Iterator[tuple[Tensor, Tensor]]) -> list[int]:
    return [int(label) for _, labels in batches for label in labels]


def test_an_epochs_batches_are_the_same_whatever_came_before() -> None:
    straight = list(resident(numbered(50)).train(2))
    feed = resident(numbered(50))
    assert not same(list(feed.train(0)), straight)
    torch.manual_seed(7)
    next(feed.train(1))
    list(feed.test())
    assert same(list(feed.train(2)), straight)


def test_another_epoch_or_seed_is_another_order_with_other_crops() -> None:
    feed, other = resident(numbered(64)), resident(numbered(64), seed=1)
    orders = [order(feed.train(0)), order(feed.train(1)), order(other.train(0))]
    assert len(set(map(tuple, orders))) == 3

    def of_the_first(batches: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        return next(x[y == 0] for x, y in batches if (y == 0).any())

    crops = [of_the_first(feed.train(epoch)) for epoch in range(5)]
    assert any(not torch.equal(crops[0], crop) for crop in crops[1:])


@pytest.mark.parametrize(("images", "batch", "updates"), [(50, 16, 3), (48, 16, 3), (16, 16, 1), (15, 16, 0)])
def test_an_epoch_has_each_image_once_at_most_and_drops_what_is_left(images: int, batch: int, updates: int) -> None:
    feed = resident(numbered(images), batch=batch)
    seen = order(feed.train(0))
    assert feed.updates == updates == len(seen) / batch
    assert len(set(seen)) == len(seen)
    # what one epoch drops another has
    assert updates == 0 or {i for epoch in range(8) for i in order(feed.train(epoch))} == set(range(images))


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_float32_of_three_channels_in_the_layout(channels: int, layout: str, augment: bool) -> None:
    train, test = numbered(20, channels=channels), numbered(6, channels=channels)
    feed = resident(train, test, batch=10, px=12, test_px=4, layout=layout, augment=augment)
    contiguous = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    for batches, px in ((feed.train(0), 12), (feed.test(), 4)):
        for images, labels in batches:
            assert images.shape == (len(labels), 3, px, px)
            assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
            assert images.is_contiguous(memory_format=contiguous)


def test_a_batch_may_be_overwritten_without_harm_to_the_set() -> None:
    feed = resident(numbered(16), augment=False)
    before = list(feed.train(0))
    for images, _ in (*feed.train(0), *feed.test()):
        images.zero_()
    assert same(list(feed.train(0)), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_over_a_whole_set_normalized_pixels_have_mean_0_and_deviation_1(channels: int) -> None:
    train = numbered(40, channels=channels)
    train.images[..., 0] //= 3
    shares = train.images.reshape(-1, channels) / 255
    feed = resident(train, batch=40, augment=False, mean=tuple(shares.mean(0)), std=tuple(shares.std(0)))
    ((images, _),) = feed.train(0)
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_gray_images_take_the_three_means_of_a_net_that_was_trained_on_colors() -> None:
    feed = resident(plain(np.full(4, 51), channels=1), batch=4, mean=(0.1, 0.2, 0.4), std=(0.1, 0.2, 0.5))
    ((images, _),) = feed.test()
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([1.0, 0.0, -0.4]))


@pytest.mark.parametrize("px", [5, 8, 12])
def test_an_image_of_one_value_keeps_it_at_any_size(px: int) -> None:
    feed = resident(plain(np.arange(0, 250, 10)), batch=5, px=px, test_px=px, mean=(0.0,), std=(1.0,))
    for images, labels in (*feed.train(0), *feed.test()):
        torch.testing.assert_close(images * 255, labels.view(-1, 1, 1, 1).expand_as(images).float())


def test_the_test_set_is_complete_and_in_one_order_with_each_label_at_its_image() -> None:
    feed = resident(numbered(16), plain(np.arange(37)), mean=(0.0,), std=(1.0,))
    first = list(feed.test())
    assert [len(labels) for _, labels in first] == [16, 16, 5]
    assert sorted(order(iter(first))) == list(range(37))
    for images, labels in first:
        assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)
    list(feed.train(3))
    assert same(list(feed.test()), first)
    # whatever the seed: scores of several seeds are of the same batches
    assert order(resident(numbered(16), plain(np.arange(37)), seed=5).test()) == order(iter(first))


def test_on_the_device_a_pixel_is_one_byte() -> None:
    feed = resident(numbered(30), numbered(10))
    list(feed.train(0))
    assert feed.images.dtype == feed.test_images.dtype == torch.uint8
    assert feed.images.untyped_storage().nbytes() == 30 * 8 * 8 * 3
    assert feed.unreadable() == []


@pytest.mark.parametrize("augment", [False, True])
def test_the_shares_of_ranks_are_together_the_batches_of_one_process(augment: bool) -> None:
    def made(**fields: Any) -> Resident:
        return resident(numbered(40), plain(np.arange(37)), batch=16, test_batch=5, augment=augment, **fields)

    whole, ranks = made(), [made(rank=rank, ranks=2) for rank in range(2)]
    for one, *shares in zip(whole.train(3), *(feed.train(3) for feed in ranks), strict=True):
        assert [len(labels) for _, labels in shares] == [8, 8]
        for of_one, of_ranks in zip(one, zip(*shares, strict=True), strict=True):
            assert torch.equal(of_one, torch.cat(of_ranks))
    # the test batches stay whole, and each is one rank's
    dealt = [list(feed.test()) for feed in ranks]
    assert same([batch for pair in zip(*dealt, strict=True) for batch in pair], list(whole.test()))


def lopsided(images: int) -> Arrays:
    """One spot on black, in the left half."""
    pixels = np.zeros((images, 16, 16, 1), np.uint8)
    pixels[:, 7, 4] = 255
    return Arrays(pixels, np.zeros(images, np.int64))


def test_in_each_batch_about_half_of_the_images_are_flipped_and_each_is_moved_by_itself() -> None:
    feed = resident(lopsided(1000), batch=250, px=16, mean=(0.0,), std=(1.0,))
    for images, _ in feed.train(0):
        _, rows, columns = images[:, 0].nonzero().T
        assert len(rows) == 250
        flipped = columns > 7
        assert 0.4 < float(flipped.float().mean()) < 0.6
        # two pixels of sixteen in each direction, all of them taken, whether flipped or not
        unflipped = torch.where(flipped, 15 - columns, columns)
        moves = {(int(r) - 7, int(c) - 4) for r, c in zip(rows, unflipped, strict=True)}
        assert moves == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}


def test_without_augmentation_images_are_as_they_are() -> None:
    train = numbered(32)
    feed = resident(train, augment=False, mean=(0.0,), std=(1.0,))
    for images, labels in feed.train(0):
        expected = torch.from_numpy(train.images[labels.numpy()]).permute(0, 3, 1, 2)
        assert torch.equal((images * 255).round().to(torch.uint8), expected)


# ---- a set that streams

RAND = msgspec.structs.replace(
    TRAINING, augment="randaugment", randaugment_layers=2, randaugment_magnitude=9, test_px=16
)


def streaming(
    train: Any, test: Any, training: Training = RAND, workers: int = 0, transforms: Any = None, **fields: Any
) -> Streaming:
    given = {"batch": 8, "test_batch": 8, "px": 16, "test_px": 16, "layout": "nhwc"}
    plan = PLAN._replace(mean=training.mean, std=training.std, **(given | fields))
    made = transforms or array_transforms(training, 16, prefetch=False)
    return Streaming(train, test, plan, transforms=made, workers=workers)


# Python 3.12 warns of a worker that is forked by a process with threads, as torch's always is
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_streamed_epoch_is_the_same_whatever_came_before(workers: int) -> None:
    arrays = numbered(20)

    def made(seed: int = 0) -> Streaming:
        return streaming(ArraySet(arrays), ArraySet(arrays), workers=workers, seed=seed)

    straight = list(made().train(1))
    feed = made()
    assert not same(list(feed.train(0)), straight)
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(99)  # type: ignore[operator]
    assert same(list(feed.train(1)), straight)
    if not workers:
        assert not same(list(made(seed=1).train(1)), straight)


def test_streamed_batches_are_as_those_on_the_device() -> None:
    feed = streaming(ArraySet(numbered(21, channels=1)), ArraySet(numbered(11)))
    assert feed.updates == 2
    batches = list(feed.train(0))
    seen = order(iter(batches))
    assert len(seen) == 16 == len(set(seen))
    assert [len(labels) for _, labels in feed.test()] == [8, 3]
    for images, labels in (*batches, *feed.test()):
        assert images.shape == (len(labels), 3, 16, 16)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert feed.unreadable() == []


@pytest.mark.parametrize("channels", [1, 3])
def test_a_test_set_is_the_same_whether_it_stays_or_streams(channels: int) -> None:
    test = numbered(21, side=16, channels=channels)
    mean, std = ((0.3,), (0.2,)) if channels == 1 else ((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))
    training = msgspec.structs.replace(RAND, mean=mean, std=std)
    streamed = streaming(ArraySet(test), ArraySet(test), training)
    stayed = resident(test, test_batch=8, px=16, test_px=16, mean=mean, std=std)
    for (x, y), (a, b) in zip(streamed.test(), stayed.test(), strict=True):
        assert torch.equal(y, b)
        torch.testing.assert_close(x, a)


def test_pictures_that_are_sorted_by_class_are_tested_in_batches_of_many_classes() -> None:
    test = Arrays(numbered(64).images, np.repeat(np.arange(8), 8))
    for feed in (resident(test, test_batch=8), streaming(ArraySet(test), ArraySet(test))):
        batches = list(feed.test())
        assert all(len(set(labels.tolist())) > 2 for _, labels in batches)
        assert same(list(feed.test()), batches)


def test_randaugment_does_something_else_to_each_image_of_a_batch() -> None:
    # crops and flips leave a picture of one color as it is
    alike = Arrays(np.full((32, 16, 16, 3), (200, 90, 30), np.uint8), np.zeros(32, np.int64))

    def kinds(training: Training) -> int:
        ((images, _),) = streaming(ArraySet(alike), ArraySet(alike), training, batch=32).train(0)
        return len({tuple(image.flatten().tolist()) for image in images})

    assert kinds(msgspec.structs.replace(TRAINING, augment="flip")) == 1
    assert kinds(RAND) > 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(100):
        Image.new("RGB", (20, 12), (2 * i, 0, 0)).save(tmp_path / f"{i:03}.png")
    return tmp_path


def pictures(folder: Path) -> Pictures:
    return Pictures(folder, [(str(path), i) for i, path in enumerate(sorted(folder.glob("*.png")))])


def folder_feed(folder: Path) -> Streaming:
    train, test = (PictureSet(pictures(folder), training=training, px=16) for training in (True, False))
    training = msgspec.structs.replace(TRAINING, augment="flip", test_px=16, crop_pct=0.875)
    return streaming(train, test, transforms=folder_transforms(training, 16, False), test_batch=50)


def test_pictures_of_a_folder_stream_with_their_labels_and_a_broken_one_is_named(folder: Path) -> None:
    (folder / "042.png").write_bytes(b"no picture")
    feed = folder_feed(folder)
    assert feed.unreadable() == []
    seen: list[int] = []
    for images, labels in feed.test():
        assert images.shape == (50, 3, 16, 16)
        red = ((images[:, 0, 8, 8] * 0.25 + 0.5) * 255 / 2).round().long()
        known = labels >= 0
        assert torch.equal(red[known], labels[known])
        seen += labels.tolist()
    assert sorted(seen) == [-1, *(i for i in range(100) if i != 42)]
    assert feed.unreadable() == ["042.png"]


def test_more_than_one_in_a_hundred_broken_pictures_are_refused(folder: Path) -> None:
    for name in ("007.png", "042.png"):
        (folder / name).write_bytes(b"no picture")
    feed = folder_feed(folder)
    list(feed.test())
    with pytest.raises(BadData) as caught:
        feed.unreadable()
    assert caught.value.what == f"2 of the 100 pictures in {folder} cannot be read: 007.png, 042.png."


# ---- what stays, seeds


def test_a_set_stays_where_it_takes_a_fifth_of_the_memory_at_most(tmp_path: Path) -> None:
    data = data_of(numbered(30), numbered(10))
    fits = round(40 * 8 * 8 * 3 / RESIDENT_SHARE)
    assert stays(data, fits) and not stays(data, fits - 5)
    assert stays(data, None)
    assert not stays(data_of(Pictures(tmp_path, []), Pictures(tmp_path, [])), 2**40)


def test_no_two_epochs_of_any_seeds_share_their_seed() -> None:
    grid = [mixed_seed(seed, epoch) for seed in (*range(40), 2**31, 2**62) for epoch in range(400)]
    assert len(set(grid)) == len(grid)
    assert all(0 <= seed < 2**63 for seed in grid)


def test_there_is_a_worker_and_not_more_than_sixteen() -> None:
    assert 1 <= default_workers() <= 16
