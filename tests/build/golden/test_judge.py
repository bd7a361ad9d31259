"""A judge over HTTP: what goes wrong with one, what is kept all the same, and what its words become."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from slipstream.build.golden.answers import GoldenAnswers
from slipstream.build.golden.judge import Judge, JudgeInvalid, JudgeUnreachable, JudgeUnusable, judge_of
from slipstream.build.golden.judged import JudgeReport, judge_answers
from slipstream.settings import Settings
from tests.build.golden.fake_judge import FakeJudge, serving
from tests.build.golden.prompts import context, prompt, question, said, span, together

ASKED = question(span(), name="a", reference="add_item adds an item.")
UNREFERENCED = question(span(), name="b")
PROMPTS = [
    prompt(ASKED, context(1, 4), context(9, 12)),
    prompt(UNREFERENCED, context(1, 4)),
    prompt(question(name="c"), declined="Not found."),
]
GIVEN = together(said("`add_item` adds [1].", name="a"), said("It adds [1].", name="b"), said("N.", name="c", tokens=0))
JUDGE_SETTINGS = {"judge_url": "http://127.0.0.1:1/v1", "judge_model": "m"}


def verdicts(*words: str) -> str:
    return json.dumps({"verdicts": [{"verdict": word, "reason": f"because {word}"} for word in words]})


# The last fits every prompt that asks for a reason, so it stands behind those that ask for more.
ANSWERS = [
    ("whether EACH claim contradicts", verdicts("yes", "no")),
    ("each statement is relevant", verdicts("yes", "yes", "no", "no")),
    ("remotely useful in arriving", verdicts("no", "yes")),
    ("attributed to the nodes", verdicts("yes", "no", "no", "no")),
    ('"truths" key', json.dumps({"truths": ["It adds."]})),
    ('"claims" key', json.dumps({"claims": ["It adds.", "It deletes."]})),
    ('"statements" key', json.dumps({"statements": ["a", "b", "c", "d"]})),
    ("'reason' key", json.dumps({"reason": "as it is"})),
]


NONSENSE = [
    "I think so.",
    "",
    '{"verdict',
    '{"verdicts": "yes"}',
    '{"verdicts": [{}]}',
    '{"verdicts": []}',
    verdicts("well, it depends"),
]


@pytest.fixture
def fake() -> Iterator[FakeJudge]:
    with serving(FakeJudge(list(ANSWERS))) as judge:
        yield judge


def silent(share: float, doing: str) -> None: ...


def judged(fake: FakeJudge, kept: Path, given: GoldenAnswers = GIVEN, key: str = "") -> JudgeReport:
    return judge_answers(PROMPTS, given, Judge(fake.url, "tiny-judge", key), kept, silent)


class TestSettings:
    def test_without_a_judge_give_none(self) -> None:
        assert judge_of(Settings()) is None

    @pytest.mark.parametrize(("given", "missing"), [("judge_url", "JUDGE_MODEL"), ("judge_model", "JUDGE_URL")])
    def test_with_half_a_judge_name_the_other_half(self, given: str, missing: str) -> None:
        with pytest.raises(JudgeInvalid, match=f"SLIPSTREAM_{missing} is not set"):
            judge_of(Settings(**{given: JUDGE_SETTINGS[given]}))

    @pytest.mark.parametrize(
        "url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://host:99999/v1", "file:///v1"]
    )
    def test_with_an_address_that_is_none_are_refused(self, url: str) -> None:
        with pytest.raises(JudgeInvalid, match="not the URL of a server"):
            judge_of(Settings(judge_url=url, judge_model="m"))

    def test_show_neither_key_nor_password(self) -> None:
        settings = Settings(
            judge_url="http://user:hunter2@127.0.0.1:1/v1", judge_model="m", judge_api_key=SecretStr("s3cret")
        )
        judge = judge_of(settings)
        assert judge is not None
        assert judge.api_key == "s3cret"
        for shown in (repr(judge), str(judge), repr(settings)):
            assert "s3cret" not in shown
        assert "hunter2" not in repr(judge)


class TestAJudge:
    def test_that_is_not_there_is_told_with_its_address(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(
            JudgeUnreachable, match=f"the judge at http://127.0.0.1:{port}/v1 does not answer"
        ) as caught:
            judge_answers(PROMPTS, GIVEN, Judge(f"http://u:hunter2@127.0.0.1:{port}/v1", "m"), tmp_path / "k", silent)
        assert "hunter2" not in caught.value.message
        assert "unset it" in caught.value.remedy

    @pytest.mark.parametrize("status", [401, 404, 429, 500])
    def test_that_refuses_is_told_with_what_it_said(self, fake: FakeJudge, tmp_path: Path, status: int) -> None:
        fake.wrapped = lambda content: (status, "no such model")
        with pytest.raises(JudgeUnreachable, match=f"answers {status}: no such model"):
            judged(fake, tmp_path / "kept.jsonl")

    @pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '{"choices": []}', '{"choices": [{"text": "old"}]}'])
    def test_that_is_another_server_is_no_judge(self, fake: FakeJudge, tmp_path: Path, body: str) -> None:
        fake.wrapped = lambda content: (200, body)
        with pytest.raises(JudgeUnusable, match="does not answer like OpenAI's chat completions"):
            judged(fake, tmp_path / "kept.jsonl")

    @pytest.mark.parametrize("words", NONSENSE)
    def test_whose_words_are_no_judgement_is_told_of_how_many(
        self, fake: FakeJudge, tmp_path: Path, words: str
    ) -> None:
        fake.answers[0] = ("whether EACH claim contradicts", words)
        with pytest.raises(JudgeUnusable, match=r"2 of 6 answers of .*faithfulness of [ab]"):
            judged(fake, tmp_path / "kept.jsonl")

    def test_whose_words_hold_half_a_character_is_read_all_the_same(self, fake: FakeJudge, tmp_path: Path) -> None:
        fake.answers[-1] = ("'reason' key", '{"reason": "fine \ud83d"}')
        fake.wrapped = lambda content: (200, json.dumps({"choices": [{"message": {"content": content}}]}))
        assert {score.reason for score in judged(fake, tmp_path / "kept.jsonl").scores} == {"fine ?"}

    def test_is_asked_no_more_after_ctrl_c(self, fake: FakeJudge, tmp_path: Path) -> None:
        many = together(*(said(f"It adds {number} [1].", name="a") for number in range(50)))

        def stop(share: float, doing: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            judge_answers([PROMPTS[0]] * 50, many, Judge(fake.url, "tiny-judge"), tmp_path / "kept.jsonl", stop)
        assert len(fake.prompts) < 100  # of about 600


class TestNothingIsLost:
    def test_of_what_was_judged_before_the_judge_failed(self, fake: FakeJudge, tmp_path: Path) -> None:
        kept = tmp_path / "kept.jsonl"
        fake.answers[0] = ("whether EACH claim contradicts", "no idea")
        with pytest.raises(JudgeUnusable, match="2 of 6") as caught:
            judged(fake, kept)
        assert str(kept) in caught.value.remedy
        fake.answers[0] = ANSWERS[0]
        fake.prompts.clear()
        report = judged(fake, kept)
        assert not [asked for asked in fake.prompts if "remotely useful" in asked or '"statements" key' in asked]
        assert len(report.scores) == 6

    def test_of_what_was_judged_before_it_went_away(self, fake: FakeJudge, tmp_path: Path) -> None:
        kept, answering = tmp_path / "kept.jsonl", fake.wrapped
        # The judge goes when the second answer's relevancy is to be decided, after some of the others.
        fake.wrapped = lambda content: (503, "") if content == ANSWERS[1][1] else answering(content)
        with pytest.raises(JudgeUnreachable):
            judged(fake, kept)
        known = kept.read_text(encoding="utf-8").count("\n")
        fake.wrapped = answering
        fake.prompts.clear()
        assert len(judged(fake, kept).scores) == 6
        assert sum("'reason' key" in asked for asked in fake.prompts) == 6 - known

    def test_when_everything_is_known_nobody_is_asked(self, fake: FakeJudge, tmp_path: Path) -> None:
        first = judged(fake, tmp_path / "kept.jsonl")
        fake.prompts.clear()
        assert judged(fake, tmp_path / "kept.jsonl") == first
        assert fake.prompts == []

    def test_whatever_ends_a_line_in_the_words_of_a_judge(self, fake: FakeJudge, tmp_path: Path) -> None:
        fake.answers[-1] = ("'reason' key", json.dumps({"reason": "as\u2028it\x85is"}))
        first = judged(fake, tmp_path / "kept.jsonl")
        assert {score.reason for score in first.scores} == {"as\u2028it\x85is"}
        fake.prompts.clear()
        assert judged(fake, tmp_path / "kept.jsonl") == first
        assert fake.prompts == []

    def test_but_a_line_that_was_cut_off(self, fake: FakeJudge, tmp_path: Path) -> None:
        kept = tmp_path / "kept.jsonl"
        first = judged(fake, kept)
        kept.write_text(kept.read_text(encoding="utf-8")[:-20], encoding="utf-8")
        assert judged(fake, kept) == first
        fake.prompts.clear()
        assert judged(fake, kept) == first
        assert fake.prompts == []

    def test_yet_another_answer_is_judged_anew(self, fake: FakeJudge, tmp_path: Path) -> None:
        judged(fake, tmp_path / "kept.jsonl")
        fake.prompts.clear()
        judged(fake, tmp_path / "kept.jsonl", together(said("It keeps [1].", name="a"), *GIVEN.answers[1:]))
        assert fake.prompts


class TestAJudgement:
    def test_is_what_deepeval_makes_of_the_words(self, fake: FakeJudge, tmp_path: Path) -> None:
        report = judged(fake, tmp_path / "kept.jsonl")
        assert report.means == {
            "faithfulness": 0.5,  # one of two claims
            "answer_relevancy": 0.5,  # two of four statements
            "contextual_precision": 0.5,  # the useful context stands second
            "contextual_recall": 0.25,  # one of four sentences
        }
        assert report.model == "tiny-judge"
        assert {score.reason for score in report.scores} == {"as it is"}

    def test_compares_contexts_with_a_reference_only_where_there_is_one(self, fake: FakeJudge, tmp_path: Path) -> None:
        asked = {(score.question_id, score.metric) for score in judged(fake, tmp_path / "kept.jsonl").scores}
        assert ("a", "contextual_recall") in asked
        assert asked >= {("b", "faithfulness"), ("b", "answer_relevancy")}
        assert not {("b", "contextual_recall"), ("b", "contextual_precision")} & asked
        assert not [name for name, _ in asked if name == "c"]

    def test_is_asked_for_greedily_with_the_key(self, fake: FakeJudge, tmp_path: Path) -> None:
        judged(fake, tmp_path / "kept.jsonl", key="s3cret")
        assert {body["temperature"] for body in fake.bodies} == {0}
        assert {body["model"] for body in fake.bodies} == {"tiny-judge"}
        assert {headers["Authorization"] for headers in fake.headers} == {"Bearer s3cret"}
        assert "s3cret" not in (tmp_path / "kept.jsonl").read_text(encoding="utf-8")

    def test_is_of_the_contexts_and_the_answer(self, fake: FakeJudge, tmp_path: Path) -> None:
        judged(fake, tmp_path / "kept.jsonl")
        assert any("`add_item` adds [1]." in asked for asked in fake.prompts)
        assert any("[2] shop/cart.py:9-12" in asked for asked in fake.prompts)
        assert any("add_item adds an item." in asked for asked in fake.prompts)
