"""A `llama-server` process, started as its own users would start it."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Self

from slipstream import EnvironmentFault

_LOAD_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_LAST_CHARACTERS = 2000


class PeerNotReady(EnvironmentFault):
    """`llama-server` ended, or did not load its model in time; its own last words are in the message."""


def without_threading_rules(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without what tells OpenMP how to wait and where to run.

    ``OMP_WAIT_POLICY=PASSIVE``, good for many processes on few cores, puts the peer's threads to sleep at each of the
    hundreds of barriers of a token: 46 tokens/s where it has 146.
    """
    return {name: value for name, value in environment.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}


class LlamaServer(AbstractContextManager["LlamaServer"]):
    """Serves ``gguf`` on a free port of 127.0.0.1 while the context lasts.

    Attributes:
        command: what was run.
        url: where it answers; ready when the constructor returns.

    Args:
        slots: answers at once, each with a context of ``context_tokens``.
        flags: besides those that make servers comparable; none are its defaults.
        log: what it says goes there.

    Raises:
        PeerNotReady: see there.
    """

    def __init__(
        self,
        program: Path,
        gguf: Path,
        log: Path,
        *,
        threads: int,
        slots: int,
        context_tokens: int,
        flags: Sequence[str] = (),
    ) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.command = (
            *(str(program), "--model", str(gguf), "--host", "127.0.0.1", "--port", str(port), "--offline"),
            *("--threads", str(threads), "--parallel", str(slots), "--ctx-size", str(slots * context_tokens), *flags),
        )
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                self.command, stdout=output, stderr=output, text=True, env=without_threading_rules(os.environ)
            )
        self.pid = self._process.pid
        try:
            self._wait(log)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, log: Path) -> None:
        import httpx

        deadline = time.monotonic() + _LOAD_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == 200:  # 503 while it loads
                    return
            time.sleep(0.1)
        said = log.read_text(encoding="utf-8", errors="replace")[-_LAST_CHARACTERS:]
        raise PeerNotReady(f"llama-server does not get ready:\n{said}", f"see {log}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


__all__ = ["LlamaServer", "PeerNotReady", "without_threading_rules"]
