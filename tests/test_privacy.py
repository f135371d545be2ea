"""What is stored names no person, no machine and no folder."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterator

import pytest
from make import result

from nfbench import privacy
from nfbench.measuring.outcome import to_store
from nfbench.privacy import scrubbed


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu07.acme.example")
    monkeypatch.setattr(getpass, "getuser", lambda: "alicia")
    privacy._names.cache_clear()
    yield
    privacy._names.cache_clear()


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("No such file: '/home/alice/secret/data.bin'", "No such file: 'data.bin'"),
        ('File "/opt/x/y.py", line 3', 'File "y.py", line 3'),
        ("C:\\Users\\alice\\net.py is broken", "net.py is broken"),
        ("~/secret/net.py", "net.py"),
        ("~alice/net.py, ~bob and ~5 ms", "net.py, ~ and ~5 ms"),
        ("in /home/alice, or C:\\Users\\bob", "in ~, or ~"),
        ("'/data/My Files/b c/weights.bin' is broken", "'weights.bin' is broken"),
        ("at 'C:\\\\Users\\\\alice\\\\net.py' or \\\\server\\share\\net.py", "at 'net.py' or net.py"),
        ("file:///mnt/alice/net.py, file:/mnt/x/net.py, /mnt//alice/net.py", "net.py, net.py, net.py"),
        ("see https://example.org/a/b and s3://bucket/a/b", "see https://example.org/a/b and s3://bucket/a/b"),
        (
            "Command '['/usr/bin/gcc', '/tmp/x1/a.c', '-O3', '-o', '/tmp/x1/a.so', '-lcuda', '-L/opt/my/lib', "
            "'-I/opt/my/include']' failed",
            "Command '['gcc', 'a.c', '-O3', '-o', 'a.so', '-lcuda', '-Llib', '-Iinclude']' failed",
        ),
        (
            "gcc -I/opt/my/include -Wl,-rpath,/opt/my/lib PYTHONPATH=/a/b:/c/d",
            "gcc -Iinclude -Wl,-rpath,lib PYTHONPATH=b:d",
        ),
        ("on GPU-12345678-1234-1234-1234-123456789abc now", "on … now"),
        ("12 / 4 images and a/b stay", "12 / 4 images and a/b stay"),
        ("x" * 600, "x" * 500),
        # relative paths
        ("runs/alice/net.pt or ../alice/secret, ./a/b/c.py:12", "net.pt or secret, c.py:12"),
        ("alice/secret/weights is torch/nn/modules/conv.py", "weights is conv.py"),
        ("120 images/s/GPU, 3/4 and forward/backward", "120 images/s/GPU, 3/4 and forward/backward"),
        # spaces outside of quotes
        ("/data/My Files/b c/weights.bin is broken", "weights.bin is broken"),
        ("/data/net.py was read on /mnt/x.py", "net.py was read on x.py"),
        ("C:\\Users\\Al Ice\\net.py is broken", "net.py is broken"),
        ("//server/share/net.py and //server/share", "net.py and share"),
        ("file://nas/alice/net.py", "net.py"),
        # users
        ("alice@node7:~/runs/net.py", "…:net.py"),
        ("git@github.com:alice/x.git, ssh://alice:pw@node7/x", "…:x.git, ssh://…"),
        ("nfnet-f1@px=224,layout=nhwc", "nfnet-f1@px=224,layout=nhwc"),
        # hosts
        ("connect to [node7]:29500 failed", "connect to […]:29500 failed"),
        ("connect to [::ffff:10.1.2.3]:29500, [fe80::1%eth0]:1", "connect to […]:29500, […]:1"),
        ("addr=[localhost]:4, 10.0.0.1:80 (192.168.1.7)", "addr=[…]:4, …:80 (…)"),
        ("at node7.cluster.example.org, gpu.local and [a.b.uni-x.de]", "at …, … and […]"),
        ("tcp://node7:29500, http://10.1.2.3/x, https://node7/x", "tcp://…, http://…, https://…"),
        ("cuDNN 9.1.0.70, CUDA 13.2 and 2.11.0.1 images", "cuDNN 9.1.0.70, CUDA 13.2 and … images"),
        ("fe80::1 and 2001:db8::7, c10::add at 12:30:45", "… and …, c10::add at 12:30:45"),
        ("node7.acme:29500 in CUDACachingAllocator.cpp:1112", "…:29500 in CUDACachingAllocator.cpp:1112"),
        # names of modules and parameters, and words after "at"
        ("torch.nn.functional, self.net.conv and blocks.0.se", "torch.nn.functional, self.net.conv and blocks.0.se"),
        ("at 224 px on CPU to layer1.0.bn", "at 224 px on CPU to layer1.0.bn"),
        ("torch.OutOfMemoryError: net.py:12 at c10/cuda", "torch.OutOfMemoryError: net.py:12 at c10/cuda"),
    ],
)
def test_a_stored_message_names_no_folder_and_no_card(written: str, stored: str) -> None:
    assert scrubbed(written) == stored
    kept = to_store(result(message=written, notes={"agc": written}), None)
    assert (kept.message, kept.notes) == (stored, {"agc": stored})


def test_this_machine_and_its_user_are_named_nowhere() -> None:
    written = "gpu07:12:34 [0] NCCL WARN on gpu07.acme.example (gpu07) for alicia, not gpu070 or alicias"
    assert scrubbed(written) == "…:12:34 [0] NCCL WARN on … (…) for …, not gpu070 or alicias"


def test_a_user_without_a_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    privacy._names.cache_clear()
    assert scrubbed("alicia at localhost, as root") == "alicia at localhost, as root"
