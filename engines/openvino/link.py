"""Messages between the runtime and its engine process: one JSON array per line over a socket pair.

============== ================================================================= ===============================
direction      message                                                           meaning
============== ================================================================= ===============================
to the engine  ``["submit", number, prompt_ids, [max_tokens, temperature,        continue this sequence, following
               top_p, seed, ignore_eos], grammar, request_id]``                  the grammar if it is not empty
to the engine  ``["cancel", number]``                                            drop it before the next step
to the engine  ``["prepare", grammars]``                                         first message of all: compile
                                                                                 these before saying ready
to the runtime ``["ready"]`` or ``["broken", why]``                              the engine was loaded, or cannot
to the runtime ``["deltas", [[number, token_ids, finish_reason, error], ...],    what the steps since the last
               steps, cache_usage_ratio, proposed, accepted, step_ns, [[number,  such message brought: by the one
               taken_ns], ...]]``                                                that ended last, if any brought it
============== ================================================================= ===============================

Times are those of `profiling.spans.now_ns`; ``step_ns`` is 0 where no step brought the deltas.
``number`` names a generation on this link and is never used twice. The end of the stream means: stop.
"""

import json
import socket
import threading
from typing import Any

Message = list[Any]

_RECEIVE_BYTES = 1 << 18


class Link:
    """One end. Sending is safe from any thread; receiving belongs to one."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()
        self._partial = b""

    def send(self, message: Message) -> None:
        """Send ``message`` whole.

        Raises:
            OSError: the other end is gone.
        """
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._sending:
            self._socket.sendall(line)

    def receive(self, *, wait: bool = True) -> list[Message] | None:
        """The messages that have arrived, at least one if ``wait``; None when the other end is gone."""
        while True:
            try:
                block = self._socket.recv(_RECEIVE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return []
            except OSError:
                return None
            if not block:
                return None
            *lines, self._partial = (self._partial + block).split(b"\n")
            if lines or not wait:
                return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Tell the other end to stop; a `receive` that waits here returns None once that has happened."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it is gone already

    def release(self) -> None:
        self._socket.close()
