"""What a training run is made of, before its first update: data, weights, recipe, net and feed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from nfbench.catalog import datasets
from nfbench.catalog.models import find
from nfbench.devices.cpu import Cpu
from nfbench.devices.cuda import Cuda
from nfbench.devices.torch_device import MOST_ELEMENTS, norm_and_recipe
from nfbench.errors import BadData, BadWeights, UnsupportedWorkload
from nfbench.learning import recipe, weights
from nfbench.learning.checkpoint import Checkpoints
from nfbench.learning.data import Arrays, ArraySet, Pictures, PictureSet, held_out, load
from nfbench.learning.feed import (
    BatchPlan,
    Feed,
    Resident,
    Streaming,
    array_transforms,
    default_workers,
    folder_transforms,
    stays,
)
from nfbench.learning.learner import Sources
from nfbench.learning.tuning import HELD_OUT
from nfbench.measuring.outcome import Watch
from nfbench.nets.build import build, px_of
from nfbench.nets.flops import count_net
from nfbench.records import Accuracy, Machine, Reading, RecipeName, Resolved, StepTime, Training, key, reading

RealDevice = Cpu | Cuda
_SEARCHED: dict[tuple[str, Machine], tuple[int, dict[str, str]]] = {}


class Setup:
    """A run's parts, each settled from ``workload`` and ``seed``.

    A candidate of a search learns from a ``part`` of the training images and is scored on others (`held_out`).

    Raises:
        NfbenchError: the data set, the weights or the settings do not do.
    """

    def __init__(
        self,
        device: RealDevice,
        workload: Accuracy,
        seed: int,
        sources: Sources,
        watch: Watch,
        part: float | None = None,
    ) -> None:
        self.device, self.workload, self.seed, self.watch = device, workload, seed, watch
        if workload.deterministic:
            # cuBLAS reads it once, when it is first used
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.net = find(workload.model)
        self.norm, recipe_name = norm_and_recipe(self.net, workload.norm)
        watch.phase("reading the data")
        self.data = load(_dataset(workload, sources), None if sources.data_dir is None else Path(sources.data_dir))
        if part is not None:
            self.data = held_out(self.data, HELD_OUT, part)
        self.classes = len(self.data.classes)
        wanted = {"none": None, "published": "published"}.get(workload.weights, sources.weights)
        self.weights_from = wanted or ""
        self.loaded = None if wanted is None else weights.load(self.net, wanted)
        self._check_classes()
        # ranks that read one set in two ways would deal out other batches each
        self.memory = device.world.least(device.machine.memory or 0) or None
        self.training = self._training(recipe_name, sources)
        self._check_batch()
        self.notes: dict[str, str] = {}
        self.resolved = self._resolved(sources)
        self.counts = self._counted()
        device.set_flags(self.resolved)
        self.notes |= {"norm": self.norm, **self.data.notes}
        if self.loaded is not None:
            self.notes["weights"] = self.loaded.source

    def module(self) -> nn.Module:
        """The net, on the device, as it is before the first update: by its authors' rule, or with the weights."""
        torch.manual_seed(self.seed)
        module = self.bare()
        if self.loaded is not None:
            try:
                module = weights.put(self.loaded, module, self.net, fresh_head=self.workload.epochs > 0)
            except BadWeights as error:
                what = error.what.replace(self.loaded.source, self.weights_from)
                raise BadWeights(what, why=error.why, try_=error.try_) from error
        return module.to(self.device.torch_device)

    def averaged(self) -> nn.Module | None:
        """The net with the moving average that a file of weights holds beside them."""
        if self.loaded is None or self.loaded.ema is None or self.workload.epochs > 0:
            return None
        average = self.loaded._replace(state=self.loaded.ema)
        return weights.put(average, self.bare(), self.net, fresh_head=False).to(self.device.torch_device)

    def bare(self, device: str = "cpu") -> nn.Module:
        """The net with its drop rates and as many outputs as the data has classes, initialized anew."""
        net = replace(self.net, drop_rate=self.training.drop_rate, drop_path_rate=self.training.drop_path)
        asked = (self.workload.drop_rate, self.workload.drop_path)
        if self.net.source == "factory" and asked != ("auto", "auto"):
            raise UnsupportedWorkload(
                f"--drop-rate and --drop-path cannot reach into {self.net.name}.",
                why="Its factory takes num_classes only.",
                try_="a factory that sets them",
            )
        return build(net, num_classes=self.classes, device=device, norm=self.workload.norm, px=self.resolved.px)

    def feed(self) -> Feed:
        """Where the run's batches come from."""
        training, data, px = self.training, self.data, self.resolved.px
        plan = BatchPlan(
            device=self.device.torch_device,
            batch=self.workload.batch,
            test_batch=min(self.resolved.micro_batch, self.most_test_images),
            px=px,
            test_px=training.test_px,
            mean=training.mean,
            std=training.std,
            layout=self.workload.layout,
            seed=self.seed,
            rank=self.device.world.rank,
            ranks=self.workload.world_size,
        )
        if not self._streams():
            return Resident(data, plan, augment=training.augment == "flip")
        prefetch = self.device.machine.device == "cuda"
        train: ArraySet | PictureSet
        test: ArraySet | PictureSet
        if isinstance(data.train, Pictures) and isinstance(data.test, Pictures):
            train = PictureSet(data.train, px=px, training=True)
            test = PictureSet(data.test, px=training.test_px, training=False)
            transforms = folder_transforms(training, px, prefetch)
        else:
            assert isinstance(data.train, Arrays) and isinstance(data.test, Arrays)
            train, test = ArraySet(data.train), ArraySet(data.test)
            transforms = array_transforms(training, px, prefetch)
        assert training.workers is not None
        return Streaming(train, test, plan, transforms=transforms, workers=training.workers)

    def _streams(self) -> bool:
        augmented = self.training.randaugment_layers is not None and self.workload.epochs > 0
        return augmented or not stays(self.data, self.memory)

    def _check_classes(self) -> None:
        if self.workload.epochs == 0 and self.loaded is not None and self.loaded.classes != self.classes:
            raise UnsupportedWorkload(
                f"The weights tell {self.loaded.classes} classes apart, {self.data.name} has {self.classes}.",
                why="--epochs 0 evaluates them as they are.",
                try_="--epochs 10 to train a new classifier on them",
            )

    def _check_batch(self) -> None:
        if self.classes < 2:
            raise BadData(f"{self.data.name} has one class: there is nothing to tell apart.", try_="another --dataset")
        if self.workload.epochs and self.workload.micro_batch == 1 and self.norm == "batch":
            raise UnsupportedWorkload(
                f"--micro-batch 1 does not train {self.net.name}.",
                why="Batch normalization needs two images per pass.",
                try_="--micro-batch 2, or --micro-batch auto",
            )
        images = self.training.train_images
        if self.workload.epochs and self.workload.batch > images:
            raise BadData(
                f"--batch {self.workload.batch} is more than the {images} training images of {self.data.name}.",
                try_=f"--batch {2 ** (max(1, images // 4).bit_length() - 1)}",
            )

    def _training(self, recipe_name: RecipeName, sources: Sources) -> Training:
        workload, data = self.workload, self.data
        name = recipe_name if workload.recipe == "auto" else workload.recipe
        asked = recipe.values(workload, self.net, name, datasets.find(workload.dataset))
        config = (self.loaded.config if self.loaded is not None else None) or {}
        photographs = isinstance(data.train, Pictures)
        test_px = px_of(self.net)[1]
        if workload.px != "train":
            test_px = workload.px
        elif config:
            test_px = config["input_size"][-1]
        training = Training(
            **asked,
            classes=self.classes,
            train_images=_images(data.train),
            test_images=_images(data.test),
            test_px=test_px if workload.test_px == "auto" else workload.test_px,
            data=data.digest,
            mean=tuple(config.get("mean", data.mean)),
            std=tuple(config.get("std", data.std)),
            interpolation=config.get("interpolation", "bicubic") if photographs else "bilinear",
            crop_pct=config.get("crop_pct") or 0.875 if photographs else 1.0,
            crop_mode=config.get("crop_mode") or "center" if photographs else "squash",
            majority=_majority(data.test),
        )
        self.training = training
        if not self._streams():
            return training
        workers = default_workers() if sources.workers is None else sources.workers
        return msgspec.structs.replace(training, workers=workers)

    def _resolved(self, sources: Sources) -> Resolved:
        workload, world = self.workload, self.device.world
        step = as_step(workload)
        resolved = self.device.resolve(step)
        if world.size > 1:
            resolved = msgspec.structs.replace(resolved, backend=world.backend, nodes=world.nodes)
        flags: dict[str, Any] = {}
        if workload.deterministic and resolved.cudnn_benchmark:
            flags["cudnn_benchmark"] = False
        micro_batch = resolved.micro_batch
        if step.micro_batch == "auto" and self.device.machine.device != "cpu" and workload.epochs:
            micro_batch = world.least(self._micro_batch(step, resolved, sources))
        fused = recipe.fused(self.training.optimizer, self.device.torch_device.type)
        settled = msgspec.structs.replace(
            resolved,
            # nothing is trained, so there is only the px of the test
            px=resolved.px if workload.epochs else self.training.test_px,
            micro_batch=micro_batch,
            optimizer_impl=f"{self.training.optimizer} fused" if fused else self.training.optimizer,
            layout=workload.layout,
            training=self.training,
            **flags,
        )
        return msgspec.convert(world.agree(msgspec.to_builtins(settled)), Resolved)

    def _micro_batch(self, step: StepTime, resolved: Resolved, sources: Sources) -> int:
        """What the search of `step-time` finds for a step of the same weight, once for all seeds of a process; a run
        that goes on keeps what it began with, however much memory is free now."""
        if sources.checkpoint is not None:
            saved = Checkpoints(Path(sources.checkpoint), self.workload, self.seed).load()
            # a rank that searched alone would wait for ranks that do not
            began = self.device.world.agree(0 if saved is None else int(saved["resolved"]["micro_batch"]))
            if began:
                return began
        training = self.training
        heavy = msgspec.structs.replace(
            step,
            ema="none" if training.ema is None else training.ema,
            # two buffers a weight, as RMSProp, are more than any SGD has
            optimizer="sgd" if training.optimizer in ("sgd", "nesterov", "momentum") else "recipe",
        )
        place = key(heavy), self.device.machine
        if place not in _SEARCHED:
            self.watch.phase("finding the micro-batch")
            self.device.set_flags(resolved)
            steps = self.device.build(heavy, resolved, self.seed)
            notes = {name: text for name, text in steps.notes().items() if name == "micro_batch"}
            _SEARCHED[place] = self.device.fit(heavy, resolved, steps, self.seed), notes
            del steps
            self.device.rest()
        micro_batch, notes = _SEARCHED[place]
        self.notes |= notes
        return micro_batch

    def _counted(self) -> list[Reading]:
        """MACs and parameters; sets how many test images per pass on a GPU may have, of which each may be larger."""
        sides = [self.resolved.px, *([self.training.test_px] if self.device.machine.device == "cuda" else [])]
        counts, *of_test = count_net(self.net, sides, train=True, norm=self.workload.norm, classes=self.classes)
        self.most_test_images = MOST_ELEMENTS // max(1, of_test[0].largest) if of_test else MOST_ELEMENTS
        if counts.note:
            self.notes["macs"] = counts.note
        return [
            reading(name, unit, "run", "flop counter", [value])
            for name, unit in (("macs", "MAC"), ("train_macs", "MAC"), ("params", "1"))
            if (value := getattr(counts, name)) is not None
        ]


def as_step(workload: Accuracy) -> StepTime:
    """The step of a run as `step-time` would time it."""
    shared = set(StepTime.__struct_fields__) & set(Accuracy.__struct_fields__) - {"optimizer"}
    given = {name: getattr(workload, name) for name in shared}
    return StepTime(**given | {"ema": "none" if workload.ema == "auto" else workload.ema})


def _dataset(workload: Accuracy, sources: Sources) -> str:
    return f"imagefolder:{sources.folder}" if workload.dataset.startswith("imagefolder:") else workload.dataset


def _majority(part: Arrays | Pictures) -> float:
    """The share of the largest class."""
    labels = part.labels if isinstance(part, Arrays) else [label for _, label in part.samples]
    return float(np.bincount(labels).max() / len(labels))


def _images(part: Arrays | Pictures) -> int:
    return len(part.labels) if isinstance(part, Arrays) else len(part.samples)
