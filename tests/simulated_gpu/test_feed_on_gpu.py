"""Batches that are prefetched on a stream of their own."""

from __future__ import annotations

import pytest
import torch
from test_feed import numbered, streamed

pytestmark = pytest.mark.simulated


@pytest.mark.simulated(launch_ns=3e8)
def test_memory_of_images_and_labels_is_not_given_out_while_the_step_reads_them() -> None:
    device, beside = torch.device("cuda", 0), torch.cuda.Stream()
    feed = streamed(numbered(8))
    feed.plan = feed.plan._replace(device=device)
    with torch.cuda.stream(beside):
        shapes = ((8, 3, 16, 16), torch.float32), ((8,), torch.int64)
        batch = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in shapes]
    places = {tensor.data_ptr() for tensor in batch}
    feed.loader = [batch]
    images, labels = next(iter(feed.train(0)))
    images.mean(), labels.sum()  # still running below
    feed.loader = []
    del batch, images, labels
    with torch.cuda.stream(beside):
        later = [torch.empty(shape, dtype=dtype, device=device) for shape, dtype in shapes]
    assert places.isdisjoint(tensor.data_ptr() for tensor in later)
