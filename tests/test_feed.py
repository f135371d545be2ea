"""Batches follow from the seed and the epoch alone, and each image is cropped, flipped and augmented by itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from make import TRAINING
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
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
    randaugment,
    stays,
)
from nfbench.records import Training

Batches = list[tuple[Tensor, Tensor]]
Made = Callable[[Training, int, bool], tuple[Any, Any]]
PLAN = BatchPlan(
    torch.device("cpu"), batch=16, test_batch=16, px=8, test_px=8, mean=(0.5,), std=(0.25,), layout="nchw", seed=0
)


def training(**fields: Any) -> Training:
    given: dict[str, Any] = {"augment": "flip", "test_px": 16}
    if fields.get("augment") in ("randaugment", "nfnet"):
        given |= {"randaugment_layers": 2, "randaugment_magnitude": 9}
    return msgspec.structs.replace(TRAINING, **(given | fields))


RAND = training(augment="randaugment")


def numbered(images: int, side: int = 8, channels: int = 3) -> Arrays:
    """Random images, each with a class of its own."""
    shape = (images, side, side, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return Arrays(pixels, np.arange(images, dtype=np.int64))


def plain(values: NDArray[Any], channels: int = 3) -> Arrays:
    """Images of one value each, with that value for a class."""
    pixels = np.broadcast_to(values.astype(np.uint8)[:, None, None, None], (len(values), 8, 8, channels))
    return Arrays(pixels.copy(), values.astype(np.int64))


def data_of(train: Arrays | Pictures, test: Arrays | Pictures) -> Data:
    return Data("set", tuple(map(str, range(10))), train, test, "0123", (0.5,) * 3, (0.25,) * 3, {})


def resident(train: Arrays, test: Arrays | None = None, augment: bool = True, **plan: Any) -> Resident:
    return Resident(data_of(train, test or train), PLAN._replace(**plan), augment=augment)


def streaming(
    train: Any, test: Any, training: Training = RAND, workers: int = 0, transforms: Any = None, **plan: Any
) -> Streaming:
    given = {"batch": 8, "test_batch": 8, "px": 16, "test_px": 16, "layout": "nhwc"}
    whole = PLAN._replace(mean=training.mean, std=training.std, **(given | plan))
    made = transforms or array_transforms(training, 16, prefetch=False)
    return Streaming(train, test, whole, transforms=made, workers=workers)


def streamed(arrays: Arrays, training: Training = RAND, **plan: Any) -> Streaming:
    return streaming(ArraySet(arrays), ArraySet(arrays), training, **plan)


def same(some: Batches, others: Batches) -> bool:
    return len(some) == len(others) and all(
        torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in zip(some, others, strict=True)
    )


def order(batches: Iterator[tuple[Tensor, Tensor]]) -> list[int]:
    return [int(label) for _, labels in batches for label in labels]


# ---- order


# Python 3.12 warns of a worker that is forked by a process with threads, as torch's always is
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("kind", ["resident", "streaming", "streaming with a worker"])
def test_an_epochs_batches_are_the_same_whatever_came_before(kind: str) -> None:
    def made(seed: int = 0) -> Resident | Streaming:
        if kind == "resident":
            return resident(numbered(50), seed=seed)
        return streamed(numbered(20), workers=int("worker" in kind), seed=seed)

    straight = list(made().train(1))
    feed = made()
    assert not same(list(feed.train(0)), straight)
    list(feed.test())
    for seeded in (torch.manual_seed, np.random.seed, random.seed):
        seeded(99)
    assert same(list(feed.train(1)), straight)
    if "worker" not in kind:
        assert order(made(seed=1).train(1)) != order(iter(straight))


@pytest.mark.parametrize(("images", "updates"), [(50, 3), (48, 3), (16, 1), (15, 0)])
def test_an_epoch_has_each_image_once_at_most_and_drops_what_is_left(images: int, updates: int) -> None:
    feed = resident(numbered(images))
    seen = order(feed.train(0))
    assert feed.updates == updates == len(seen) / 16
    assert len(set(seen)) == len(seen)
    # what one epoch drops another has
    assert updates == 0 or {i for epoch in range(8) for i in order(feed.train(epoch))} == set(range(images))


@pytest.mark.parametrize("augment", [False, True])
def test_the_shares_of_ranks_are_together_the_batches_of_one_process(augment: bool) -> None:
    def made(**plan: Any) -> Resident:
        return resident(numbered(40), plain(np.arange(37)), augment, test_batch=5, **plan)

    whole, ranks = made(), [made(rank=rank, ranks=2) for rank in range(2)]
    for one, *shares in zip(whole.train(3), *(feed.train(3) for feed in ranks), strict=True):
        assert [len(labels) for _, labels in shares] == [8, 8]
        for of_one, of_ranks in zip(one, zip(*shares, strict=True), strict=True):
            assert torch.equal(of_one, torch.cat(of_ranks))
    # the test batches stay whole, and each is one rank's
    dealt = [list(feed.test()) for feed in ranks]
    assert same([batch for pair in zip(*dealt, strict=True) for batch in pair], list(whole.test()))


def test_pictures_that_are_sorted_by_class_are_tested_in_batches_of_many_classes() -> None:
    test = Arrays(numbered(64).images, np.repeat(np.arange(8), 8))
    for feed in (resident(test, test_batch=8), streamed(test)):
        batches = list(feed.test())
        assert all(len(set(labels.tolist())) > 2 for _, labels in batches)
        list(feed.train(3))
        assert same(list(feed.test()), batches)
    # whatever the seed: scores of several seeds are of the same batches
    assert same(list(resident(test, test_batch=8, seed=5).test()), list(resident(test, test_batch=8).test()))


def test_no_two_epochs_of_any_seeds_share_their_seed() -> None:
    grid = [mixed_seed(seed, epoch) for seed in (*range(40), 2**31, 2**62) for epoch in range(400)]
    assert len(set(grid)) == len(grid)
    assert all(0 <= seed < 2**63 for seed in grid)


# ---- pixels


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 5, 9), (1, 12, 4)])
def test_a_batch_is_cropped_as_one_image_after_the_other_is_by_hand(shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape), dtype=np.uint8)
    which, shifts = rng.integers(0, 20, 64), rng.integers(-3, 4, (2, 64))
    flips = rng.integers(0, 2, 64).astype(bool)
    got = cropped(*(torch.from_numpy(x) for x in (images, which, shifts, flips)))
    assert got.dtype == torch.uint8
    for place, (i, down, right, flip) in enumerate(zip(which, *shifts, flips, strict=True)):
        bordered = np.pad(images[i], ((0, 0), (3, 3), (3, 3)), mode="reflect")
        cut = bordered[:, 3 + down : 3 + down + height, 3 + right : 3 + right + width]
        np.testing.assert_array_equal(got[place].numpy(), cut[:, :, ::-1] if flip else cut)


def test_in_each_batch_about_half_of_the_images_are_flipped_and_each_is_moved_by_itself() -> None:
    # one spot on black, in the left half
    spots = Arrays(np.zeros((1000, 16, 16, 1), np.uint8), np.zeros(1000, np.int64))
    spots.images[:, 7, 4] = 255
    for images, _ in resident(spots, batch=250, px=16, mean=(0.0,), std=(1.0,)).train(0):
        _, rows, columns = images[:, 0].nonzero().T
        assert len(rows) == 250
        flipped = columns > 7
        assert 0.4 < float(flipped.float().mean()) < 0.6
        # two pixels of sixteen in each direction, all of them taken, whether flipped or not
        unflipped = torch.where(flipped, 15 - columns, columns)
        moves = {(int(r) - 7, int(c) - 4) for r, c in zip(rows, unflipped, strict=True)}
        assert moves == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}


def test_the_test_set_never_trains_and_a_batch_may_be_overwritten() -> None:
    train, test = numbered(32), plain(np.arange(32))
    feed = resident(train, test, augment=False, mean=(0.0,), std=(1.0,))
    assert feed.images.dtype == feed.test_images.dtype == torch.uint8
    for _ in range(2):
        for given, batches in ((train, feed.train(0)), (test, feed.test())):
            for images, labels in batches:
                expected = torch.from_numpy(given.images[labels.numpy()]).permute(0, 3, 1, 2)
                assert torch.equal((images * 255).round().to(torch.uint8), expected)
                images.zero_()


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_float32_of_three_channels_in_the_layout(channels: int, layout: str) -> None:
    train = numbered(21, channels=channels)
    test = Arrays(train.images, train.labels + 100)
    contiguous = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    for feed in (
        resident(train, test, batch=8, test_batch=8, px=12, test_px=4, layout=layout),
        streaming(ArraySet(train), ArraySet(test), layout=layout),
    ):
        assert feed.updates == 2
        batches, tests = list(feed.train(0)), list(feed.test())
        assert [len(labels) for _, labels in (*batches, *tests)] == [8, 8, 8, 8, 5]
        assert len(set(order(iter(batches)))) == 16 and max(order(iter(batches))) < 100
        assert sorted(order(iter(tests))) == test.labels.tolist()
        sides = [feed.plan.px] * 2 + [feed.plan.test_px] * 3
        for (images, labels), px in zip((*batches, *tests), sides, strict=True):
            assert images.shape == (len(labels), 3, px, px)
            assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
            assert images.is_contiguous(memory_format=contiguous)
        assert feed.unreadable() == []


def test_gray_images_take_the_three_means_of_a_net_that_was_trained_on_colors() -> None:
    feed = resident(plain(np.full(4, 51), channels=1), batch=4, mean=(0.1, 0.2, 0.4), std=(0.1, 0.2, 0.5))
    ((images, _),) = feed.test()
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([1.0, 0.0, -0.4]))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_test_set_is_the_same_whether_it_stays_or_streams(channels: int) -> None:
    test = numbered(21, side=16, channels=channels)
    mean, std = ((0.3,), (0.2,)) if channels == 1 else ((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))
    stayed = resident(test, test_batch=8, px=16, test_px=16, mean=mean, std=std)
    for (x, y), (a, b) in zip(streamed(test, training(mean=mean, std=std)).test(), stayed.test(), strict=True):
        assert torch.equal(y, b)
        torch.testing.assert_close(x, a)


class OnGpu(Tensor):
    """A tensor that takes itself for one of a GPU, and notes on which streams it is used."""

    is_cuda = True  # type: ignore[assignment]
    used_on: list[Any]

    def record_stream(self, stream: Any) -> None:
        self.used_on = [stream]


def test_images_and_labels_of_a_prefetcher_outlive_what_the_stream_of_the_step_still_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream of the step", device))
    stream = streamed(numbered(8))
    batch = [torch.zeros(8, 3, 16, 16).as_subclass(OnGpu), torch.zeros(8, dtype=torch.int64).as_subclass(OnGpu)]
    stream.loader = [batch]
    assert len(list(stream.train(0))) == 1
    assert [tensor.used_on for tensor in batch] == [[("stream of the step", PLAN.device)]] * 2


def test_randaugment_does_something_else_to_each_image_of_a_batch() -> None:
    # crops and flips leave a picture of one color as it is
    alike = Arrays(np.full((32, 16, 16, 3), (200, 90, 30), np.uint8), np.zeros(32, np.int64))
    for made, least, most in ((training(), 1, 1), (RAND, 9, 32)):
        ((images, _),) = streamed(alike, made, batch=32).train(0)
        assert least <= len({tuple(image.flatten().tolist()) for image in images}) <= most


# ---- what stays, and folders


def test_a_set_stays_where_it_takes_a_fifth_of_the_memory_at_most(tmp_path: Path) -> None:
    data = data_of(numbered(30), numbered(10))
    fits = round(40 * 8 * 8 * 3 / RESIDENT_SHARE)
    assert stays(data, fits) and not stays(data, fits - 5)
    assert stays(data, None)
    assert not stays(data_of(Pictures(tmp_path, []), Pictures(tmp_path, [])), 2**40)
    assert 1 <= default_workers() <= 16


def test_pictures_of_a_folder_stream_with_their_labels_and_at_most_one_in_a_hundred_is_broken(tmp_path: Path) -> None:
    for i in range(100):
        Image.new("RGB", (20, 12), (2 * i, 0, 0)).save(tmp_path / f"{i:03}.png")
    (tmp_path / "042.png").write_bytes(b"no picture")
    files = Pictures(tmp_path, [(str(path), i) for i, path in enumerate(sorted(tmp_path.glob("*.png")))])
    train, test = (PictureSet(files, training=training, px=16) for training in (True, False))
    transforms = folder_transforms(training(crop_pct=0.875), 16, False)
    feed = streaming(train, test, transforms=transforms, test_batch=50)
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
    (tmp_path / "007.png").write_bytes(b"no picture")
    list(feed.test())
    with pytest.raises(BadData) as caught:
        feed.unreadable()
    assert str(caught.value) == (
        f"2 of the 100 pictures in {tmp_path} cannot be read: 007.png, 042.png.\n"
        "At most 1% may be.\nTry: mend or remove them"
    )


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_picture_that_is_refused_ends_the_feed_in_words_whoever_opened_it(
    tmp_path: Path, part: str, workers: int
) -> None:
    for i in range(16):
        Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / f"{i:02}.tiff")
    files = Pictures(tmp_path, [(str(path), 0) for path in sorted(tmp_path.glob("*.tiff"))])
    train, test = (PictureSet(files, training=training, px=16) for training in (True, False))
    feed = streaming(train, test, workers=workers, transforms=folder_transforms(training(crop_pct=0.875), 16, False))
    with pytest.raises(BadData) as caught:
        list(feed.train(0) if part == "train" else feed.test())
    assert caught.value.what.endswith(".tiff has floats for pixels.") and caught.value.try_.startswith("pictures of 8")


# ---- transforms


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


@pytest.mark.parametrize("augment", ["none", "flip", "randaugment", "nfnet"])
@pytest.mark.parametrize("made", [array_transforms, folder_transforms])
def test_images_come_out_square_as_bytes_for_the_prefetcher_and_else_normalized(made: Made, augment: str) -> None:
    given = training(augment=augment, test_px=20)
    raw, ready = (
        [torch.as_tensor(transform(picture())) for transform in made(given, 16, prefetch)] for prefetch in (True, False)
    )
    assert [image.shape for image in (*raw, *ready)] == [(3, 16, 16), (3, 20, 20)] * 2
    assert [image.dtype for image in (*raw, *ready)] == [torch.uint8] * 2 + [torch.float32] * 2
    # of pixels from 0 to 1, less 0.5, by 0.25
    torch.testing.assert_close((raw[1].float() / 255 - 0.5) / 0.25, ready[1])
    assert float(ready[0].min()) >= -2 and 0 < float(ready[0].max()) <= 2


@pytest.mark.parametrize("made", [array_transforms, folder_transforms])
def test_without_augmentation_an_image_is_always_the_same(made: Made) -> None:
    for augment, still in (("none", True), ("flip", False)):
        transform, _ = made(training(augment=augment), 16, False)
        first, *others = (transform(picture()) for _ in range(8))
        assert all(torch.equal(image, first) for image in others) == still


def test_the_test_crop_of_a_photograph_is_the_share_that_the_weights_were_tested_with() -> None:
    # a bright border around black, a tenth of the side on each side
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[4:-4, 4:-4] = 0
    bordered = Image.fromarray(pixels)
    whole, inner = (folder_transforms(training(crop_pct=share), 16, False)[1](bordered) for share in (1.0, 0.5))
    assert float(whole[:, 0].min()) > 1.5
    assert float(inner.max()) < -1.5


def test_every_layer_of_randaugment_works_on_every_image_with_the_magnitude_that_is_asked_for() -> None:
    for magnitude in (0, 5, 9, 10, 15):
        words = randaugment(training(augment="nfnet", randaugment_layers=4, randaugment_magnitude=magnitude))
        assert words is not None
        made = rand_augment_transform(words, {})
        assert made.num_layers == 4
        for op in made.ops:
            assert op.prob == 1
            assert min(op.magnitude, op.hparams.get("magnitude_max", 10)) == magnitude
    assert randaugment(training()) is None


@pytest.mark.parametrize("mean", [(0.5,), (0.5, 0.5, 0.5)])
def test_a_gray_picture_stays_gray_whatever_randaugment_does(mean: tuple[float, ...]) -> None:
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).convert("RGB")
    train, _ = array_transforms(training(augment="randaugment", mean=mean, std=(0.25,) * len(mean)), 28, True)
    for _ in range(40):
        image = torch.as_tensor(train(gray))
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
