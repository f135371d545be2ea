from __future__ import annotations

import math

import msgspec
import pytest
from make import once, result

from nfbench.analysis import rows
from nfbench.errors import BadResults
from nfbench.records import SCHEMA_VERSION, StepTime, Workload, from_json, key, reading, to_json

KEYS = (
    (
        '{"kind":"step-time","model":"m","px":64,"batch":48,"micro_batch":16,"precision":"bf16",'
        '"layout":"nchw","compile":"default","optimizer":"recipe","agc":0.02,"agc_impl":"timm",'
        '"norm":"group","sam":0.1,"sam_fraction":0.5,"sam_scope":"batch","ema":0.99,"world_size":8,'
        '"broadcast_buffers":false}'
    ),
    '{"kind":"agc-cost","model":"m","impl":"fused","clipped":0.5,"layout":"nchw"}',
    (
        '{"kind":"accuracy","model":"m","dataset":"mnist","epochs":3,"batch":48,"micro_batch":16,"px":64,'
        '"test_px":96,"precision":"bf16","layout":"nchw","compile":"default","agc":0.02,"agc_impl":"timm",'
        '"norm":"group","sam":0.1,"sam_fraction":0.5,"sam_scope":"batch","ema":0.99,"recipe":"nfnet",'
        '"optimizer":"recipe","lr":0.3,"schedule":"cosine","warmup_epochs":1.5,"decay_epochs":2.5,'
        '"decay_rate":0.9,"momentum":0.8,"alpha":0.95,"eps":0.01,"weight_decay":0.0001,"label_smoothing":0.2,'
        '"augment":"flip","randaugment_layers":2,"randaugment_magnitude":9,"mixup":0.3,"cutmix":0.4,'
        '"drop_rate":0.25,"drop_path":0.15,"weights":"published","deterministic":true,"tune":"lr",'
        '"world_size":8,'
        '"broadcast_buffers":false}'
    ),
    '{"kind":"flops","model":"m","px":64}',
    '{"kind":"dependence","model":"m","batch":48,"px":64,"agc":0.02}',
)
"""A key of each workload with every setting away from its default: stored results are found by them."""
DEFAULTS = {
    "step-time": {
        "px": "train",
        "batch": 32,
        "micro_batch": "auto",
        "precision": "auto",
        "layout": "best",
        "compile": "none",
        "optimizer": "sgd",
        "agc": "auto",
        "agc_impl": "auto",
        "norm": "auto",
        "sam": "none",
        "sam_fraction": 0.2,
        "sam_scope": "micro-batch",
        "ema": "none",
        "world_size": 1,
        "broadcast_buffers": True,
    },
    "agc-cost": {"clipped": 0.0, "layout": "nhwc"},
    "accuracy": {
        "dataset": "digits",
        "epochs": 10,
        "batch": 64,
        "micro_batch": "auto",
        "px": "train",
        "test_px": "auto",
        "precision": "auto",
        "layout": "nhwc",
        "compile": "none",
        "agc": "auto",
        "agc_impl": "auto",
        "norm": "auto",
        "sam": "none",
        "sam_fraction": 0.2,
        "sam_scope": "micro-batch",
        "ema": "auto",
        "recipe": "auto",
        "optimizer": "auto",
        "lr": "auto",
        "schedule": "auto",
        "warmup_epochs": "auto",
        "decay_epochs": "auto",
        "decay_rate": "auto",
        "momentum": "auto",
        "alpha": "auto",
        "eps": "auto",
        "weight_decay": "auto",
        "label_smoothing": "auto",
        "augment": "auto",
        "randaugment_layers": "auto",
        "randaugment_magnitude": "auto",
        "mixup": "auto",
        "cutmix": "auto",
        "drop_rate": "auto",
        "drop_path": "auto",
        "weights": "none",
        "deterministic": False,
        "tune": "none",
        "world_size": 1,
        "broadcast_buffers": True,
    },
    "flops": {"px": "train"},
    "dependence": {"batch": 8, "px": "auto", "agc": "auto"},
}
"""What a key leaves out: a default that changes makes old results another workload."""


def test_a_result_survives_its_line() -> None:
    given = result(readings=(once("loss", 6.9),), notes={"norm": "batch"}, status="diverged")
    assert from_json(to_json(given)) == given


def test_a_key_leaves_out_what_stands_at_its_default() -> None:
    assert key(StepTime(model="nfnet-f0")) == '{"kind":"step-time","model":"nfnet-f0"}'
    assert key(StepTime(model="nfnet-f0", batch=32)) == key(StepTime(model="nfnet-f0"))
    assert key(StepTime(model="nfnet-f0", agc=0.02)) == '{"kind":"step-time","model":"nfnet-f0","agc":0.02}'


@pytest.mark.parametrize("text", KEYS)
def test_keys_are_those_of_stored_results(text: str) -> None:
    workload = msgspec.json.decode(text, type=Workload)
    assert key(workload) == text
    fields = msgspec.structs.fields(type(workload))
    assert {f.name for f in fields} == msgspec.json.decode(text).keys() - {"kind"}
    kind = msgspec.json.decode(text)["kind"]
    assert {f.name: f.default for f in fields if not f.required} == DEFAULTS[kind]


def test_a_workload_can_be_a_dictionary_key() -> None:
    assert len({StepTime(model="a"), StepTime(model="a"), StepTime(model="b")}) == 2


def test_values_that_are_not_finite_are_null() -> None:
    found = reading("loss", "1", "run", "test", [1.0, math.nan, math.inf])
    assert found.values == (1.0, None, None)
    assert found.finite == [1.0]
    assert b"[1.0,null,null]" in to_json(result(readings=(found,)))


@pytest.mark.parametrize("name", ["zero_gradients", "clipped_units"])
@pytest.mark.parametrize("share", [-15568701527.75, -0.01, 1.01, 1e12])
def test_a_share_beyond_0_to_1_is_absent_wherever_it_is_read(name: str, share: float) -> None:
    stored = result(readings=(*result().readings, reading(name, "1", "run", "one update", [share])))
    found = stored.reading(name)
    assert found is not None and found.finite == [] and stored.value(name) is None
    assert name not in rows.row([stored])
    assert rows.row([result(readings=(*result().readings, once(name, 1.0)))])[name] == 1.0


def test_the_samples_stand_last_in_the_line() -> None:
    line = to_json(result())
    fields = list(msgspec.json.decode(line))
    assert fields[0] == "schema" and fields[-1] == "readings"


def test_a_newer_schema_is_refused_with_what_to_type() -> None:
    line = to_json(result()).replace(b'"schema":1', b'"schema":7', 1)
    with pytest.raises(BadResults) as caught:
        from_json(line)
    assert str(caught.value) == (
        f"written by a newer nfbench: its schema is 7, this nfbench reads up to {SCHEMA_VERSION}.\n"
        "Try: pip install --upgrade nfbench"
    )


def test_a_field_that_a_later_nfbench_added_is_passed_over() -> None:
    line = to_json(result()).replace(b'{"schema"', b'{"later_field":3,"schema"', 1)
    assert from_json(line) == result()
