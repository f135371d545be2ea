from __future__ import annotations

import math

import msgspec
import pytest
from make import once, result

from nfbench.errors import BadResults
from nfbench.records import SCHEMA_VERSION, StepTime, from_json, key, reading, to_json


def test_a_result_survives_its_line() -> None:
    given = result(readings=(once("loss", 6.9),), notes={"norm": "batch"}, status="diverged")
    assert from_json(to_json(given)) == given


def test_a_key_leaves_out_what_stands_at_its_default() -> None:
    assert key(StepTime(model="nfnet-f0")) == '{"kind":"step-time","model":"nfnet-f0"}'
    assert key(StepTime(model="nfnet-f0", batch=32)) == key(StepTime(model="nfnet-f0"))
    assert key(StepTime(model="nfnet-f0", agc=0.02)) == '{"kind":"step-time","model":"nfnet-f0","agc":0.02}'


def test_values_that_are_not_finite_are_null() -> None:
    found = reading("loss", "1", "run", "test", [1.0, math.nan, math.inf])
    assert found.values == (1.0, None, None)
    assert found.finite == [1.0]
    assert b"[1.0,null,null]" in to_json(result(readings=(found,)))


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
