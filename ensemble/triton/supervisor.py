"""Keeps Triton running: starts it, sees that it is well, starts it again with backoff when it died."""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Literal, TextIO

import httpx
import psutil
import structlog

from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.triton.claims import HomeUnwritable, hold, ports_or_free, require_free
from slipstream.ensemble.triton.log import TritonLog
from slipstream.ensemble.triton.process import (
    LOOPBACK,
    Installation,
    Ports,
    TritonProcess,
    command,
    environment,
    remove_regions_of_the_dead,
)
from slipstream.ensemble.triton.repository import backend_environment, write_repository
from slipstream.settings import Settings

log = structlog.get_logger(__name__)

State = Literal["starting", "ready", "restarting", "stopped", "failed"]

START_TIMEOUT_S = 180.0
HUNG_AFTER_S = 20.0
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STABLE_AFTER_S = 60.0
"""A Triton that was ready this long starts over with the first backoff."""
_POLL_S = 0.1


class Supervisor:
    """One Triton for one bundle. `start` returns at once; `state` tells how it is going.

    A Triton that never became ready is not started again: what it stumbled over will still be there. One that had
    been ready is started again for as long as it takes.

    Attributes:
        failure: what is known of the last end, empty if there was none.
    """

    def __init__(self, bundle: Bundle, settings: Settings, seal: str = "") -> None:
        self._bundle = bundle
        self._seal = seal
        self._settings = settings
        wanted = (settings.triton_http_port, settings.triton_grpc_port, settings.triton_metrics_port)
        self._ports = Ports(*ports_or_free(wanted))
        self._state: State = "stopped"
        self._process: TritonProcess | None = None
        self._stubs: list[psutil.Process] = []
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._lock: TextIO | None = None
        self._log = TritonLog(settings.repository_dir / "triton.log")
        self.failure = ""

    @property
    def state(self) -> State:
        return self._state

    @property
    def grpc_address(self) -> str:
        return f"{LOOPBACK}:{self._ports.grpc}"

    @property
    def http_url(self) -> str:
        return f"http://{LOOPBACK}:{self._ports.http}"

    @property
    def metrics_url(self) -> str:
        return f"http://{LOOPBACK}:{self._ports.metrics}/metrics"

    @property
    def log_path(self) -> Path:
        return self._log.path

    def pids(self) -> list[int]:
        """Triton and its stubs, as far as they live."""
        process = self._process
        if process is None or process.exit_code() is not None:
            return []
        with suppress(psutil.NoSuchProcess):
            return [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        return [process.pid]

    def start(self) -> None:
        """Render the repository and start Triton.

        Raises:
            TritonMissing: it is not installed.
            PortTaken: one of its ports is in use, or two are the same.
            HomeInUse: another server runs on this home.
            HomeUnwritable: the home or its disk takes no files.
        """
        require_free((self._ports.http, self._ports.grpc, self._ports.metrics))
        installation = Installation.find()
        try:
            repository, backends = self._lay_out(installation)
        except OSError as error:
            raise _unwritable(error, self._settings.repository_dir) from error
        prefix = f"slipstream-{os.getpid()}-{self._ports.grpc}-"
        arguments = command(installation, repository, backends, self._ports, prefix)
        env = environment(installation, self._settings, self._seal) | backend_environment(self._bundle)
        self._set_state("starting")
        self._thread = threading.Thread(target=self._run, args=(arguments, env, prefix), name="supervisor", daemon=True)
        self._thread.start()

    def _lay_out(self, installation: Installation) -> tuple[Path, Path]:
        """Claim the home and write what Triton reads there: the repository and the backends."""
        folder = self._settings.repository_dir
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = hold(folder / ".lock")
        remove_regions_of_the_dead()
        repository = write_repository(self._bundle, folder / "models")
        backends = installation.write_backends(folder / "backends")
        self._log.cut()
        return repository, backends

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> bool:
        """Whether it became ready in time; False at once when it failed or was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._state in ("ready", "failed", "stopped"), timeout_s)
            return self._state == "ready"

    def stop(self) -> None:
        """End Triton; when this returns, no child is left."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._lock is not None:
            self._lock.close()
        self._set_state("stopped")

    def _set_state(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _run(self, arguments: Sequence[str], env: dict[str, str], prefix: str) -> None:
        """The thread that spawns Triton: the kernel ties the child's life to it (PR_SET_PDEATHSIG)."""
        backoff_s = FIRST_BACKOFF_S
        while not self._stop.is_set():
            try:
                self._log.begin()
                self._process = TritonProcess(list(arguments), env, self.log_path, prefix)
            except OSError as error:
                self._fail(_unwritable(error, self.log_path).message)
                return
            ready_at = self._watch(self._process)
            # Without a stop it has ended, hangs, or lacks a model: an orderly end would only make the outage longer.
            end = self._process.stop if self._stop.is_set() else self._process.kill
            end()
            self._process = None
            if self._stop.is_set():
                return
            if ready_at is None:
                self._fail(self.failure)
                return
            if monotonic() - ready_at > STABLE_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            log.warning("triton.restarting", reason=self.failure, backoff_s=backoff_s, log=str(self.log_path))
            self._set_state("restarting")
            self._stop.wait(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    def _fail(self, reason: str) -> None:
        self.failure = reason
        log.error("triton.failed", reason=reason, log=str(self.log_path))
        self._set_state("failed")

    def _watch(self, process: TritonProcess) -> float | None:
        """Until it ends, hangs, loses a stub, or is to stop. Returns when it became ready, None if it never did."""
        started = monotonic()
        ready_at: float | None = None
        was_ready_before = self._state == "restarting"
        well_at = started
        while not self._stop.wait(_POLL_S):
            now = monotonic()
            if process.exit_code() is not None:
                self.failure = self._why(f"Triton ended with exit code {process.exit_code()}")
                break
            if ready_at is None:
                if now - started > START_TIMEOUT_S:
                    self.failure = self._why(f"Triton was not ready after {START_TIMEOUT_S:.0f} s")
                    break
                if self._answers():
                    ready_at = well_at = now
                    self._stubs = psutil.Process(process.pid).children(recursive=True)
                    log.info("triton.ready", seconds=round(now - started, 2), grpc=self.grpc_address)
                    self._set_state("ready")
            elif dead := [stub.pid for stub in self._stubs if not _lives(stub)]:
                self.failure = self._why(f"a model's process died (pid {dead[0]})")
                break
            elif now - well_at > HUNG_AFTER_S:
                if not self._answers(timeout_s=HUNG_AFTER_S):
                    self.failure = self._why(f"Triton did not answer for {HUNG_AFTER_S:.0f} s")
                    break
                well_at = monotonic()
        if ready_at is None and was_ready_before:
            return monotonic()
        return ready_at

    def _answers(self, timeout_s: float = 1.0) -> bool:
        try:
            return httpx.get(f"{self.http_url}/v2/health/ready", timeout=timeout_s, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _why(self, event: str) -> str:
        """``event`` with the last error that this start left in Triton's log."""
        told = self._log.last_error()
        return f"{event}: {told}" if told else event


def _unwritable(error: OSError, place: Path) -> HomeUnwritable:
    return HomeUnwritable(
        f"cannot write {error.filename or place}: {error.strerror or error}",
        "make it writable, free some disk space, or serve another home: SLIPSTREAM_HOME=...",
    )


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
