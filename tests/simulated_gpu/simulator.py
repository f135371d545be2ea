"""Build the simulated GPU and give the environment in which a Python runs on it; see README.md in this folder."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SOURCES = ("simulated.h", "cuda.c", "nvml.c", "libraries.c")
LIBRARIES = re.compile(r"@lib(cudart|cublas|cublasLt|cudnn|cupti)\.so|^nccl")
REAL = {"cublasLtGetVersion", "cudnnGetCudartVersion", "cudnnGetLastErrorString", "cudnnGetProperty", "cudnnGetVersion"}
"""What the real libraries answer without a device."""

REQUIRED = "NFBENCH_SIMULATED_GPU"
"""Set to `required` where a skip is a failure, as `.ci/run` does."""


def why_not() -> str | None:
    """Why the simulated GPU cannot run here, or None."""
    tested = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    version = importlib.metadata.version("torch").partition("+")[0]
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return "it runs on Linux x86-64"
    if Path("/dev/nvidiactl").exists():
        return "there is a real GPU"
    if tested is None or version != tested[1]:
        return f"it imitates the device of torch {tested[1] if tested else '(none)'}, and this is {version}"
    if shutil.which("gcc") is None or shutil.which("nm") is None:
        return "it is built with gcc and nm"
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("triton") is None:
        return "torch was installed without CUDA"
    return None


def build() -> Path:
    """The folder of the built libraries. Builds them once for each version of torch and of the sources.

    Raises:
        RuntimeError: the compiler failed, with its words.
    """
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in (*SOURCES, "simulator.py")))
    target = HERE / ".build" / f"{importlib.metadata.version('torch')}-{digest.hexdigest()[:12]}"
    target.parent.mkdir(exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            folder = Path(tempfile.mkdtemp(dir=target.parent))
            try:
                _compile(folder)
                folder.rename(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return target


def _packages(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _compile(folder: Path) -> None:
    nvidia = _packages("nvidia")
    includes = [*sorted(nvidia.glob("*/include")), _packages("triton") / "backends/nvidia/include"]
    (folder / "stubs.c").write_text(_stubs(includes[0] if (includes[0] / "cuda.h").exists() else includes[-1]))
    flags = ["-std=gnu17", "-O1", "-g", "-fPIC", *(f"-I{path}" for path in includes), f"-I{HERE}"]
    sources = [str(HERE / name) for name in SOURCES if name.endswith(".c")]
    library = folder / "libsimulatedgpu.so"
    command = [
        "gcc",
        "-shared",
        *flags,
        *sources,
        str(folder / "stubs.c"),
        "-o",
        str(library),
        "-ldl",
        "-lpthread",
        "-lm",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The simulated GPU could not be built:\n{done.stderr}")
    # by these names Triton and nvidia-ml-py load the driver
    for name in ("libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"):
        (folder / name).symlink_to(library.name)


def _stubs(headers: Path) -> str:
    """A weak function that aborts with its name for everything that torch, Triton and nvidia-ml-py may call and the
    sources do not have."""
    names: set[str] = set()
    for path in sorted((_packages("torch") / "lib").glob("lib*.so")):
        listed = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True)
        symbols = (line.split()[-1] for line in listed.stdout.splitlines())
        names |= {symbol.partition("@")[0] for symbol in symbols if LIBRARIES.search(symbol)}
    cuda = (headers / "cuda.h").read_text()
    names |= set(re.findall(r"CUDAAPI (cu\w+)", cuda)) | set(re.findall(r"#define cu\w+ +(cu\w+_v\d)", cuda))
    spec = importlib.util.find_spec("pynvml")
    assert spec is not None and spec.origin
    names |= set(re.findall(r'_nvmlGetFunctionPointer\("(nvml\w+)"\)', Path(spec.origin).read_text()))
    stub = '__attribute__((weak)) void {0}(void) {{ sim_unwritten("{0}"); }}\n'
    return '#include "simulated.h"\n' + "".join(stub.format(name) for name in sorted(names - REAL))


def environment(folder: Path, **settings: object) -> dict[str, str]:
    """The environment of a Python on the simulated GPU, which keeps its shared memory under ``folder``'s name.

    ``settings`` are those of README.md; ``folder / "control"`` may change them while it runs. The process's own
    environment stays as it is: only what is started with this one is preloaded.
    """
    library = build()
    number = int(hashlib.sha256(str(folder).encode()).hexdigest()[:12], 16)
    # interpreted kernels would not reach the device, and whoever hides real cards means none of these
    hidden = ("TRITON_INTERPRET", "CUDA_VISIBLE_DEVICES")
    variables = {key: value for key, value in os.environ.items() if key not in hidden}
    variables |= {
        "LD_PRELOAD": str(library / "libsimulatedgpu.so"),
        "LD_LIBRARY_PATH": str(library),
        "SIMULATED_GPU_SHM": f"/dev/shm/simulated-gpu-{number:012x}",
        "SIMULATED_GPU_UUID": str(number),
        "SIMULATED_GPU_CONTROL": str(folder / "control"),
    }
    return variables | {f"SIMULATED_GPU_{key.upper()}": str(value) for key, value in settings.items()}


def clean(variables: dict[str, str]) -> None:
    """Remove the shared memory of an `environment` whose processes have ended."""
    prefix = Path(variables["SIMULATED_GPU_SHM"])
    for path in prefix.parent.glob(prefix.name + "-*"):
        path.unlink()
