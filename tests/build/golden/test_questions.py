"""Golden sets: what is refused, and that the one that ships is about what is installed."""

import os
import threading
from pathlib import Path

import pytest

from slipstream.build.golden.questions import (
    GoldenInvalid,
    GoldenNotFound,
    GoldenOutdated,
    GoldenSet,
    answering,
    check_spans,
    chunks_by_path,
    load_golden,
    parse_golden,
    shipped_sets,
)
from slipstream.ensemble.retrieval.chunker import chunk_file
from slipstream.ensemble.retrieval.walk import resolve_root, walk

GATE = "{id: a, use: gate, question: Why, answers: [{path: a.py, line_start: 1, line_end: 2, symbol: f}]}"


def refusal(text: str) -> str:
    with pytest.raises(GoldenInvalid) as caught:
        parse_golden(text, "mine.yaml")
    assert caught.value.message.startswith("mine.yaml")
    assert caught.value.remedy
    return caught.value.message


def with_question(fields: str) -> str:
    return f"sources: [pkg:click]\nquestions:\n  - {GATE}\n  - {{{fields}}}\n"


class TestARefusal:
    @pytest.mark.parametrize("text", ["", "- a\n", "just words", "42"])
    def test_of_what_holds_no_keys(self, text: str) -> None:
        assert "holds no keys" in refusal(text)

    def test_of_no_yaml_names_the_line(self) -> None:
        assert "line 2" in refusal("sources: [a]\nquestions: [}\n")

    def test_of_a_key_written_twice(self) -> None:
        assert "written twice" in refusal("sources: [a]\nsources: [b]\n")

    def test_of_an_unknown_key_names_the_question(self) -> None:
        assert "question 'b'.anwsers: is no known key" in refusal(with_question("id: b, use: gate, anwsers: []"))

    def test_of_a_question_without_an_id_counts_it(self) -> None:
        assert "question 2.id: is missing" in refusal(with_question("use: gate, question: What"))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ("id: a, use: gate, question: What", "two questions 'a'"),
            ("id: b, use: gate, question: '  WHY '", "'a' and 'b' ask the same"),
            ("id: b, use: both, question: What", "calibration"),
            ("id: B c, use: gate, question: What", "question 'B c'.id"),
            ("id: b, use: gate, question: ' '", "question 'b'.question"),
            ("id: b, use: gate, question: What, expects: [x]", "is to be declined"),
            ("id: b, use: calibration, question: What", "no prompt to calibrate on"),
            ("id: b, use: gate, question: W, answers: [{path: p, line_start: 3, line_end: 1, symbol: f}]", "before"),
            ("id: b, use: gate, question: W, answers: [{path: p, line_start: 0, line_end: 1, symbol: f}]", "line_sta"),
            ("id: b, use: gate, question: W, answers: [{path: p, line_start: 1, line_end: 1}]", "symbol: is missing"),
            ("id: b, use: gate, question: W, forbidden: ['(']", "'(' is no regular expression"),
        ],
    )
    def test_of_a_question_says_why(self, fields: str, said: str) -> None:
        assert said in refusal(with_question(fields))

    def test_of_a_set_that_asks_nothing_at_the_gate(self) -> None:
        only = GATE.replace("use: gate", "use: calibration")
        assert "asked at the gate" in refusal(f"sources: [pkg:click]\nquestions: [{only}]\n")

    @pytest.mark.parametrize("text", [f"questions: [{GATE}]", f"sources: []\nquestions: [{GATE}]", "sources: [a]"])
    def test_of_a_set_without_sources_or_questions(self, text: str) -> None:
        refusal(text)

    def test_of_a_set_that_is_not_there_names_those_that_are(self) -> None:
        with pytest.raises(GoldenNotFound) as caught:
            load_golden("sample:nothing")
        assert "sample:fastapi-starlette" in caught.value.remedy
        with pytest.raises(GoldenNotFound):
            load_golden("sample:../golden/fastapi-starlette")

    def test_of_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "golden.yaml"
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(GoldenInvalid, match="cannot be read"):
            load_golden(str(path))

    def test_of_a_pipe_does_not_wait_for_it(self, tmp_path: Path) -> None:
        path = tmp_path / "golden.yaml"
        os.mkfifo(path)
        threading.Thread(target=path.write_text, args=("",), daemon=True).start()  # for a reader that would wait
        with pytest.raises(GoldenInvalid, match="is no file"):
            load_golden(str(path))


