"""What is counted or measured without a clock, on the fake device and on a real tiny net."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from nfbench.catalog.models import counted
from nfbench.devices.base import Device
from nfbench.devices.cpu import Cpu
from nfbench.devices.fake import FakeDevice
from nfbench.measuring.counts import count
from nfbench.measuring.lock import lock_file, only_one
from nfbench.measuring.outcome import Labels
from nfbench.records import Dependence, Flops, Reading, Result, Sampling, from_json, to_json
from tests.make import Quiet

TINY = "tiny-nfnet-s"


def kept(workload: Flops | Dependence, device: Device | None = None, seed: int = 0) -> Result:
    found: list[Result] = []
    result = count(
        device or FakeDevice(), workload, found.append, seed=seed, labels=Labels(session="s", study="claims")
    )
    assert found == [result]
    return result


def values(result: Result) -> dict[str, float | None]:
    return {r.name: r.values[0] for r in result.readings}


@pytest.mark.parametrize("workload", [Flops(model=TINY), Dependence(model=TINY)])
def test_one_result_is_kept_with_its_labels_and_survives_a_file(workload: Flops | Dependence) -> None:
    result = kept(workload, seed=3)
    assert (result.status, result.workload, result.seed, result.sampling) == ("ok", workload, 3, Sampling())
    assert (result.session, result.study, result.message) == ("s", "claims", None)
    assert from_json(to_json(result)) == result


def test_a_dependence_takes_the_devices_lock_and_a_count_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NFBENCH_TEST_LOCKS", str(tmp_path))
    held: list[bool] = []

    def look(*_: object) -> list[Reading]:
        with lock_file("a test of counted").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(True)
            else:
                held.append(False)
        return []

    device = FakeDevice()
    for name, stand_in in (("lock_name", lambda: "a test of counted"), ("flops", look), ("dependence", look)):
        monkeypatch.setattr(device, name, stand_in)
    kept(Dependence(model=TINY), device)
    with only_one("another", Quiet()):
        kept(Flops(model=TINY), device)
    assert held == [True, False]


class Unlocked(Cpu):
    """The CPU beside whatever else is timed on it, since nothing here is."""

    def lock_name(self) -> None:
        return None


def test_a_real_net_is_counted_as_in_the_catalogue() -> None:
    result = kept(Flops(model=TINY), Cpu())
    found, known = values(result), counted(TINY, 32)
    assert known is not None
    assert (found["macs"], found["params"], found["px"]) == (known.macs, known.params, 32)
    macs, train = found["macs"], found["train_macs"]
    assert macs and train and 2.9 * macs < train <= 3 * macs
    assert (found["activations"] or 0) > 0
    assert result.resolved is not None and result.resolved.px == 32


def test_a_real_nets_images_depend_on_each_other_through_batch_normalization_or_agc_alone() -> None:
    free = values(kept(Dependence(model=TINY, batch=2), Unlocked()))
    bn = values(kept(Dependence(model="tiny-resnet-s", batch=2), Unlocked()))
    names = {"output_rest_changed", "output_evaluation_others", "output_rounding", "px"}
    assert names <= free.keys() & bn.keys()
    assert (free["output_rest_changed"] or 0) < 1e-5 < 0.01 < (bn["output_rest_changed"] or 0)
    assert (free["share_rest_changed_no_agc"] or 0) < 1e-5 < 0.01 < (free["share_rest_changed_agc"] or 0)
    # a BN net clips nothing
    assert not {"share_rest_changed_agc", "clipping", "clipped_units"} & bn.keys()
    assert {"clipping", "clipped_units"} <= free.keys()
