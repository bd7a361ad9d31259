"""The report of a golden set, made by DeepEval's metrics; and DeepEval itself, which has to keep quiet."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.build.golden.deepeval_quietly import DeepEvalMissing, quieten_deepeval
from slipstream.build.golden.metrics import case_of, golden_metrics
from slipstream.build.golden.report import GoldenReport, evaluate, length_change
from tests.build.golden.prompts import context, prompt, question, said, span, together

ANSWERED = question(span(1, 4), name="a", expects=("add_item",), forbidden=("delete",))
OTHER = question(span(1, 8), name="b")
DECLINED = question(name="c")
PROMPTS = [prompt(ANSWERED, context()), prompt(OTHER, context()), prompt(DECLINED, declined="Not found.")]
GIVEN = together(
    said("`add_item` adds [1].", name="a", tokens=10),
    said("It deletes.", raw="It deletes [4].", name="b", tokens=20),
    said("Not found.", name="c", tokens=0),
)


class TestAReport:
    @pytest.fixture(scope="class")
    def report(self) -> GoldenReport:
        return evaluate(PROMPTS, GIVEN)

    def test_counts_who_passed_and_says_why_others_did_not(self, report: GoldenReport) -> None:
        assert [row.passed for row in report.rows] == [True, False, True]
        assert report.pass_rate == pytest.approx(2 / 3)
        assert "[4] names none of the 1 contexts" in report.rows[1].failures
        assert "cites nothing" in report.rows[1].failures
        assert report.rows[0].failures == ""

    def test_takes_validity_over_all_citations(self, report: GoldenReport) -> None:
        assert [(row.citations, row.valid_citations) for row in report.rows] == [(1, 1), (1, 0), (0, 0)]
        assert report.citation_validity == 0.5

    def test_takes_lengths_of_what_the_engine_said_alone(self, report: GoldenReport) -> None:
        assert [row.answer_tokens for row in report.rows] == [10, 20, None]
        assert report.answer_tokens == 15

    def test_takes_recall_of_what_has_answers_alone(self, report: GoldenReport) -> None:
        assert [row.context_recall for row in report.rows] == [1.0, 0.5, None]
        assert report.context_recall == 0.75

    def test_survives_being_written(self, report: GoldenReport) -> None:
        assert GoldenReport.model_validate_json(report.model_dump_json()) == report

    def test_of_answers_without_a_citation_has_no_validity(self) -> None:
        report = evaluate(PROMPTS[:1], together(said("It adds.", name="a")))
        assert report.citation_validity is None

    def test_of_declined_questions_alone_has_no_length(self) -> None:
        report = evaluate(PROMPTS[2:], together(said("Not found.", name="c", tokens=0)))
        assert (report.answer_tokens, report.context_recall, report.pass_rate) == (None, None, 1.0)

    def test_refuses_answers_to_other_questions(self) -> None:
        with pytest.raises(ValueError, match="the prompts they were given to"):
            evaluate(PROMPTS, together(*GIVEN.answers[::-1]))
        with pytest.raises(ValueError, match="the prompts they were given to"):
            evaluate([], together())

    def test_says_how_much_longer_answers_are(self, report: GoldenReport) -> None:
        shorter = evaluate(PROMPTS[:1], together(said("x [1]", name="a", tokens=12)))
        assert length_change(shorter, report) == pytest.approx(-0.2)
        assert length_change(report, shorter) == pytest.approx(0.25)

    def test_says_nothing_of_the_length_where_nothing_was_said(self, report: GoldenReport) -> None:
        silent = evaluate(PROMPTS[2:], together(said("Not found.", name="c", tokens=0)))
        assert length_change(silent, report) is None
        assert length_change(report, silent) is None


class TestTheMetrics:
    def test_say_what_they_found(self) -> None:
        metrics = golden_metrics()
        case = case_of(PROMPTS[1], GIVEN.answers[1])
        assert metrics.citation_validity.measure(case) == 0.0
        assert metrics.citation_validity.reason == "[4] names none of the 1 contexts"
        assert not metrics.citation_validity.is_successful()
        assert metrics.context_recall.measure(case) == 0.5
        assert metrics.forbidden_claims.measure(case) == 1.0
        assert metrics.golden_pass.measure(case) == 0.0

    def test_skip_what_there_is_nothing_to_count_of(self) -> None:
        metrics = golden_metrics()
        case = case_of(PROMPTS[2], GIVEN.answers[2])
        assert metrics.citation_validity.measure(case) is None
        assert metrics.citation_validity.skipped
        assert metrics.golden_pass.measure(case) == 1.0


SPY = """
import sys

seen = []

def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        seen.append((event, str(arguments[-1])))
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        seen.append((event, str(arguments[0])))
    if event in ("os.mkdir", "os.rename", "subprocess.Popen", "os.posix_spawn"):
        seen.append((event, str(arguments[0])))

sys.addaudithook(spy)
from tests.build.golden.test_report import GIVEN, PROMPTS, evaluate

evaluate(PROMPTS, GIVEN)
assert "deepeval" in sys.modules
print([one for one in seen if "__pycache__" not in one[1]])
"""


class TestDeepEval:
    def test_keeps_quiet_where_the_environment_asks_it_to_talk(self, tmp_path: Path) -> None:
        """A report is made by a process that notes what it connects to and writes."""
        (tmp_path / ".env").write_text("DEEPEVAL_TELEMETRY_OPT_OUT=NO\nCONFIDENT_API_KEY=k\n", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", SPY],
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "DEEPEVAL_TELEMETRY_OPT_OUT": "NO",
                "DEEPEVAL_DISABLE_DOTENV": "0",
                "DEEPEVAL_RESULTS_FOLDER": str(tmp_path / "results"),
                "CONFIDENT_TRACING_ENABLED": "YES",
                "CONFIDENT_API_KEY": "k",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("[]\n", "")
        assert [path.name for path in tmp_path.iterdir()] == [".env"]

    def test_missing_is_said_with_a_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "deepeval", None)  # makes the import fail
        with pytest.raises(DeepEvalMissing, match="the golden set is measured with DeepEval") as caught:
            quieten_deepeval()
        assert "pip install --no-deps" in caught.value.remedy
