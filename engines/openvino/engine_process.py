"""The engine process as its parent sees it: started, spoken to, stopped."""

import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic

from slipstream import EnvironmentFault
from slipstream.engines.openvino.link import Link, Message
from slipstream.engines.openvino.speculation import as_words
from slipstream.engines.protocols import RuntimeOptions

# A step is over in well under a second; a process that does not stop within this is stuck.
_STOP_TIMEOUT_S = 10.0
# Shorter than the patience of `ensemble.triton.supervisor` with Triton, so that the engine is what gets named.
LOAD_TIMEOUT_S = 150.0


class EngineNotLoaded(EnvironmentFault):
    """The engine process ended before it had loaded the engine."""


class EngineProcess:
    """A running `slipstream.engines.openvino.worker`. It ends when this end of the link does, however that happens.

    Raises:
        EngineNotLoaded: with what the process said.
    """

    def __init__(self, engine_dir: Path, options: RuntimeOptions) -> None:
        ours, theirs = socket.socketpair()
        command = [
            *(_interpreter(), "-m", "slipstream.engines.openvino.worker", str(engine_dir)),
            *("--socket", str(theirs.fileno())),
            *("--slots", str(options.max_concurrency), "--kv-cache-bytes", str(options.kv_cache_bytes)),
            *(() if options.threads is None else ("--threads", str(options.threads))),
            *(() if options.tokenizer is None else ("--tokenizer", str(options.tokenizer))),
            *(() if options.speculation is None else ("--speculation", as_words(options.speculation))),
            *(("--batch-invariant",) if options.batch_invariant else ()),
        ]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=sys.stderr
            )
        self._link = Link(ours)
        self._why = ""
        self.ready = False
        started = monotonic()
        ours.settimeout(LOAD_TIMEOUT_S)
        self.send(["prepare", options.grammars])
        first = self.receive()
        ours.settimeout(None)
        if first != [["ready"]]:
            if first is None and monotonic() - started >= LOAD_TIMEOUT_S:
                self._process.kill()
                self._why = f"it was not ready after {LOAD_TIMEOUT_S:.0f} s (the log tells where it stood)"
            raise EngineNotLoaded(f"{engine_dir} does not load: {self.wait()}", "slipstream build RECIPE")
        self.ready = True

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send ``message``; to a process that is gone, nothing is sent, and `receive` tells."""
        try:
            self._link.send(message)
        except OSError:
            self.ready = False

    def receive(self) -> list[Message] | None:
        """The next messages; None once the process has ended."""
        messages = self._link.receive()
        for message in messages or ():
            if message[0] == "broken":
                self._why = message[1]
        if messages is None:
            self.ready = False
        return messages

    def wait(self) -> str:
        """Wait for the end and say how it came."""
        try:
            code = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._link.release()
        return self._why or (f"exit code {code}" if code >= 0 else signal.Signals(-code).name)

    def stop(self) -> None:
        """Ask for the end; `receive` returns None when it has come."""
        self.ready = False
        self._link.close()


def _interpreter() -> str:
    """The Python of this environment. Inside Triton ``sys.executable`` can name the program that embeds Python."""
    beside = Path(sys.prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(beside) if beside.is_file() else sys.executable
