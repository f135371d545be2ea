"""Weights are put whole or not at all, no code of a file is run, and no network costs no more than seconds."""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import os
import pickle
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from nfbench.catalog.models import NETS, find
from nfbench.errors import BadWeights
from nfbench.learning.weights import LoadedWeights, classes_of, load, put
from nfbench.nets.build import build

TINY = find("tiny-resnet-s")
REPO = "timm/test_resnet.r160_in1k"


def tiny(classes: int = 10) -> dict[str, Tensor]:
    return build(TINY, num_classes=classes).state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in a home folder of its own, and no network."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path / "hub"


def cached(cache: Path, repo: str, file: str) -> Path:
    """Where the hub's cache keeps that file of the main branch; the folders are made."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0123abc")
    path = root / "snapshots" / "0123abc" / file
    path.parent.mkdir(parents=True)
    return path


# a file's weights


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pth.tar", "w"])
def test_a_file_s_weights_are_put_bit_for_bit(name: str) -> None:
    state = tiny(7)
    save_file(state, name) if name.endswith("safetensors") else torch.save(state, name)
    loaded = load(TINY, name)
    net = put(loaded, build(TINY, num_classes=loaded.classes), TINY, fresh_head=False)
    assert (loaded.classes, loaded.config, loaded.ema) == (7, None, None)
    assert same(net.state_dict(), state)
    assert loaded.source == f"file:{hashlib.blake2b(Path(name).read_bytes(), digest_size=6).hexdigest()}"
    assert re.fullmatch("file:[0-9a-f]{12}", loaded.source)


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrappers_of_a_training_script_are_taken_off(key: str) -> None:
    state = tiny()
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod."):
        wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()}
        torch.save({"epoch": 3, key: wrapped, "args": argparse.Namespace(lr=0.1)}, "w.pth")
        assert same(load(TINY, "w.pth").state, state)


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
def test_the_moving_average_and_the_data_config_of_a_checkpoint_come_along(key: str) -> None:
    state, average = tiny(), tiny()
    torch.save({"state_dict": state, key: average, "data_config": {"crop_pct": 0.9}}, "w.pth")
    loaded = load(TINY, "w.pth")
    assert loaded.ema is not None and same(loaded.ema, average) and same(loaded.state, state)
    assert loaded.config == {"crop_pct": 0.9}
    torch.save({key: average}, "w.pth")
    alone = load(TINY, "w.pth")
    assert alone.ema is None and same(alone.state, average)


def test_weights_of_float16_are_put_as_the_net_s_own_type() -> None:
    save_file({name: t.half() if t.is_floating_point() else t for name, t in tiny().items()}, "w.safetensors")
    net = put(load(TINY, "w.safetensors"), build(TINY, num_classes=10), TINY, fresh_head=False)
    assert {p.dtype for p in net.parameters()} == {torch.float32}


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [{"w": RunsCode()}, {"model": nn.Linear(2, 2)}, nn.Linear(2, 2)], ids=type)
def test_a_file_that_would_run_code_is_refused_unread(content: object, zipped: bool) -> None:
    torch.save(content, "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadWeights, match=r"w\.pth is refused: to open it would run code stored in it\.") as refused:
        load(TINY, "w.pth")
    assert "save `model.state_dict()` alone with torch.save, or as .safetensors" in str(refused.value)
    assert len(str(refused.value)) < 300 and "weights_only" not in str(refused.value)
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        Path("w.pth").write_bytes(pickle.dumps({"w": RunsCode()}, protocol))
        with pytest.raises(BadWeights, match=r"w\.pth is"):
            load(TINY, "w.pth")
    assert not Path("ran").exists()


def cut(name: str, share: float, zipped: bool = True) -> None:
    save_file(tiny(), name) if name.endswith("s") else torch.save(tiny(), name, _use_new_zipfile_serialization=zipped)
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: int(len(whole) * share)])


def folder() -> None:
    Path("w.pth").mkdir()
    Path("w.pth/last.pth").touch()


NO_FILE = " is no file of weights, or is cut short."


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("w.pth", lambda: None, "There is no file w.pth.\nTry: --weights published, or a .safetensors"),
        ("~/w.pth", lambda: None, "There is no file ~/w.pth."),
        ("w.pth", lambda: Path("w.pth").mkdir(), "w.pth is a folder, not a file of weights.\nTry: the path of a "),
        ("w.pth", folder, "w.pth is a folder, not a file of weights.\nTry: a file in it: last.pth"),
        ("w.safetensors", lambda: Path("w.safetensors").touch(), "w.safetensors is empty."),
        ("w.pth", lambda: Path("w.pth").touch(), "w.pth is empty."),
        *(
            (name, functools.partial(cut, name, share), f"{name}{NO_FILE}")
            for name in ("w.safetensors", "w.pth")
            for share in (0.5, 0.001)
        ),
        ("w.pth", lambda: cut("w.pth", 0.5, zipped=False), f"w.pth{NO_FILE}"),
        ("w.pth", lambda: cut("w.pth", 0.001, zipped=False), f"w.pth{NO_FILE}"),
        *(
            (name, functools.partial(Path(name).write_bytes, content), f"{name}{NO_FILE}")
            for name in ("w.safetensors", "w.pth")
            for content in (b"\0" * 64, b"version https://git-lfs.github.com/spec/v1\n", b"\x80", b"PK\5\6")
        ),
        *(
            ("w.pth", functools.partial(torch.save, content, "w.pth"), "w.pth holds no weights.")
            for content in ({}, {"state_dict": {"a": 1}}, {"optimizer": {}}, [1], torch.ones(2), {1: torch.ones(1)})
        ),
    ],
)
def test_each_defect_of_a_file_is_worded(name: str, make: Callable[[], Any], words: str, cache: Path) -> None:
    make()
    with pytest.raises(BadWeights) as refused:
        load(TINY, name)
    assert str(refused.value).startswith(words)


# put in a net


def loaded(state: dict[str, Tensor], classes: int = 10) -> LoadedWeights:
    return LoadedWeights("file:0", classes, None, None, state)


def test_a_fresh_head_stays_as_it_was_and_all_else_is_loaded() -> None:
    state, net = tiny(7), build(TINY, num_classes=5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    after = put(loaded(state, 7), net, TINY, fresh_head=True).state_dict()
    assert {name for name in after if torch.equal(after[name], before[name])} >= {"fc.weight", "fc.bias"}
    assert all(torch.equal(after[name], state[name]) for name in after if not name.startswith("fc."))


@pytest.mark.parametrize(
    "name", ["tiny-nfnet", "tiny-efficientnet", "timm:resnetv2_50x1_bit", "timm:deit_tiny_distilled_patch16_224"]
)
def test_the_classes_are_counted_in_linear_and_convolutional_classifiers(name: str) -> None:
    net = build(name, num_classes=37, device="meta")
    assert classes_of(net.state_dict(), build(name, device="meta")) == 37


def test_weights_without_the_classifier_are_refused() -> None:
    headless = {name: tensor for name, tensor in tiny().items() if not name.startswith("fc.")}
    with pytest.raises(BadWeights, match=r"classifier's fc\.weight is not among their \d+ tensors"):
        classes_of(headless, build(TINY))


@pytest.mark.parametrize("fresh_head", [True, False])
def test_weights_of_another_net_are_refused_with_nothing_half_loaded(fresh_head: bool) -> None:
    net = build(TINY, num_classes=10)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    other = build("tiny-resnet-l", num_classes=10).state_dict()
    with pytest.raises(BadWeights, match=f"file:0: these are weights of another net than {TINY.name}") as refused:
        put(loaded(other), net, TINY, fresh_head=fresh_head)
    assert re.search(r"\d+ unexpected: layer1\.1\..*, .*, .* and \d+ more\.", str(refused.value))
    assert re.search(r"\d+ of another shape: conv1\.0\.weight \(32×3×3×3 for \d+×3×3×3\)", str(refused.value))
    assert same(net.state_dict(), before)


def test_a_missing_tensor_and_another_number_of_classes_are_named() -> None:
    state = tiny()
    with pytest.raises(BadWeights, match=r"2 of another shape: fc\.weight \(10×\d+ for 5×\d+\), fc\.bias \(10 for 5\)"):
        put(loaded(state), build(TINY, num_classes=5), TINY, fresh_head=False)
    del state["layer1.0.conv1.weight"]
    with pytest.raises(BadWeights, match=r"1 missing: layer1\.0\.conv1\.weight\."):
        put(loaded(state), build(TINY, num_classes=10), TINY, fresh_head=False)


def test_files_from_before_batches_were_counted_are_put_as_torch_does() -> None:
    state = {name: tensor for name, tensor in tiny().items() if not name.endswith("num_batches_tracked")}
    net = put(loaded(state), build(TINY, num_classes=10), TINY, fresh_head=False)
    assert torch.equal(net.state_dict()["fc.weight"], state["fc.weight"])


# published weights


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("timm:test_resnet", "model.safetensors"),
        ("timm:test_resnet.r160_in1k", "pytorch_model.bin"),
        ("tiny-efficientnet", "model.safetensors"),
    ],
)
def test_published_weights_are_found_in_the_hub_s_cache(cache: Path, name: str, file: str) -> None:
    net = find(name)
    assert not net.kwargs
    config = net.config.partition(".")[0]
    state, path = timm.create_model(config).state_dict(), cached(cache, f"timm/{config}.r160_in1k", file)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    published = load(net, "published")
    assert (published.source, published.classes, published.ema) == (f"published:{config}.r160_in1k", 1000, None)
    assert same(put(published, build(net), net, fresh_head=False).state_dict(), state)


def test_published_weights_are_found_among_torch_hub_s_and_their_config_is_timm_s_at_the_test_size(cache: Path) -> None:
    net = find("resnet26")
    (cache.parent / "torch" / "checkpoints").mkdir(parents=True)
    torch.save(build(net).state_dict(), cache.parent / "torch" / "checkpoints" / "resnet26-9aa10e23.pth")
    published = load(net, "published")
    assert (published.source, published.classes) == ("published:resnet26.bt_in1k", 1000)
    assert published.config is not None
    assert published.config["input_size"] == (3, 288, 288) and published.config["crop_pct"] == 0.95
    assert set(published.config) == {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"}


def test_weights_under_old_names_are_converted_as_timm_does(cache: Path) -> None:
    net = find("timm:test_convnext")
    state = build(net).state_dict()
    renamed = (("head.fc.", "head."), ("head.norm.", "norm."), (".blocks.", "."))
    old = {functools.reduce(lambda name, pair: name.replace(*pair), renamed, name): t for name, t in state.items()}
    assert "head.weight" in old and "norm.weight" in old
    path = cached(cache, "timm/test_convnext.r160_in1k", "model.safetensors")
    save_file(old, path)
    assert same(load(net, "published").state, state)
    # another net's
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(BadWeights, match=r"timm .* cannot use its weights test_convnext\.r160_in1k"):
        load(net, "published")


def test_offline_the_message_says_what_is_missing_where_and_how_to_bring_it(cache: Path) -> None:
    with pytest.raises(BadWeights) as absent:
        load(find("nfnet-f0"), "published")
    said = str(absent.value)
    assert said.startswith("The published weights dm_nfnet_f0.dm_in1k are not on this machine.\nLooked for model.safe")
    assert "in ~/hub" in said and "~/torch/checkpoints. HF_HUB_OFFLINE is set.\nTry: `hf download timm/dm_nfnet" in said
    assert not cache.exists()
    with pytest.raises(BadWeights, match=r"Try: `curl -LO https://github\.com/.*\.pth` on a machine with a network"):
        load(find("timm:gcvit_xxtiny"), "published")


class Hub(BaseHTTPRequestHandler):
    """A hub of one file; everything else is 404, or ``refusal`` where that is set."""

    content = b""
    path_of_it = f"/{REPO}/resolve/main/model.safetensors"
    refusal = 0

    def do_HEAD(self) -> None:
        self._send(b"")

    def do_GET(self) -> None:
        self._send(self.content)

    def _send(self, body: bytes) -> None:
        there = self.path == self.path_of_it
        self.send_response(self.refusal or (200 if there or self.path in ("/", "") else 404))
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        if there:
            self.send_header("ETag", '"e7a9"')
            self.send_header("X-Repo-Commit", "0123abc" * 5 + "01234")
        elif not self.refusal and self.path != "/":
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        self.wfile.write(body if there else b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def online(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says at which port of this machine the hub is."""
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def at(port: int) -> None:
        place = f"http://127.0.0.1:{port}"
        template = place + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", place)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return at


