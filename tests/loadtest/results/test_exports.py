"""What other programs read: JSON, JUnit XML, CSV."""

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from slipstream.loadtest.results.exports import to_json, to_junit, write_csv
from slipstream.loadtest.results.verdict import Result, judge
from slipstream.loadtest.sample import Sample
from tests.loadtest.simulated import TTFT_BOUND, failed, planned, request, scenario, steady

SLOS = [TTFT_BOUND, {"metric": "e2e", "bound_ms": 100}, {"metric": "ttft", "bound_ms": 500, "quantile": 0.9999}]


def result(**changes: object) -> Result:
    samples = steady([0.2] * 650, **changes)
    return judge(scenario(slos=SLOS), samples, planned_s=planned(samples))


def cases(found: Result) -> dict[str, ET.Element]:
    suite = ET.fromstring(to_junit(found)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    return {case.attrib["name"]: case for case in suite}


def rows(samples: list[Sample], **changes: object) -> list[dict[str, str]]:
    stream = io.StringIO(newline="")
    write_csv(scenario(**changes), samples, stream)
    return list(csv.DictReader(io.StringIO(stream.getvalue())))


def test_json_is_read_back_as_it_was() -> None:
    found = result()
    assert json.loads(to_json(found)) == found.as_dict()


def test_json_and_junit_say_as_how_many_independent_requests_they_count() -> None:
    samples = steady([0.9 if n // 10 % 8 == 7 else 0.2 for n in range(650)])
    found = judge(scenario(), samples, planned_s=planned(samples))
    (slo,) = json.loads(to_json(found))["slos"]
    assert slo["independent"] == slo["dependence"]["effective"] < slo["requests"] == 600
    assert f"so the 600 count as {slo['independent']:.0f} independent ones" in slo["sentence"]
    assert slo["sentence"] in (cases(found)["p95 TTFT ≤ 500 ms (scheduled)"].findtext("system-out") or "")
    assert json.loads(to_json(result()))["slos"][0]["independent"] == 600


# --- JUnit ------------------------------------------------------------------------------------------------------------


def test_every_slo_and_every_check_is_a_test_case() -> None:
    found = cases(result())
    assert found["p95 TTFT ≤ 500 ms (scheduled)"].find("failure") is None
    refuted = found["p95 end-to-end ≤ 100 ms (scheduled)"].find("failure")
    undecided = found["p99.99 TTFT ≤ 500 ms (scheduled)"].find("skipped")
    assert refuted is not None
    assert undecided is not None
    assert "600 of 600" in refuted.attrib["message"]
    assert "more without a miss would prove it" in undecided.attrib["message"]
    assert {"generator_lag", "arrivals", "times", "littles_law", "steady_state", "tokens"} <= set(found)


def test_the_totals_are_those_of_the_cases() -> None:
    root = ET.fromstring(to_junit(result()))  # noqa: S314
    assert {name: root.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "10", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip


def test_a_void_run_is_an_error_and_no_slo_of_it_passes_or_fails() -> None:
    found = cases(result(lag=0.05))
    assert found["generator_lag"].find("error") is not None
    slos = [case for case in found.values() if case.attrib["classname"].endswith(".slo")]
    assert len(slos) == 3
    assert all(case.find("skipped") is not None and case.find("failure") is None for case in slos)


def test_a_warning_is_told_and_fails_nothing() -> None:
    tokens = cases(result(output_tokens=20))["tokens"]
    assert [child.tag for child in tokens] == ["system-out"]
    assert (tokens[0].text or "").startswith("warning: `usage` says")


def test_what_xml_cannot_hold_does_not_break_it() -> None:
    found = result()
    check = replace(found.checks[0], message='\x00\x1b<&"\ud800 é', status="void")
    root = ET.fromstring(to_junit(replace(found, checks=(check,))))  # noqa: S314
    assert '\ufffd\ufffd<&"\ufffd é' in ET.tostring(root, encoding="unicode").replace("&lt;", "<").replace(
        "&amp;", "&"
    ).replace("&quot;", '"')


# --- CSV --------------------------------------------------------------------------------------------------------------


def test_one_row_per_request_in_the_order_in_which_they_were_due() -> None:
    found = rows([request(1, 11), request(0, 10, stages_s={"queue": 0.25}), failed(2, 12, "stalled")])
    assert [row["index"] for row in found] == ["0", "1", "2"]
    first, second, third = found
    assert (first["ttft_ms"], first["tpot_ms"], first["lag_ms"]) == ("200.000", "50.000", "1.000")
    assert (first["stage_queue_ms"], second["stage_queue_ms"]) == ("250.000", "")
    assert (third["outcome"], third["ttft_ms"], third["output_tokens"], third["good"]) == ("stalled", "", "", "false")
    assert (first["good"], first["measured"], first["chunks"]) == ("true", "true", "10")


@pytest.mark.parametrize("sample", [request(outcome="cut_off"), request(outcome="disconnected"), request(due=1.0)])
def test_what_is_not_counted_is_neither_good_nor_bad(sample: Sample) -> None:
    assert rows([sample])[0]["good"] == ""


def test_without_slos_nothing_is_good_or_bad() -> None:
    assert rows([request()], slos=[])[0]["good"] == ""


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    found = rows([request(prompt=text, detail=text, stages_s={text: 1.0})])[0]
    assert (found["prompt"], found["detail"]) == (f"'{text}", f"'{text}")
    assert not [name for name in found if name.startswith(("=", "+", "-", "@"))]


def test_line_breaks_quotes_and_commas_stay_in_their_cell() -> None:
    text = 'a,"b"\r\nc'
    assert rows([request(detail=text)])[0]["detail"] == text


def test_no_requests_are_a_header() -> None:
    stream = io.StringIO(newline="")
    write_csv(scenario(), [], stream)
    assert stream.getvalue().startswith("index,scheduled_s,")
    assert stream.getvalue().count("\n") == 1
