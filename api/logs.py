"""Where the server's events go: JSON lines on stderr, or aligned text on a terminal."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


class _Stderr:
    """stderr as it is at the moment of writing: a live progress line puts itself in its place.

    Events can be held back while something else has the terminal.
    """

    def __init__(self) -> None:
        self._held: list[str] | None = None

    def write(self, text: str) -> None:
        if self._held is None:
            sys.stderr.write(text)
        else:
            self._held.append(text)

    def flush(self) -> None:
        if self._held is None:
            sys.stderr.flush()

    @contextmanager
    def holding(self) -> Iterator[None]:
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.write("".join(held))
            self.flush()


_STDERR = _Stderr()
hold_events = _STDERR.holding
"""A context in which events wait, so that they do not land in the middle of an answer on the same terminal."""


def configure_logging() -> None:
    """Set up structlog and the logging of libraries (warnings only) for a server process.

    Tracebacks never show values of variables, which may be a user's question.
    """
    on_terminal = sys.stderr.isatty()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal),
    ]
    if on_terminal:
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(_STDERR),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
