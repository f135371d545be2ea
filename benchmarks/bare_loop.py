"""A training loop with nothing of nfbench in it: one wall clock around all steps.

uv run python benchmarks/bare_loop.py resnet18 --px 96 --batch 8 --seconds 5
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import timm
import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn

AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def bare_loop(
    timm_name: str,
    px: int,
    batch: int,
    clipping: float | None,
    layout: torch.memory_format,
    device: str = "cpu",
    precision: str = "fp32",
) -> Callable[[int], float]:
    """A function that trains for so many steps and returns the seconds of one of them, their mean."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    net: nn.Module = timm.create_model(timm_name, num_classes=1000).train().to(device)
    net.to(memory_format=layout)
    head = {id(m.weight) for m in net.modules() if isinstance(m, nn.Linear)}
    clipped = [p for p in net.parameters() if id(p) not in head]
    with torch.no_grad():
        for name, p in net.named_parameters():
            # a gain of zero mutes its branch
            if p.squeeze().ndim <= 1 and not name.endswith("bias") and not p.any():
                p.fill_(1.0)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    weights = [p for p in net.parameters() if p.squeeze().ndim > 1]
    vectors = [p for p in net.parameters() if p.squeeze().ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 2e-5}, {"params": vectors, "weight_decay": 0.0}],
        lr=1e-6,
        momentum=0.9,
        nesterov=True,
        fused=True,
    )
    images = torch.randn(batch, 3, px, px, device=device).contiguous(memory_format=layout)
    targets = torch.randint(1000, (batch,), device=device)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")

    def train(steps: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
                loss = criterion(net(images), targets)
            scaler.scale(loss).backward()
            if clipping is not None:
                scaler.unscale_(optimizer)
                adaptive_clip_grad(clipped, clipping)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / steps

    return train


def main() -> None:
    """Print one JSON line: the mean step in seconds, and of how many steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", help="a name of timm's")
    parser.add_argument("--px", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clipping", type=float)
    parser.add_argument("--layout", choices=LAYOUTS, default="nchw")
    parser.add_argument("--precision", choices=("fp32", "tf32", "fp16", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--warm-up", type=int, default=5, help="steps that do not count")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to train, about")
    args = parser.parse_args()
    train = bare_loop(args.net, args.px, args.batch, args.clipping, LAYOUTS[args.layout], args.device, args.precision)
    train(args.warm_up)
    steps = max(10, round(args.seconds / train(3)))
    print(json.dumps({"net": args.net, "steps": steps, "step_time": train(steps), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
