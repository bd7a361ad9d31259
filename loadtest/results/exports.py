"""A result for other programs: JSON, JUnit XML for what runs the test, CSV with one row per request."""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import TextIO
from xml.etree import ElementTree as ET

import numpy as np

from slipstream.loadtest.results.checks import Check
from slipstream.loadtest.results.columns import Columns
from slipstream.loadtest.results.slos import SloResult, good_requests
from slipstream.loadtest.results.verdict import Result
from slipstream.loadtest.sample import NOT_COUNTED, Sample
from slipstream.loadtest.scenario import Scenario
from slipstream.loadtest.statistics.order import Floats

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_json(result: Result) -> str:
    """`Result.as_dict` as text, ended by a newline."""
    return json.dumps(result.as_dict(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def to_junit(result: Result) -> str:
    """One test case per SLO and per check.

    FAIL is a failure, INCONCLUSIVE and what could not be checked are skipped, a check that makes the run void is an
    error. In a void run an SLO is skipped, whatever was counted. Warnings are in ``system-out``: JUnit knows none.
    """
    cases = [_slo_case(result, slo) for slo in result.slos] + [_check_case(result, check) for check in result.checks]
    counts = {
        f"{kind}s" if kind != "skipped" else kind: _having(cases, kind) for kind in ("failure", "error", "skipped")
    }
    totals = {"tests": str(len(cases)), **{name: str(number) for name, number in counts.items()}}
    root = ET.Element("testsuites", {"name": "slipstream loadtest", **totals})
    suite = ET.SubElement(root, "testsuite", {"name": _xml(result.scenario), **totals})
    suite.extend(cases)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _having(cases: Iterable[ET.Element], kind: str) -> int:
    return sum(case.find(kind) is not None for case in cases)


def _slo_case(result: Result, slo: SloResult) -> ET.Element:
    case = _case(result, "slo", f"{slo.label} ({slo.slo.since})" if slo.slo.metric in ("ttft", "e2e") else slo.label)
    if result.verdict == "VOID":
        _note(case, "skipped", f"the run is void; {slo.sentence}")
    elif slo.verdict == "FAIL":
        _note(case, "failure", slo.sentence)
    elif slo.verdict == "INCONCLUSIVE":
        _note(case, "skipped", slo.sentence)
    _output(case, [slo.sentence, *slo.warnings])
    return case


def _check_case(result: Result, check: Check) -> ET.Element:
    case = _case(result, "check", check.name)
    if check.status == "void":
        _note(case, "error", f"{check.message}; {check.remedy}")
    elif check.status == "unchecked":
        _note(case, "skipped", check.message)
    _output(case, [f"{check.status}: {check.message}", *([check.remedy] if check.remedy else [])])
    return case


def _case(result: Result, kind: str, name: str) -> ET.Element:
    return ET.Element("testcase", {"classname": _xml(f"{result.scenario}.{kind}"), "name": _xml(name)})


def _note(case: ET.Element, kind: str, message: str) -> None:
    ET.SubElement(case, kind, {"message": _xml(message)})


def _output(case: ET.Element, lines: Iterable[str]) -> None:
    ET.SubElement(case, "system-out").text = _xml("\n".join(lines))


def _xml(text: str) -> str:
    """``text`` without the characters that XML cannot hold even escaped; a server's words may have them."""
    return _NO_XML.sub("\ufffd", text)


@np.errstate(invalid="ignore")  # a time that is no number leaves its cell empty
def write_csv(scenario: Scenario, samples: Iterable[Sample], stream: TextIO) -> None:
    """One row per request in the order in which they were due; times in milliseconds but those since the run's start.

    ``good`` says whether the request met every SLO; it is empty without SLOs, in the warm-up and for what is not
    counted. Cells that a spreadsheet would run as a formula begin with an apostrophe: prompts and errors are other
    people's words.

    Args:
        stream: opened with ``newline=""``.
    """
    rows = sorted(samples, key=lambda sample: (sample.scheduled_s, sample.index))
    columns = Columns.of(rows, streamed=scenario.stream)
    derived = {
        "lag_ms": columns.sent_s - columns.scheduled_s,
        "ttft_ms": columns.latency_s("ttft", "sent"),
        "ttft_scheduled_ms": columns.latency_s("ttft", "scheduled"),
        "tpot_ms": columns.tpot_s,
        "itl_largest_ms": columns.itl_s,
        "e2e_ms": columns.latency_s("e2e", "sent"),
        "e2e_scheduled_ms": columns.latency_s("e2e", "scheduled"),
        "connect_ms": columns.connect_s,
        **{f"stage_{name}_ms": seconds for name, seconds in columns.stages_s.items()},
    }
    texts = [_column(seconds * 1e3) for seconds in derived.values()]
    good = good_requests(columns, scenario.slos)
    marks = (
        [""] * len(rows) if good is None else [_mark(one, met) for one, met in zip(rows, good.tolist(), strict=True)]
    )
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_OWN, "good", *(_cell(name) for name in derived)])
    writer.writerows([*_own(row), mark, *cells] for row, mark, *cells in zip(rows, marks, *texts, strict=True))


_OWN = (
    "index", "scheduled_s", "sent_s", "end_s", "outcome", "measured", "status", "chunks", "prompt_tokens",
    "output_tokens", "counted_tokens", "characters", "finish_reason", "retry_after_s", "worker", "prompt", "detail",
)  # fmt: skip


def _own(row: Sample) -> Iterator[str]:
    given = {name: len(row.chunk_s) if name == "chunks" else getattr(row, name) for name in _OWN}
    return (_cell(value) for value in given.values())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _column(milliseconds: Floats) -> list[str]:
    return [
        f"{value:.3f}" if known else "" for value, known in zip(milliseconds, np.isfinite(milliseconds), strict=True)
    ]


def _mark(row: Sample, met: bool) -> str:
    return "" if row.outcome in NOT_COUNTED or not row.measured else str(met).lower()


__all__ = ["to_json", "to_junit", "write_csv"]
