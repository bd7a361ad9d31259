"""Small exports with the tables of the real schema (nsys 2022.4, schema 3.0), as far as they are read."""

import sqlite3
from pathlib import Path

from slipstream.profiling.nsys.export import BEGUN, DOMAIN_MADE, PUSHED

_MACHINE = 1 << 48
_SCHEMA = {
    "StringIds": "id INTEGER PRIMARY KEY, value TEXT NOT NULL",
    "EXPORT_META_DATA": "name TEXT NOT NULL, value TEXT",
    "ANALYSIS_DETAILS": "globalVid INTEGER, duration INTEGER, startTime INTEGER, stopTime INTEGER",
    "NVTX_EVENTS": "start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, text TEXT, "
    "globalTid INTEGER, endGlobalTid INTEGER, textId INTEGER, domainId INTEGER, uint64Value INTEGER, "
    "int64Value INTEGER, doubleValue REAL, uint32Value INTEGER, int32Value INTEGER",
    "OSRT_API": "start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER, nameId INTEGER, "
    "returnValue INTEGER, nestingLevel INTEGER, callchainId INTEGER",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INTEGER, end INTEGER, globalTid INTEGER, correlationId INTEGER, "
    "nameId INTEGER",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start INTEGER, end INTEGER, deviceId INTEGER, streamId INTEGER, "
    "correlationId INTEGER, globalPid INTEGER, demangledName INTEGER, shortName INTEGER",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": "start INTEGER, end INTEGER, deviceId INTEGER, graphId INTEGER, "
    "graphExecId INTEGER, contextId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start INTEGER, end INTEGER, deviceId INTEGER, correlationId INTEGER, "
    "globalPid INTEGER, bytes INTEGER, copyKind INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMSET": "start INTEGER, end INTEGER, deviceId INTEGER, correlationId INTEGER, "
    "globalPid INTEGER, value INTEGER, bytes INTEGER",
}


class Made:
    """An export in the making; moments are microseconds. A table is made with its first row, as nsys does."""

    def __init__(self, path: Path, *, domain: str = "slipstream", processes: tuple[int, ...] = (1,)) -> None:
        self.path = path
        self.rows = sqlite3.connect(path, isolation_level=None)
        self.rows.execute("PRAGMA synchronous = OFF")
        self.rows.execute("PRAGMA journal_mode = OFF")
        self._tables: set[str] = set()
        self._strings: dict[str, int] = {}
        self._text("")
        for name, value in (("EXPORT_PRODUCT_VERSION", "2022.4.2.1"), ("EXPORT_SCHEMA_VERSION", "3.0.0")):
            self._put("EXPORT_META_DATA", name=name, value=value)
        self._put("ANALYSIS_DETAILS", globalVid=_MACHINE, duration=10**9, startTime=0, stopTime=10**9)
        for process in processes:
            self.domain(domain, process, number=1)

    def domain(self, name: str, process: int, number: int) -> None:
        self._put("NVTX_EVENTS", start=-5, eventType=DOMAIN_MADE, text=name, globalTid=tid(process, 1), domainId=number)

    def pushed(
        self, stage: str, start: float, end: float | None, *, process: int = 1, thread: int = 1,
        payload: int | None = None, domain: int = 1,
    ) -> None:  # fmt: skip
        self._range(PUSHED, stage, start, end, tid(process, thread), payload, domain)

    def begun(
        self, stage: str, start: float, end: float | None, *, process: int = 1, thread: int = 1,
        payload: int | None = None, domain: int = 1,
    ) -> None:  # fmt: skip
        self._range(BEGUN, stage, start, end, tid(process, thread), payload, domain)

    def call(
        self, function: str, start: float, end: float, *, process: int = 1, thread: int = 1, nesting: int | None = None
    ) -> None:
        self._put(
            "OSRT_API", start=ns(start), end=ns(end), globalTid=tid(process, thread), nameId=self._text(function),
            nestingLevel=nesting,
        )  # fmt: skip

    def launch(self, number: int, at: float, *, process: int = 1, thread: int = 1) -> None:
        self._put(
            "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=ns(at),
            end=ns(at + 1),
            globalTid=tid(process, thread),
            correlationId=number,
        )

    def kernel(self, name: str, number: int, start: float, end: float, *, process: int = 1) -> None:
        self._put(
            "CUPTI_ACTIVITY_KIND_KERNEL", start=ns(start), end=ns(end), correlationId=number, globalPid=tid(process, 0),
            shortName=self._text(name),
        )  # fmt: skip

    def graph(self, graph: int, number: int, start: float, end: float, *, process: int = 1) -> None:
        self._put(
            "CUPTI_ACTIVITY_KIND_GRAPH_TRACE", start=ns(start), end=ns(end), correlationId=number,
            globalPid=tid(process, 0), graphId=graph,
        )  # fmt: skip

    def copy(self, kind: int, number: int, start: float, end: float, size: int, *, process: int = 1) -> None:
        self._put(
            "CUPTI_ACTIVITY_KIND_MEMCPY", start=ns(start), end=ns(end), correlationId=number, globalPid=tid(process, 0),
            bytes=size, copyKind=kind,
        )  # fmt: skip

    def cleared(self, number: int, start: float, end: float, size: int) -> None:
        self._put(
            "CUPTI_ACTIVITY_KIND_MEMSET",
            start=ns(start),
            end=ns(end),
            correlationId=number,
            globalPid=tid(1, 0),
            bytes=size,
        )

    def request(self, payload: int, start: float, *, embed: float = 10, decode: float = 100) -> None:
        """One from `start` on: queue 5, embed, prefill 20, decode, with streaming beside it to 3 after its end."""
        at = start
        self.begun("queue", at, at + 5, payload=payload)
        self.pushed("embed", at + 5, at + 5 + embed, process=1, thread=payload, payload=payload)
        at += 5 + embed
        self.begun("prefill", at, at + 20, payload=payload)
        self.begun("decode", at + 20, at + 20 + decode, payload=payload)
        self.begun("stream", at + 19, at + 23 + decode, payload=payload)

    def _range(
        self, kind: int, stage: str, start: float, end: float | None, thread: int, payload: int | None, domain: int
    ) -> None:
        self._put(
            "NVTX_EVENTS", start=ns(start), end=None if end is None else ns(end), eventType=kind,
            textId=self._text(stage), globalTid=thread, domainId=domain, int64Value=payload,
        )  # fmt: skip

    def _text(self, value: str) -> int:
        if value not in self._strings:
            self._strings[value] = len(self._strings)
            self._put("StringIds", id=self._strings[value], value=value)
        return self._strings[value]

    def _put(self, table: str, **row: object) -> None:
        if table not in self._tables:
            self._tables.add(table)
            self.rows.execute(f"CREATE TABLE {table} ({_SCHEMA[table]})")
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        self.rows.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608


def tid(process: int, thread: int) -> int:
    """A number of a thread as nsys serializes it; thread 0 stands for the process."""
    return _MACHINE | process << 24 | thread


def ns(microseconds: float) -> int:
    return round(microseconds * 1000)
