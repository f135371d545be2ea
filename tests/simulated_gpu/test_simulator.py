"""The simulated GPU itself: what nobody has written aborts, and only a process started with its environment has it."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from simulated_gpu import simulator

pytestmark = pytest.mark.skipif(simulator.why_not() is not None, reason=f"no simulated GPU: {simulator.why_not()}")


@pytest.mark.parametrize("name", ["cudaMallocManaged", "cuCtxCreate_v4", "nvmlDeviceGetFanSpeed", "ncclSend"])
def test_a_function_that_nobody_wrote_ends_the_process_with_its_name(name: str) -> None:
    library = simulator.build() / "libsimulatedgpu.so"
    call = f"import ctypes; getattr(ctypes.CDLL({str(library)!r}), {name!r})()"
    done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert done.returncode < 0 and f"simulated GPU: {name} was called" in done.stderr


def test_two_environments_share_no_memory_and_no_card_and_interpret_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    one, other = (simulator.environment(tmp_path / name, memory=8e9) for name in ("a", "b"))
    for own in ("SIMULATED_GPU_SHM", "SIMULATED_GPU_UUID", "SIMULATED_GPU_CONTROL"):
        assert one[own] != other[own]
    assert one["SIMULATED_GPU_MEMORY"] == "8000000000.0"
    assert not {"TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES"} & one.keys()


def test_it_is_built_once_by_whoever_comes_first_and_anew_for_other_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def compiled(folder: Path) -> None:
        built.append(folder)
        (folder / "library").touch()

    for name in (*simulator.SOURCES, "simulator.py"):
        (tmp_path / name).write_bytes((simulator.HERE / name).read_bytes())
    monkeypatch.setattr(simulator, "HERE", tmp_path)
    monkeypatch.setattr(simulator, "_compile", compiled)
    with ThreadPoolExecutor(4) as pool:
        (target,) = {future.result() for future in [pool.submit(simulator.build) for _ in range(4)]}
    assert len(built) == 1 and target.name.startswith(simulator.importlib.metadata.version("torch") + "-")
    assert (target / "library").exists() and not built[0].exists()
    (tmp_path / "cuda.c").write_text("// other\n")
    assert simulator.build() != target and len(built) == 2
    assert "/tests/simulated_gpu/.build/" in (simulator.ROOT / ".gitignore").read_text()


ANSWERED = re.compile(r"^(?!static|typedef|struct|enum| )[\w ]+[ *]\**(_*(?:cu|nccl|nvml)\w+)\(", re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in simulator.SOURCES if name.endswith(".c")])
def test_a_comment_stands_above_each_group_of_answered_calls(name: str) -> None:
    blocks = (simulator.HERE / name).read_text().split("\n\n")
    assert [calls for block in blocks if "//" not in block and (calls := ANSWERED.findall(block))] == []