@pytest.fixture
def hub(online: Callable[[int], None]) -> Iterator[type[Hub]]:
    class OneFile(Hub):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), OneFile)
    online(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield OneFile
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_that_answers_is_asked_for_the_file_which_is_then_in_the_cache(hub: type[Hub]) -> None:
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, "w.safetensors")
    hub.content = Path("w.safetensors").read_bytes()
    assert same(load(find("timm:test_resnet"), "published").state, state)
    hub.refusal = 503
    assert same(load(find("timm:test_resnet"), "published").state, state)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, r"http://127\.0\.0\.1:\d+ answers, but: .*404"),
        (403, r"does not answer: status 403\."),
        (407, r"does not answer: status 407\."),
        (502, r"does not answer: status 502\."),
    ],
)
def test_a_hub_without_the_file_is_quoted_and_one_that_refuses_is_none(hub: type[Hub], status: int, words: str) -> None:
    hub.refusal = status
    with pytest.raises(BadWeights, match=words):
        load(find("timm:test_nfnet"), "published")


def test_a_hub_that_never_answers_costs_seconds(online: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    online(1)
    with pytest.raises(BadWeights, match=r"does not answer: .*refused\."):
        load(find("timm:test_nfnet"), "published")
    monkeypatch.setattr("nfbench.learning.weights.PATIENCE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        online(silent.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(BadWeights, match=r"http://.* does not answer: (timed out|nothing came in 0 s)\."):
            load(find("timm:test_resnet"), "published")
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nf-regnet-b0", r"timm .* knows of none\. Nets near it that have some: nf-regnet-b1\.\nTry: --weights FILE"),
        ("nfnet-f7", r"Its graph is not one of timm's\. Nets near it that have some: nfnet-f0, nfnet-f1"),
        ("bn-nfnet-f0", r"Nets near it that have some: nfnet-f0\."),
        ("nf-resnet152", r"another net: nf-resnet50"),
        ("users_nets:small", r"Its graph is not one of timm's\. No net near it has any\."),
    ],
)
def test_a_net_without_published_weights_is_answered_with_those_near_it_that_have_some(name: str, text: str) -> None:
    with pytest.raises(BadWeights, match=rf"There are no published weights of {name}\.\n(?s:.*){text}"):
        load(find(name), "published")


