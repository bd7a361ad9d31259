"""The table of one build: each number beside the merged model's and its gate, and dashes for what is no number."""

from pathlib import Path
from typing import Any

from slipstream.build.evaluation.comparison import Candidate, Comparison, comparison_lines
from slipstream.build.evaluation.record import Evaluation, MeasuredOn
from slipstream.build.evaluation.speed import Measured, Speed
from slipstream.build.evaluation.table import evaluation_lines
from slipstream.build.gates import Gates, check
from slipstream.build.gates import Measured as Gated
from slipstream.build.took import Took

GATES = Gates(
    max_perplexity_rise=0.05, max_kl=0.1, min_golden_pass_rate=0.4, min_citation_validity=1.0, max_length_change=0.1
)
GOLDEN = {
    "report": {"pass_rate": 0.5, "citation_validity": 0.9, "answer_tokens": 36.0},
    "reference": {"pass_rate": 0.6, "citation_validity": None, "answer_tokens": 40.0},
    "agreement": {"answers": 24, "identical": 0.25, "common_prefix": 0.5},
    "length_change": -0.1,
}


def likelihood(**changed: float | None) -> dict[str, Any]:
    fields = {"tokens": 508, "perplexity": 8.8, "reference_perplexity": 8.0, "kl": 0.05, "top_agreement": 0.9}
    return {**fields, "rise": 0.1, **changed}


def evaluation(golden: dict[str, Any] | None = GOLDEN, judge: dict[str, Any] | None = None, **code: Any) -> Evaluation:
    found = likelihood(**code)
    return Evaluation(
        host=MeasuredOn(cpu="a CPU", cores=2),
        weights_bytes=90_000_000,
        reference_bytes=269_000_000,
        quality={"code": found, "prose": likelihood(kl=0.5)},
        golden=golden,
        judge=judge,
        speed={
            "alone": {"decode": 101.4, "ttft_s": 0.0123},
            "loaded": {"streams": 8, "output": 305.6},
            "peak_memory_bytes": 400_000_000,
        },
        gates=check(GATES, Gated(found["rise"], found["kl"], 0.5, 0.9, -0.1)),
        stages={},
    )


def cells(found: Evaluation) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in evaluation_lines(found) if "|" in line]
    return {row[0]: row[1:] for row in rows}


def test_what_is_no_number_is_a_dash_and_its_gate_has_failed() -> None:
    table = cells(evaluation(perplexity=None, rise=None, kl=None))
    assert table["perplexity of code"] == ["8.00", "- (-)", "rise ≤ 5% FAILED"]
    assert table["KL of code, nats"] == ["0", "-", "≤ 0.1 FAILED"]


def test_every_measure_stands_beside_the_merged_models_and_its_gate() -> None:
    table = cells(evaluation())
    assert table["measured"] == ["merged model", "engine", "gate"]
    assert table["weights, MB"] == ["269", "90", ""]
    assert table["perplexity of code"] == ["8.00", "8.80 (+10.0%)", "rise ≤ 5% FAILED"]
    assert table["KL of code, nats"] == ["0", "0.050", "≤ 0.1 ok"]
    assert table["KL of prose, nats"] == ["0", "0.500", ""]  # gates are on code
    assert table["golden set passed"] == ["60.0%", "50.0%", "≥ 40% ok"]
    assert table["citation validity"] == ["-", "90.0%", "≥ 100% FAILED"]
    assert table["mean answer, tokens"] == ["40.0", "36.0", "± 10% ok"]
    assert table["greedy answers the same"] == ["", "25.0%", ""]
    assert table["output, tokens/s, 8 streams"] == ["", "306", ""]
    assert table["first token alone, ms"] == ["", "12", ""]
    assert table["peak memory of the engine, MB"] == ["", "400", ""]
    assert list(evaluation_lines(evaluation()))[-1] == "on 2 cores of a CPU"


def test_a_build_that_tried_drafts_shows_each_and_says_why_one_was_kept() -> None:
    speed = {"tokens_per_s": 58.8, "spread": 8.9, "gain": 1.0, "gain_spread": 0.0}
    faster = speed | {"gain": 1.094, "gain_spread": 0.052}
    none = {"candidate": {"method": "none", "tokens": 0}, "acceptance_rate": None, "tokens_per_step": 1.0}
    lookup = {"candidate": {"method": "prompt_lookup", "tokens": 2}, "acceptance_rate": 0.254, "tokens_per_step": 1.36}
    measured = [none | {"alone": speed, "loaded": speed}, lookup | {"alone": faster, "loaded": speed}]
    tried = {"measured": measured, "kept": lookup["candidate"], "why": "prompt_lookup 2 is kept: it is faster"}
    found = evaluation().model_copy(update={"draft": tried})
    table = cells(found)
    assert table["none"] == ["-", "1.00", "59 ± 9", "1.00 ± 0.00", "59 ± 9", "1.00 ± 0.00"]
    assert table["prompt_lookup 2 (kept)"] == ["25%", "1.36", "59 ± 9", "1.09 ± 0.05", "59 ± 9", "1.00 ± 0.00"]
    assert "prompt_lookup 2 is kept: it is faster" in list(evaluation_lines(found))


def test_engines_are_compared_a_column_each(tmp_path: Path) -> None:
    clocked = Speed(Measured(1, 90.0, 0.1, 100.0, 0.2, 0.0123), Measured(8, 300.0, 0.1, 50.0, 0.1, 0.5), 4 * 10**8, 900)
    stages = {"quantize": Took(seconds=90.4)}
    none = evaluation(None, perplexity=None, rise=None).model_copy(update={"stages": stages})
    gptq = evaluation().model_copy(update={"stages": stages})
    found = Comparison(
        {"quantization": {"bits": 4, "group_size": 32, "symmetric": False, "ratio": 1.0}},
        MeasuredOn(cpu="a CPU", cores=2),
        (Candidate("none", "abc", "", none, clocked), Candidate("gptq", None, "max_kl is 0.2", gptq, clocked)),
        12.0,
        (tmp_path / "table.md",),
    )
    lines = list(comparison_lines(found))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    table = {row[0]: row[1:] for row in rows}
    assert table[""] == ["none", "gptq"]
    assert table["bundle"] == ["abc", "-"]
    assert table["perplexity, code"] == ["-", "8.80"]
    assert table["KL, prose, nats"] == ["0.500", "0.500"]
    assert table["golden set passed"] == ["-", "50.0%"]
    assert table["greedy answers as merged"] == ["-", "25.0%"]
    assert table["citation validity"] == ["-", "90.0%"]
    assert table["mean answer, tokens"] == ["-", "36.0"]
    assert table["decode alone, tokens/s"] == ["100 ± 10"] * 2
    assert table["output at 8 streams, tokens/s"] == ["300 ± 15"] * 2
    assert table["peak memory, MB"] == ["400", "400"]
    assert table["gates"] == ["ok", "FAILED"]
    assert lines[-3].startswith("4 bits, groups of 32, asymmetric, ratio 1; on 2 cores of a CPU")
    assert lines[-2:] == ["gptq makes no bundle: max_kl is 0.2", f"saved {tmp_path / 'table.md'}"]


def test_rows_are_there_for_what_was_asked_only() -> None:
    judged = {"model": "a-judge", "means": {"answer_relevancy": 0.75}, "scores": []}
    assert cells(evaluation(judge=judged))["answer relevancy, by a-judge"] == ["", "0.75", ""]
    assert not [name for name in cells(evaluation(golden=None)) if "golden" in name or "answer" in name]


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    found = evaluation(kl=None)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
