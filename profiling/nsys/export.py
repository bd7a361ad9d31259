"""An SQLite export of Nsight Systems, opened: its shape checked, our ranges in a table of their own.

Names of tables and columns are those of NVIDIA's export schema 2 and 3. The export itself is only read; what is made of
it lies in temporary tables on disk, so a capture of any size needs little memory: about 100 bytes of disk for each
range and each call in one.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipstream import EnvironmentFault, InputError
from slipstream.profiling.spans import DOMAIN

PUSHED, BEGUN, DOMAIN_MADE = 59, 60, 75
"""NvtxPushPopRange, NvtxStartEndRange and NvtxDomainCreate of ENUM_NSYS_EVENT_TYPE."""

_NEEDED = {
    "NVTX_EVENTS": {
        "start", "end", "eventType", "text", "textId", "globalTid", "domainId",
        "int64Value", "uint64Value", "int32Value", "uint32Value",
    },
    "OSRT_API": {"start", "end", "globalTid", "nameId"},
    "CUPTI_ACTIVITY_KIND_RUNTIME": {"start", "globalTid", "correlationId"},
    "CUPTI_ACTIVITY_KIND_KERNEL": {"start", "end", "globalPid", "correlationId", "shortName"},
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": {"start", "end", "globalPid", "correlationId", "graphId"},
    "CUPTI_ACTIVITY_KIND_MEMCPY": {"start", "end", "globalPid", "correlationId", "bytes", "copyKind"},
    "CUPTI_ACTIVITY_KIND_MEMSET": {"start", "end", "globalPid", "correlationId", "bytes"},
}  # fmt: skip


class NoExport(InputError):
    """A file is no SQLite export of Nsight Systems."""


class SchemaUnknown(InputError):
    """An export has another shape than what this can read."""


class NoRanges(EnvironmentFault):
    """A capture holds no range of ours."""


class Export:
    """One, while it is open."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.rows = connection
        self.path = path
        self.tables = {str(name): self._columns(str(name)) for (name,) in connection.execute(_TABLES).fetchall()}
        if "StringIds" not in self.tables:
            raise NoExport(f"{path} is no export of Nsight Systems: it has no table StringIds", _GIVE)
        self.facts = self._facts()
        self._check()

    @property
    def nsys(self) -> str:
        """The version that exported it."""
        return self.facts.get("EXPORT_PRODUCT_VERSION", "unknown")

    @property
    def schema(self) -> str:
        return self.facts.get("EXPORT_SCHEMA_VERSION", "unknown")

    def has(self, *names: str) -> bool:
        """Whether there are tables of these names; an export leaves out those without rows."""
        return all(name in self.tables for name in names)

    def one(self, sql: str, *values: object) -> tuple[Any, ...]:
        """The only row of a query."""
        row: tuple[Any, ...] = self.rows.execute(sql, values).fetchone()
        return row

    def _columns(self, table: str) -> set[str]:
        return {str(name) for (name,) in self.rows.execute("SELECT name FROM pragma_table_info(?)", (table,))}

    def _facts(self) -> dict[str, str]:
        named = next((name for name in ("EXPORT_META_DATA", "META_DATA_EXPORT") if name in self.tables), None)
        if named is None:
            return {}
        return {str(name): str(value) for name, value in self.rows.execute(f"SELECT name, value FROM {named}")}  # noqa: S608

    def _check(self) -> None:
        for table, needed in _NEEDED.items():
            missing = sorted(needed - self.tables[table]) if table in self.tables else []
            if missing:
                raise SchemaUnknown(
                    f"{self.path}: {table} has no column {', '.join(missing)}; it was exported by nsys {self.nsys} "
                    f"with schema {self.schema}, and schemas 2 and 3 are known",
                    "export it with another version: nsys export --type sqlite REPORT.nsys-rep",
                )


_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
_GIVE = "give what nsys export --type sqlite wrote, or a report (.nsys-rep)"


@contextmanager
def opened(path: Path) -> Iterator[Export]:
    """The export at ``path``, with our ranges in the table ``span`` and an index for each way to ask it.

    ``span``: id, stage, start, end (ns since the capture began; NULL: still open), is_pushed, thread, process, payload.

    Raises:
        NoExport, SchemaUnknown, NoRanges: see there.
    """
    if not path.is_file():
        raise NoExport(f"there is no {path}", _GIVE)
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise NoExport(f"{path} cannot be opened: {error}", _GIVE) from error
    try:
        export = Export(connection, path)
        _gather(export)
        yield export
    except sqlite3.DatabaseError as error:
        raise NoExport(f"{path} cannot be read: {error}", _GIVE) from error
    finally:
        connection.close()


def _gather(export: Export) -> None:
    if not export.has("NVTX_EVENTS"):
        raise _none(export, is_known=False)
    export.rows.executescript("PRAGMA temp_store = FILE;" + _SPANS)
    if export.one("SELECT count(*) FROM span") == (0,):
        raise _none(export, is_known=export.one("SELECT count(*) FROM domain") != (0,))
    export.rows.executescript(_INDICES)


# A domain has its number within its process; a process is what a thread's number says above its lowest 24 bits.
_SPANS = f"""
CREATE TEMP TABLE domain AS
SELECT DISTINCT made.globalTid >> 24 AS process, made.domainId AS id
FROM NVTX_EVENTS AS made LEFT JOIN StringIds AS named ON named.id = made.textId
WHERE made.eventType = {DOMAIN_MADE} AND coalesce(made.text, named.value) = '{DOMAIN}';

CREATE TEMP TABLE span AS
SELECT event.rowid AS id, coalesce(event.text, named.value, '') AS stage, event.start AS start, event.end AS end,
    event.eventType = {PUSHED} AS is_pushed, event.globalTid AS thread, event.globalTid >> 24 AS process,
    coalesce(event.int64Value, event.uint64Value, event.int32Value, event.uint32Value) AS payload
FROM NVTX_EVENTS AS event
JOIN domain ON domain.process = event.globalTid >> 24 AND domain.id = event.domainId
LEFT JOIN StringIds AS named ON named.id = event.textId
WHERE event.eventType IN ({PUSHED}, {BEGUN});
"""  # noqa: S608
_INDICES = """
CREATE INDEX temp.span_stage ON span (stage);
CREATE INDEX temp.span_thread ON span (thread, start) WHERE is_pushed;
CREATE INDEX temp.span_payload ON span (payload, start);
"""


def _none(export: Export, *, is_known: bool) -> NoRanges:
    if is_known:
        return NoRanges(
            f"the capture knows the domain {DOMAIN!r} and holds none of its ranges: nsys {export.nsys} did not hear "
            "what the server pushed with its version of NVTX, or nothing was asked meanwhile",
            "ask the server meanwhile, or take another version of nsys or of the Python package nvtx",
        )
    return NoRanges(
        f"the capture holds nothing of the domain {DOMAIN!r}: the server marked no stage for nsys {export.nsys}",
        "see that nvtx is installed beside the server (pip install 'slipstream[serve]') and SLIPSTREAM_SPANS is not 0",
    )


__all__ = ["BEGUN", "DOMAIN_MADE", "PUSHED", "Export", "NoExport", "NoRanges", "SchemaUnknown", "opened"]