class TestWhatAnswersAtTheGate:
    def test_is_every_chunk_with_a_line_of_it_and_nothing_of_other_files(self, tmp_path: Path) -> None:
        for name in ("cart", "wagon"):
            body = "\n\n\n".join(f"def {name}_{number}():\n    step({number})" for number in range(4))
            (tmp_path / f"{name}.py").write_text(body + "\n", encoding="utf-8")
        asked = [
            "{id: a, use: gate, question: A, answers: [{path: cart.py, line_start: 2, line_end: 5, symbol: cart_0}]}",
            "{id: b, use: gate, question: B}",
            "{id: c, use: calibration, question: C, answers: [{path: cart.py, line_start: 9, line_end: 9, symbol: d}]}",
        ]
        golden = parse_golden(f"sources: ['{tmp_path}']\nquestions: [{', '.join(asked)}]", "mine.yaml")
        chunks = [chunk for file in chunks_by_path(golden.sources).values() for chunk in file]
        found = [chunk.symbol for chunk in chunks if chunk.text in answering(golden, chunks)]
        assert found == ["cart_0", "cart_1"]


class TestTheSetThatShips:
    @pytest.fixture(scope="class")
    def golden(self) -> GoldenSet:
        return load_golden("sample:fastapi-starlette")

    def test_is_found_by_name_and_by_path(self, golden: GoldenSet) -> None:
        from slipstream.build.golden import questions

        assert shipped_sets() == ["fastapi-starlette"]
        assert load_golden(str(Path(questions.__file__).parent / "fastapi-starlette.yaml")) == golden

    def test_asks_in_two_languages_and_some_that_nothing_answers(self, golden: GoldenSet) -> None:
        gate, calibration = golden.asked("gate"), golden.asked("calibration")
        assert len(gate) + len(calibration) == len(golden.questions)
        assert (sum(one.is_answerable for one in gate), sum(not one.is_answerable for one in gate)) == (24, 6)
        assert len(calibration) == 12
        assert sum(one.language == "ru" and one.is_answerable for one in golden.questions) == 8

    def test_calibrates_on_no_line_that_answers_at_the_gate(self, golden: GoldenSet) -> None:
        lines = [
            {(span.path, line) for one in golden.asked(use) for span in one.answers
             for line in range(span.line_start, span.line_end + 1)}
            for use in ("gate", "calibration")
        ]  # fmt: skip
        assert not lines[0] & lines[1]

    def test_names_whole_definitions_of_the_installed_packages(self, golden: GoldenSet) -> None:
        """Fails when a version moves a line: read the answers anew then."""
        chunks = {
            file.path: list(chunk_file(file.path, file.absolute.read_bytes(), file.repo))
            for file in walk([resolve_root(source) for source in golden.sources])
        }
        for question in golden.questions:
            for span in question.answers:
                of_it = [chunk for chunk in chunks[span.path] if chunk.symbol == span.symbol]
                around = [one for one in of_it if span.line_start <= one.line_start and one.line_end <= span.line_end]
                assert around, f"{question.id}: {span}"
                assert (around[0].line_start, around[-1].line_end) == (span.line_start, span.line_end), question.id

    def test_expects_nothing_that_it_forbids(self, golden: GoldenSet) -> None:
        from slipstream.build.golden.scores import forbidden_claims

        for question in golden.questions:
            for words in (*question.expects, question.reference):
                assert not forbidden_claims(question, words), question.id

    def test_expects_of_an_answer_what_its_own_reference_says(self, golden: GoldenSet) -> None:
        from slipstream.build.golden.scores import missing_facts

        for question in golden.questions:
            assert not missing_facts(question, question.reference), question.id


class TestSourcesThatChanged:
    @pytest.fixture
    def shop(self, tmp_path: Path) -> Path:
        folder = tmp_path / "shop"
        folder.mkdir()
        body = "\n".join(f"    step_{number}()" for number in range(1, 6))
        (folder / "cart.py").write_text(f"def add_item():\n{body}\n\n\ndef remove_item():\n{body}\n", encoding="utf-8")
        return folder

    def golden(self, shop: Path, path: str, first: int, last: int, symbol: str) -> GoldenSet:
        answer = f"{{path: {path}, line_start: {first}, line_end: {last}, symbol: {symbol}}}"
        question = f"{{id: a, use: gate, question: Why, answers: [{answer}]}}"
        return parse_golden(f"sources: ['{shop}']\nquestions: [{question}]", "mine.yaml")

    def test_are_found_as_they_are(self, shop: Path) -> None:
        check_spans(self.golden(shop, "cart.py", 1, 6, "add_item"))

    @pytest.mark.parametrize(
        ("path", "first", "last", "symbol"),
        [
            ("wagon.py", 1, 6, "add_item"),
            ("cart.py", 1, 6, "remove_item"),
            ("cart.py", 7, 8, "add_item"),
            ("cart.py", 900, 901, "add_item"),
            ("cart.py", 9, 99, "remove_item"),
        ],
    )
    def test_are_named_where_they_differ(self, shop: Path, path: str, first: int, last: int, symbol: str) -> None:
        with pytest.raises(GoldenOutdated, match=f"a: {path}:{first}-{last}"):
            check_spans(self.golden(shop, path, first, last, symbol))
