"""`llama-server`, built here from the llama.cpp sources that `llama-cpp-python`'s source package carries.

Nothing is fetched but that one archive from the package index, at the version and digest below. Compiled for this very
CPU, with OpenMP where the compiler has it, without what a load does not ask for (web interface, TLS).
"""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from slipstream import EnvironmentFault

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"

_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "GGML_NATIVE": "ON",
    "GGML_OPENMP": "ON",
    "GGML_CCACHE": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


class PeerNotBuilt(EnvironmentFault):
    """`llama-server` could not be fetched or compiled."""


def llama_server(cache: Path) -> Path:
    """The program, compiled below ``cache`` unless it is there already (minutes on two cores).

    Raises:
        PeerNotBuilt: no compiler, no CMake, no network, or a build that failed.
    """
    home = cache / f"llama-cpp-python-{VERSION}"
    program = home / "llama-server"
    if not program.is_file():
        tools = _tools()
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache, prefix=".aside-") as name:
            aside = Path(name)
            sources = _unpack(_download(aside), aside)
            built = _compile(sources, aside / "build", tools)
            home.mkdir(exist_ok=True)
            built.replace(program)
    return program


def _tools() -> dict[str, str]:
    """Paths of what compiles, by name; those of this environment before the system's.

    Raises:
        PeerNotBuilt: one is missing.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = {name: shutil.which(name, path=path) for name in ("cmake", "ninja", "cc", "c++")}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        raise PeerNotBuilt(
            f"llama-server cannot be compiled here: no {' and no '.join(missing)}",
            "pip install cmake ninja, and a C++ compiler (Debian: apt-get install g++)",
        )
    return {name: where for name, where in found.items() if where is not None}


def _download(aside: Path) -> Path:
    pin = aside / "requirements.txt"
    pin.write_text(f"llama-cpp-python=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    _run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
         "--no-binary", "llama-cpp-python", "--require-hashes", "--dest", str(aside), "--requirement", str(pin)],
        "check the network and pip's index settings",
    )  # fmt: skip
    return next(aside.glob("*.tar.gz"))


def _unpack(archive: Path, aside: Path) -> Path:
    with tarfile.open(archive) as file:
        file.extractall(aside, filter="data")
    return next(aside.glob("*/vendor/llama.cpp"))


def _compile(sources: Path, out: Path, tools: dict[str, str]) -> Path:
    remedy = "read the compiler's message; the pinned version wants C++17 (GCC 9 or newer)"
    options = [f"-D{name}={value}" for name, value in _OPTIONS.items()]
    compilers = [f"-DCMAKE_C_COMPILER={tools['cc']}", f"-DCMAKE_CXX_COMPILER={tools['c++']}"]
    make = f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}"
    _run([tools["cmake"], "-S", str(sources), "-B", str(out), "-G", "Ninja", make, *compilers, *options], remedy)
    _run([tools["cmake"], "--build", str(out), "--target", "llama-server"], remedy)
    return out / "bin" / "llama-server"


def _run(command: list[str], remedy: str) -> None:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        said = (finished.stdout + finished.stderr).strip().splitlines()[-12:]
        raise PeerNotBuilt(f"{Path(command[0]).name} {command[1]} failed:\n" + "\n".join(said), remedy)
