"""Reading ``ncu --csv --page raw``: one row for each kernel launch, one column for each metric.

The options are those of Nsight Compute's manual ("CLI", 2022.3), the layout that of samples which parsers of it keep in
public repositories (the tests of kernelgym and of kernelagent). Lines that begin with ``==``, and what the program
itself prints, come before, among and after the table. The header is the line that begins with ``"ID"``. The row under
it has the units, and is empty where a column is no metric. Every cell is quoted, numbers carry separators of thousands,
and ``n/a`` stands where a metric could not be had. The window's own export writes the unit into the header instead:
``dram__bytes.sum [Mbyte]``.
"""

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from slipstream.profiling.ncu.faults import ReportUnreadable, explained, nothing_captured
from slipstream.profiling.ncu.units import unit_of

EXPORT = "ncu --import REPORT.ncu-rep --csv --page raw > REPORT.csv"
_HEADER = ('"ID",', "ID,")
_BARE_ROW = re.compile(r"^\d*,")
_WITH_UNIT = re.compile(r"^(?P<name>\S+) \[(?P<unit>[^\]]*)\]$")


@dataclass(frozen=True)
class Value:
    """A metric of one launch, in the base of its unit."""

    amount: float
    unit: str


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel. ``metrics`` has only what the tool could measure."""

    kernel: str
    process: str
    device: str
    metrics: Mapping[str, Value]


def read_launches(text: str) -> tuple[Launch, ...]:
    """Every launch of a report, of all its processes, in order.

    Raises:
        ReportUnreadable: it is empty, cut off, or another page of the report.
        CountersForbidden, ToolFailed, NothingCaptured: it holds no table, and the tool says why.
    """
    numbered = list(enumerate(text.splitlines(), 1))
    at = next((place for place, (_, line) in enumerate(numbered) if line.startswith(_HEADER)), None)
    if at is None:
        raise explained(text) or ReportUnreadable(_no_table(text), f"export it again: {EXPORT}")
    names = _cells(numbered[at][1])
    _refuse_another_page(names)
    is_quoted = numbered[at][1].startswith('"')
    rows = [(number, _cells(line)) for number, line in numbered[at + 1 :] if _is_row(line, is_quoted=is_quoted)]
    metrics, units, rows = _with_units(names, rows)
    launches = tuple(_launches(names, metrics, units, rows))
    if not launches:
        raise explained(text) or nothing_captured()
    return launches


def _is_row(line: str, *, is_quoted: bool) -> bool:
    """Whether it is not what the tool and the program printed meanwhile."""
    return line.startswith('"') if is_quoted else _BARE_ROW.match(line) is not None


def _no_table(text: str) -> str:
    return "the report is empty" if not text.strip() else "the report holds no table of kernels"


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]))


def _refuse_another_page(names: Sequence[str]) -> None:
    missing = [name for name in ("ID", "Kernel Name") if name not in names]
    if missing or "Metric Name" in names:
        what = f"it has no column {missing[0]!r}" if missing else "it is the page of details"
        raise ReportUnreadable(f"that is no page of raw values: {what}", f"export it again: {EXPORT}")


_Rows = list[tuple[int, list[str]]]


def _with_units(names: Sequence[str], rows: _Rows) -> tuple[list[str], list[str], _Rows]:
    """Metrics' names, their units, and the rows that are launches."""
    if rows and not rows[0][1][0].strip():
        return list(names), _whole(rows[0], len(names)), [row for row in rows[1:] if row[1][0].strip()]
    found = [_WITH_UNIT.match(name) for name in names]
    if any(found):
        return (
            [match["name"] if match else name for match, name in zip(found, names, strict=True)],
            [match["unit"] if match else "" for match in found],
            rows,
        )
    if rows:
        raise ReportUnreadable("the report lacks the row of units", f"export it again, whole: {EXPORT}")
    return list(names), [""] * len(names), rows


def _launches(names: Sequence[str], metrics: Sequence[str], units: Sequence[str], rows: _Rows) -> Iterator[Launch]:
    scales = [unit_of(unit) for unit in units]
    places = [(place, name, scales[place]) for place, name in enumerate(metrics) if "__" in name]
    where = {name: names.index(name) for name in ("Kernel Name", "Process ID", "Device") if name in names}
    for row in rows:
        cells = _whole(row, len(names))
        read = {name: (_number(cells[place]), scale) for place, name, scale in places}
        values = {
            name: Value(amount * scale.factor, scale.base)
            for name, (amount, scale) in read.items()
            if amount is not None
        }
        yield Launch(
            kernel=cells[where["Kernel Name"]],
            process=cells[where["Process ID"]] if "Process ID" in where else "",
            device=cells[where["Device"]] if "Device" in where else "",
            metrics=values,
        )


def _whole(row: tuple[int, list[str]], columns: int) -> list[str]:
    number, cells = row
    if len(cells) != columns:
        raise ReportUnreadable(
            f"line {number} has {len(cells)} of {columns} columns: the report is cut off", f"export it again: {EXPORT}"
        )
    return cells


def _number(cell: str) -> float | None:
    """The value of a cell; None for ``n/a``, texts and what is no finite number."""
    try:
        amount = float(cell.replace(",", ""))
    except ValueError:
        return None
    return amount if math.isfinite(amount) else None


__all__ = ["EXPORT", "Launch", "Value", "read_launches"]
