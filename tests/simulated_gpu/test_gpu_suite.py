"""`pytest -m gpu` on the simulated GPU, but for what needs silicon or values that a kernel computes."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated_gpu.commands import in_own_process

pytestmark = pytest.mark.simulated
GPU = Path(__file__).parent.parent / "gpu"

LEFT_OUT = {
    "test_agc_cuda.py::test_a_whole_net_agrees_with_the_reference": "the kernels' values",
    "test_agc_cuda.py::test_half_precision_gradients_agree_with_the_reference": "the kernels' values",
    "test_agc_cuda.py::test_gradients_that_moved_are_clipped_where_they_are": "the kernels' values",
    "test_agc_cuda.py::test_it_is_safe_in_a_cuda_graph_beside_calls_outside_of_it": "replayed values",
    "test_agc_cuda.py::test_a_gradient_on_another_stream_is_clipped_there": "the kernels' values",
    "test_agc_cuda.py::test_the_fused_clip_beside_the_copy_bandwidth": "times, and CUPTI's records",
    "test_cuda.py::test_a_timing_has_phases_precision_energy_clocks_and_memory": "times",
    "test_nccl.py::test_a_step_of_one_rank_is_reduced_by_nccl_and_clipped_after_that": "the kernels' values",
    "test_nccl.py::test_two_cards_share_a_batch[sync_batch]": "statistics are chosen by their values",
    "test_cuda.py::test_fp32_is_fp32_in_convolutions_too": "TF32",
}


def run(tmp_path: Path, *files: str) -> None:
    left_out = [f"--deselect=tests/gpu/{name}" for name in LEFT_OUT if name.partition("::")[0] in files]
    paths = [GPU / name for name in files]
    done = in_own_process(
        "-q", "-m", "gpu", "-p", "no:cacheprovider", "-p", "no:xdist", "-rs", *left_out, *paths, module=("pytest",)
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "SKIPPED" not in done.stdout, done.stdout[-5000:]


def test_what_is_left_out_exists() -> None:
    text = {path.name: path.read_text() for path in GPU.glob("test_*.py")}
    for file, _, test in (name.partition("::") for name in LEFT_OUT):
        assert f"def {test.partition('[')[0]}(" in text[file]


@pytest.mark.simulated(devices=2)
def test_the_clip_the_device_and_two_cards(tmp_path: Path) -> None:
    run(tmp_path, "test_agc_cuda.py", "test_cuda.py", "test_nccl.py")


@pytest.mark.simulated(memory=1.2e9, context=50e6)
def test_a_study(tmp_path: Path) -> None:
    run(tmp_path, "test_study_on_a_gpu.py")
