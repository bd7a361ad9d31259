"""The scores of an adapter: what a promotion compares."""

from pathlib import Path

from slipstream.build.golden.contexts import write_prompts
from slipstream.build.promotion.evaluation import _scores
from tests.build.golden.prompts import context, prompt, question, said, span, together


def test_a_question_of_the_gate_scores_1_where_it_passed_and_others_are_not_asked(tmp_path: Path) -> None:
    asked = {name: question(span(), name=name) for name in ("right", "wrong", "known")}
    known = asked["known"].model_copy(update={"use": "calibration"})
    prompts = [prompt(one, context()) for one in (asked["right"], known, asked["wrong"])]
    prompts.append(prompt(question(name="nowhere"), declined="Not found."))
    given = together(
        said("It adds [1].", name="right"), said("It adds.", name="wrong"), said("Not found.", name="nowhere", tokens=0)
    )
    write_prompts(prompts, tmp_path / "prompts.json")
    (tmp_path / "answers.json").write_text(given.model_dump_json(), encoding="utf-8")
    found = _scores(tmp_path / "prompts.json", tmp_path / "answers.json")
    assert found == {"right": 1.0, "wrong": 0.0, "nowhere": 1.0}