def test_no_net_of_the_catalogue_needs_timm_s_conversion() -> None:
    for net in NETS:
        if not net.kwargs and not net.twin_of:
            module = sys.modules[timm.models.model_entrypoint(net.config).__module__]
            config = timm.models.get_pretrained_cfg(net.weights or net.config)
            assert not [name for name in vars(module) if "filter_fn" in name], net.name
            assert config is not None and not config.label_offset and not config.custom_load, net.name


def average(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As torch's `AveragedModel` and torchvision's EMA save it."""
    return {"n_averaged": torch.tensor(3), **{f"module.{name}": tensor for name, tensor in state.items()}}


@pytest.mark.parametrize(
    "form",
    [
        average,
        lambda state: average({f"module.{name}": tensor for name, tensor in state.items()}),
        lambda state: {"model_ema": average(state), "epoch": 3, "args": None},
        lambda state: {"state_dict_ema": state, "epoch": 3},
        lambda state: {"encoder": {f"backbone.net.{name}": tensor for name, tensor in state.items()}, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"my own key": state, "loss": 0.1, "scheduler": {"step": 3}},
        lambda state: {"checkpoint": {"model": state, "epoch": 3}},
        lambda state: {"ema": {"module": state, "updates": 3}},
        lambda state: {"swa_state_dict": average(state)},
        lambda state: {"state_dict": {**{f"model.{n}": t for n, t in state.items()}, "loss.weight": torch.ones(3)}},
        lambda state: {**state, "_extra_state": None, "version": 2},
    ],
    ids=[
        "averaged",
        "averaged of a wrapped net",
        "torchvision's",
        "timm's",
        "a prefix",
        "a tutorial's",
        "compiled",
        "one",
        "one in one",
        "an average in one",
        "averaged once",
        "Lightning's, with a loss of its own",
        "beside what is no tensor",
    ],
)
def test_weights_are_found_in_checkpoints_as_people_have_them(form: Callable[[dict[str, Tensor]], Any]) -> None:
    state = tiny()
    torch.save(form(state), "w.pth")
    read = load(TINY, "w.pth")
    assert same(read.state, state) and read.classes == 10


def test_of_torchvision_s_checkpoint_both_the_weights_and_their_average_are_read() -> None:
    state, smooth = tiny(), {name: tensor + 1 for name, tensor in tiny().items()}
    torch.save({"model": state, "model_ema": average(smooth), "optimizer": {"state": {}}}, "w.pth")
    read = load(TINY, "w.pth")
    assert same(read.state, state) and read.ema is not None and same(read.ema, smooth)


def test_an_average_of_parameters_alone_goes_with_the_buffers_beside_it() -> None:
    state = tiny()
    buffer = next(iter(state))
    torch.save({"model": state, "ema_model": {n: t + 1 for n, t in state.items() if n != buffer}}, "w.pth")
    read = load(TINY, "w.pth")
    smooth = {name: tensor if name == buffer else tensor + 1 for name, tensor in state.items()}
    assert read.ema is not None and same(read.ema, smooth)


def test_a_file_with_the_net_twice_under_two_prefixes_names_what_it_holds() -> None:
    both = {f"{place}.{name}": tensor for place in ("encoder_q", "encoder_k") for name, tensor in tiny().items()}
    torch.save({"state_dict": both}, "w.pth")
    with pytest.raises(BadWeights) as error:
        load(TINY, "w.pth")
    assert "tensors: encoder_q.conv1" in error.value.why


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64])
def test_numbers_that_torch_would_cast_unsaid_are_refused(dtype: torch.dtype) -> None:
    state = tiny()
    name = next(iter(state))
    torch.save({**state, name: state[name].to(dtype)}, "w.pth")
    with pytest.raises(BadWeights) as error:
        put(load(TINY, "w.pth"), build(TINY, num_classes=10), TINY, fresh_head=False)
    assert f"1 of another type: {name} ({str(dtype)[6:]} for float32)" in error.value.why


def test_what_a_file_without_weights_holds_is_named() -> None:
    for content, words in (
        ({"epoch": 3, "history": [1]}, "It is a dict of 'epoch', 'history'"),
        ({"teacher": tiny(), "student": tiny()}, "It is a dict of 'teacher', 'student'"),
    ):
        torch.save(content, "w.pth")
        with pytest.raises(BadWeights) as error:
            load(TINY, "w.pth")
        assert words in error.value.why


def test_sparse_tensors_are_refused_in_words() -> None:
    state = tiny()
    name = next(iter(state))
    torch.save({**state, name: state[name].to_sparse()}, "w.pth")
    with pytest.raises(BadWeights, match="holds sparse tensors") as error:
        load(TINY, "w.pth")
    assert name in error.value.what and "to_dense" in error.value.try_


def test_tensors_without_values_are_refused_in_words() -> None:
    state = tiny()
    name = next(iter(state))
    torch.save({**state, name: state[name].to("meta")}, "w.pth")
    with pytest.raises(BadWeights, match="holds tensors without values") as error:
        load(TINY, "w.pth")
    assert name in error.value.what


def test_a_file_that_unpacks_beyond_the_machine_is_refused_before_memory_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.save(tiny(), "w.pth")
    monkeypatch.setattr("nfbench.learning.weights.memory_available", lambda: 1000)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(BadWeights, match="more than this machine has free"):
        load(TINY, "w.pth")


def test_a_fresh_head_keeps_its_buffers_too() -> None:
    class Net(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3)
            self.fc = nn.utils.spectral_norm(nn.Linear(4, classes))

    saved = Net(7).state_dict()
    made = put(loaded(saved, 7), Net(10), TINY, fresh_head=True)
    assert torch.equal(made.stem.weight, saved["stem.weight"])  # type: ignore[union-attr,arg-type]
    assert made.fc.weight_u.shape == (10,)  # type: ignore[union-attr]


def test_a_fresh_head_keeps_what_else_is_as_wide_as_the_classes_are_many() -> None:
    class Net(nn.Module):
        prior: Tensor

        def __init__(self, classes: int) -> None:
            super().__init__()
            self.stem, self.fc = nn.Linear(3, 4), nn.Linear(4, classes)
            self.norm = nn.BatchNorm1d(classes, affine=False)
            self.register_buffer("prior", torch.full((1, classes), classes / 2))

    made = put(loaded(Net(7).state_dict(), 7), Net(10), TINY, fresh_head=True)
    assert isinstance(made, Net) and made.prior.shape == (1, 10) and made.norm.running_mean is not None
    with pytest.raises(BadWeights, match="another net"):
        put(loaded(Net(7).state_dict(), 7), Net(10), TINY, fresh_head=False)


def test_a_classifier_s_parameter_of_the_net_itself_is_left_too() -> None:
    class Net(nn.Linear):
        def __init__(self, classes: int) -> None:
            super().__init__(4, classes)

    made = put(loaded(Net(7).state_dict(), 7), Net(10), TINY, fresh_head=True)
    assert made.weight.shape == (10, 4)  # type: ignore[union-attr]


def test_weights_that_are_packed_are_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth.gz"
    path.write_bytes(gzip.compress(b"weights"))
    with pytest.raises(BadWeights, match=r"is packed by gzip\.\nTry: gunzip .*weights\.pth\.gz"):
        load(find("tiny-nfnet"), str(path))
