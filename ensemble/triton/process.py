"""The `tritonserver` process: where its parts are, how it is started, and that nothing of it survives.

The binary comes from the wheel `nvidia-pytriton`. Its Python backend looks for one stub in the backend's folder, so a
folder of links is laid out with the stub of the running Python. Every address is bound to 127.0.0.1: this version of
Triton has published holes and is never the network face.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import psutil

from slipstream import EnvironmentFault
from slipstream.ensemble.signing.trust import SEAL
from slipstream.settings import Settings

LOOPBACK = "127.0.0.1"
EXIT_TIMEOUT_S = 5
_KILL_AFTER_S = 3.0


class TritonMissing(EnvironmentFault):
    """The wheel that carries Triton is not installed, or not for this Python."""


@dataclass(frozen=True, slots=True)
class Ports:
    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True, slots=True)
class Installation:
    """The parts of the wheel that a start needs."""

    binary: Path
    python_backend: Path
    stub: Path
    libraries: Path

    @classmethod
    def find(cls) -> "Installation":
        """Locate Triton in this environment.

        Raises:
            TritonMissing: with the command that installs it.
        """
        spec = find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise TritonMissing("Triton is not installed", "pip install 'slipstream[serve]'")
        package = Path(spec.origin).parent
        root = package / "tritonserver"
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        found = cls(
            binary=root / "bin" / "tritonserver",
            python_backend=root / "backends" / "python",
            stub=root / "python_backend_stubs" / version / "triton_python_backend_stub",
            libraries=package.parent / "nvidia_pytriton.libs",
        )
        for part in (found.binary, found.python_backend, found.stub, found.libraries):
            if not part.exists():
                raise TritonMissing(
                    f"Triton lacks {part}",
                    "use Python 3.11 on x86-64, and pip install --force-reinstall nvidia-pytriton",
                )
        return found

    def write_backends(self, folder: Path) -> Path:
        """Lay out the backend directory in ``folder`` and return it."""
        shutil.rmtree(folder, ignore_errors=True)
        python = folder / "python"
        python.mkdir(parents=True)
        for part in (*self.python_backend.iterdir(), self.stub):
            if part.is_file():
                (python / part.name).symlink_to(part)
        return folder


def command(installation: Installation, repository: Path, backends: Path, ports: Ports, shm_prefix: str) -> list[str]:
    """The command line. `setpriv` has the kernel kill Triton when this process dies, even by SIGKILL."""
    tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [
        *tied,
        str(installation.binary),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        f"--http-address={LOOPBACK}",
        f"--http-port={ports.http}",
        "--http-thread-count=2",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={LOOPBACK}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        "--allow-cpu-metrics=false",
        "--disable-auto-complete-config",
        "--exit-on-error=true",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
    ]


def environment(installation: Installation, settings: Settings, seal: str = "") -> dict[str, str]:
    """What Triton and its stubs see: this Python's packages, the settings in force, and the seal of the bundle.

    The stub embeds Python and finds the packages through the first ``python3`` on ``PATH``; secrets travel here and
    never in a file or on a command line.
    """
    env = dict(os.environ)
    libraries = [str(installation.libraries)]
    library_dir = sysconfig.get_config_var("LIBDIR")
    if library_dir and (Path(library_dir) / f"libpython{sysconfig.get_python_version()}.so.1.0").exists():
        libraries.append(library_dir)
    env["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, *filter(None, [env.get("LD_LIBRARY_PATH")])])
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    env["SLIPSTREAM_HOME"] = str(settings.root)
    env["SLIPSTREAM_COLLECTION"] = settings.collection
    env["SLIPSTREAM_VERIFY_KEY"] = str(settings.verify_key.expanduser().absolute()) if settings.verify_key else ""
    env["SLIPSTREAM_REQUIRE_SIGNATURE"] = str(settings.require_signature)
    env[SEAL] = seal
    env.pop("SLIPSTREAM_KEY_PASSWORD", None)
    _set(env, "QDRANT_URL", settings.qdrant_url)
    _set(env, "QDRANT_API_KEY", settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key else None)
    return env


def _set(env: dict[str, str], name: str, value: str | None) -> None:
    """``name`` alone decides: the prefixed alias that may also be set is taken out."""
    env.pop(f"SLIPSTREAM_{name}", None)
    env.pop(name, None)
    if value:
        env[name] = value


class TritonProcess:
    """A started Triton with its stubs, in a session of their own, logging to ``log``."""

    def __init__(self, arguments: list[str], env: Mapping[str, str], log: Path, shm_prefix: str) -> None:
        self._shm_prefix = shm_prefix
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.poll()

    def stop(self) -> None:
        """End it in order if it runs, then make sure that nothing of its session is left."""
        if self.exit_code() is None:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(EXIT_TIMEOUT_S + _KILL_AFTER_S)
        self.kill()

    def kill(self) -> None:
        """Kill the whole session and remove its shared memory."""
        deadline = monotonic() + _KILL_AFTER_S
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
            while _has_living(self.pid) and monotonic() < deadline:
                sleep(0.02)
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        for region in Path("/dev/shm").glob(f"{self._shm_prefix}*"):  # noqa: S108  Triton's own place
            region.unlink(missing_ok=True)


def _has_living(group: int) -> bool:
    """Whether anything runs in a process group. What has ended does not count: an orphan stays in its group until init
    reaps it, and for ever in a container without one."""
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def remove_regions_of_the_dead() -> None:
    """Free shared memory of servers that were killed: a region is named after the process that asked for it."""
    for region in Path("/dev/shm").glob("slipstream-*-*"):  # noqa: S108  Triton's own place
        owner = region.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            region.unlink(missing_ok=True)
