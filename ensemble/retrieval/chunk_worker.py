"""The process that cuts files, started by `chunk_process` as ``python -m``: one file at a time, until its input ends.

A grammar is C that strangers' source drives. What crashes here, or never ends, takes one file with it and no index run.
"""

import faulthandler
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from slipstream.ensemble.retrieval.chunker import Cut, cut_file
from slipstream.ensemble.retrieval.store import Chunk

READY = b"ready"
_LENGTHS = struct.Struct(">II")
_FIELDS = ("path", "language", "symbol", "line_start", "line_end", "text", "repo", "digest", "empty_after")
CPU_S = 150
"""Processor time for one file, more than `chunk_process` waits: the end of a process whose parent was killed."""
_MEMORY_BYTES = 3 << 30
"""Address space: nine files of ten need 50 MB, one of 200,000 lines 400 MB, and the ugliest megabyte tried 1.4 GB."""


def write_frame(stream: BinaryIO, head: bytes, body: bytes = b"") -> None:
    stream.write(_LENGTHS.pack(len(head), len(body)) + head)
    stream.write(body)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes] | None:
    """Head and body; None where the stream ends, be it in the middle."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    head_size, body_size = _LENGTHS.unpack(lengths)
    head, body = stream.read(head_size), stream.read(body_size)
    return (head, body) if len(head) == head_size and len(body) == body_size else None


def packed(cut: Cut) -> tuple[bytes, bytes]:
    rows = [[getattr(chunk, name) for name in _FIELDS] for chunk in cut.chunks]
    return json.dumps(cut.caveats).encode(), json.dumps(rows).encode()


def unpacked(head: bytes, body: bytes) -> Cut:
    rows: Sequence[Sequence[Any]] = json.loads(body)
    return Cut([Chunk(**dict(zip(_FIELDS, row, strict=True))) for row in rows], json.loads(head))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends this by closing its input
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or most > _MEMORY_BYTES:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, most))
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that prints gets between the answers
    write_frame(answers, READY)
    while (request := read_frame(sys.stdin.buffer)) is not None:
        head, data = request
        path, repo = json.loads(head)
        _end_after(CPU_S)
        write_frame(answers, *packed(cut_file(path, data, repo)))


def _end_after(seconds: int) -> None:
    """Have the system end this process when it has used so much more processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = int(used.ru_utime + used.ru_stime) + 1 + seconds
    if most == resource.RLIM_INFINITY or wanted < most:
        resource.setrlimit(resource.RLIMIT_CPU, (wanted, most))


if __name__ == "__main__":
    main()
