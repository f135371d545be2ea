"""What becomes of one image on its way to a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from make import TRAINING
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from nfbench.learning.feed import array_transforms, folder_transforms, randaugment
from nfbench.records import Training

Made = Callable[[Training, int, bool], tuple[Any, Any]]


def training(**fields: Any) -> Training:
    given: dict[str, Any] = {"augment": "flip", "test_px": 20}
    if fields.get("augment") in ("randaugment", "nfnet"):
        given |= {"randaugment_layers": 2, "randaugment_magnitude": 9}
    return msgspec.structs.replace(TRAINING, **(given | fields))


def picture(side: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*side[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def as_uint8(image: Any) -> torch.Tensor:
    found: torch.Tensor = torch.as_tensor(image)
    assert found.dtype == torch.uint8
    return found


@pytest.mark.parametrize("augment", ["none", "flip", "randaugment", "nfnet"])
@pytest.mark.parametrize("made", [array_transforms, folder_transforms])
def test_images_come_out_square_as_bytes_for_the_prefetcher_and_else_normalized(made: Made, augment: str) -> None:
    given = training(augment=augment)
    for place, px in enumerate((16, 20)):
        raw = as_uint8(made(given, 16, True)[place](picture()))
        assert raw.shape == (3, px, px)
        ready = made(given, 16, False)[place](picture())
        assert ready.shape == (3, px, px) and ready.dtype == torch.float32
        # of pixels from 0 to 1, less 0.5, by 0.25
        assert float(ready.min()) >= -2 and 0 < float(ready.max()) <= 2


@pytest.mark.parametrize("made", [array_transforms, folder_transforms])
def test_the_prefetcher_gets_the_pixels_that_are_normalized_without_it(made: Made) -> None:
    given = training()
    raw, ready = (made(given, 16, prefetch)[1](picture()) for prefetch in (True, False))
    torch.testing.assert_close((as_uint8(raw).float() / 255 - 0.5) / 0.25, ready)


@pytest.mark.parametrize("made", [array_transforms, folder_transforms])
def test_without_augmentation_an_image_is_always_the_same(made: Made) -> None:
    still, _ = made(training(augment="none"), 16, False)
    moving, _ = made(training(augment="flip"), 16, False)
    images = [[transform(picture()) for _ in range(8)] for transform in (still, moving)]
    assert all(torch.equal(image, images[0][0]) for image in images[0])
    assert any(not torch.equal(image, images[1][0]) for image in images[1])


def test_the_test_crop_of_a_photograph_is_the_share_that_the_weights_were_tested_with() -> None:
    # a bright border around black, a tenth of the side on each side
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[4:-4, 4:-4] = 0
    bordered = Image.fromarray(pixels)
    whole, inner = (folder_transforms(training(crop_pct=share), 16, False)[1](bordered) for share in (1.0, 0.5))
    assert float(whole[:, 0].min()) > 1.5
    assert float(inner.max()) < -1.5


@pytest.mark.parametrize("magnitude", [0, 5, 9, 10, 15])
def test_every_layer_of_randaugment_works_on_every_image_with_the_magnitude_that_is_asked_for(magnitude: int) -> None:
    words = randaugment(training(augment="nfnet", randaugment_layers=4, randaugment_magnitude=magnitude))
    assert words is not None
    found = rand_augment_transform(words, {})
    assert found.num_layers == 4
    for op in found.ops:
        assert op.prob == 1
        assert min(op.magnitude, op.hparams.get("magnitude_max", 10)) == magnitude


def test_without_randaugment_there_is_no_word_for_it() -> None:
    assert randaugment(training(augment="flip")) is None
    assert randaugment(training(augment="randaugment")) is not None


@pytest.mark.parametrize("mean", [(0.5,), (0.5, 0.5, 0.5)])
def test_a_gray_picture_stays_gray_whatever_randaugment_does(mean: tuple[float, ...]) -> None:
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).convert("RGB")
    train, _ = array_transforms(training(augment="randaugment", mean=mean, std=(0.25,) * len(mean)), 28, True)
    for _ in range(40):
        image = as_uint8(train(gray))
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
