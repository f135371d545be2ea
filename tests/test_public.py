"""What a training of one's own takes from nfbench: two lines around a torchvision net, and a cheap import."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any, NamedTuple

import torch
import torchvision
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torchvision.models.resnet import BasicBlock

import nfbench
from nfbench import AGC, normalizer_free

BATCH, STEPS, MORE, TRAINED_ON = 32, 24, 2, 1536


def digits() -> tuple[Tensor, Tensor]:
    """(1797, 3, 32, 32) with mean 0 and variance 1, and labels 0 to 9."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)
    images = nn.functional.interpolate(images, size=32, mode="bilinear").expand(-1, 3, -1, -1)
    return (images - images.mean()) / images.std(), torch.tensor(data.target)


class Training(NamedTuple):
    model: nn.Module
    optimizer: AGC
    scheduler: LRScheduler

    def state(self) -> dict[str, Any]:
        return copy.deepcopy({name: part.state_dict() for name, part in self._asdict().items()})

    def restore(self, state: dict[str, Any]) -> None:
        for name, part in self._asdict().items():
            part.load_state_dict(state[name])

    def run(self, steps: range) -> list[int]:
        """Train; return the number of clipped units in each step."""
        images, labels = digits()
        clipped = []
        for step in steps:
            rows = torch.arange(step * BATCH, (step + 1) * BATCH) % TRAINED_ON
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(images[rows]), labels[rows]).backward()
            self.optimizer.step()
            self.scheduler.step()
            assert self.optimizer.last_clipped is not None
            clipped.append(int(self.optimizer.last_clipped))
        return clipped


def training(seed: int) -> Training:
    torch.manual_seed(seed)
    model = torchvision.models.resnet.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    normalizer_free(model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    optimizer = AGC(sgd, model)
    return Training(model, optimizer, CosineAnnealingLR(optimizer, 2 * STEPS))


def test_a_resnet_without_normalization_learns_digits_and_goes_on_from_its_state_dict_bit_for_bit() -> None:
    first = training(seed=0)
    clipped = first.run(range(STEPS))
    saved = first.state()
    images, labels = digits()
    with torch.no_grad():
        right = first.model(images[TRAINED_ON:]).argmax(1) == labels[TRAINED_ON:]
    assert float(right.float().mean()) > 0.6
    assert min(clipped) > 0

    first.run(range(STEPS, STEPS + MORE))
    second = training(seed=1)
    second.restore(saved)
    second.run(range(STEPS, STEPS + MORE))
    assert second.scheduler.get_last_lr() == first.scheduler.get_last_lr() != [0.1]
    ours, theirs = first.model.state_dict(), second.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(ours[name], saved["model"][name]) for name in ours)


def test_every_public_name_is_found_and_importing_or_listing_them_imports_no_torch() -> None:
    assert {"AGC", "adaptive_clip_grad_", "agc_parameters", "normalizer_free", "unitwise_norm"} == set(nfbench.__all__)
    assert [getattr(nfbench, name).__name__ for name in nfbench.__all__] == nfbench.__all__
    assert set(nfbench.__all__) <= {*dir(nfbench)}
    check = "import sys, nfbench; dir(nfbench); print(nfbench.__version__, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.stdout == f"{nfbench.__version__} False\n", done.stderr
