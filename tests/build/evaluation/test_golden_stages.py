"""The stages over golden answers: what they read of each other, what is asked again, and a judge that goes away."""

from pathlib import Path
from typing import Any

import pytest

from slipstream.build.evaluation.golden import ANSWERS, PROMPTS, golden_stage, judge_stage
from slipstream.build.evaluation.stages import evaluation_names
from slipstream.build.golden.contexts import write_prompts
from slipstream.build.golden.judge import Judge, JudgeUnreachable
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Outputs, Stage, StageCache, StageRecord
from slipstream.engines.protocols import Progress
from slipstream.settings import Settings
from tests.build.bundles import silent
from tests.build.golden import test_judge
from tests.build.golden.fake_judge import FakeJudge, serving
from tests.build.golden.prompts import said, together


class Home:
    """Outputs of the stages before, made by hand in the real cache."""

    def __init__(self, folder: Path) -> None:
        self.cache = StageCache(folder / "stages")
        self.kept = folder / "unfinished"
        self.outputs: dict[str, StageRecord] = {}
        self.write("contexts", lambda out: write_prompts(test_judge.PROMPTS, out / PROMPTS))
        self.answer("answers", "It adds [1].")
        self.answer("baseline", "`add_item` adds a thing to it [1].")

    def write(self, name: str, fill: Any, **inputs: str) -> None:
        def work(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
            fill(out)
            return {}

        self.outputs[name] = self.cache.run(Stage(name, inputs, work), {}, silent)[0]

    def answer(self, name: str, text: str) -> None:
        given = together(
            said(text, name="a", tokens=len(text)), said("It adds [1].", name="b"), said("N.", name="c", tokens=0)
        )
        self.write(name, lambda out: (out / ANSWERS).write_text(given.model_dump_json(), encoding="utf-8"), text=text)

    def run(self, stage: Stage) -> StageRecord:
        return self.cache.run(stage, self.outputs, silent)[0]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_both_sets_of_answers_are_measured_and_compared(home: Home) -> None:
    facts = home.run(golden_stage()).facts
    assert len(facts["report"]["rows"]) == len(facts["reference"]["rows"]) == 3
    assert facts["report"]["citation_validity"] == 1
    assert facts["length_change"] < 0  # the engine says less than the merged model
    assert facts["agreement"]["identical"] < 1
    assert home.cache.run(golden_stage(), home.outputs, silent)[1] == "cached"
    home.answer("answers", "`add_item` adds a thing to it [1].")
    again = home.run(golden_stage()).facts
    assert (again["length_change"], again["agreement"]["identical"]) == (0, 1)


def test_a_judge_that_goes_away_is_not_asked_again_for_what_it_said(home: Home) -> None:
    with serving(FakeJudge(list(test_judge.ANSWERS))) as judge:
        stage = judge_stage(Judge(judge.url, "tiny-judge", ""), home.kept)
        facts = home.run(stage).facts
    assert set(facts["means"]) >= {"faithfulness", "answer_relevancy"}
    assert any("It adds [1]." in asked for asked in judge.prompts)
    assert not any("adds a thing to it" in asked for asked in judge.prompts)  # what the merged model said
    assert home.cache.run(stage, home.outputs, silent)[1] == "cached"
    home.cache.discard(home.run(stage))
    assert home.run(stage).facts == facts  # nobody listens there any more: read from what was kept
    home.answer("answers", "Other words [1].")
    with pytest.raises(JudgeUnreachable):
        home.run(stage)


def test_a_judge_is_asked_only_where_the_settings_name_one() -> None:
    recipe = Recipe(version="1", adapter=None)
    assert "judge" not in evaluation_names(recipe, Settings())
    assert "judge" in evaluation_names(recipe, Settings(judge_url="http://127.0.0.1:1/v1", judge_model="m"))
    assert evaluation_names(Recipe(version="1", adapter=None, evaluation=None), Settings(judge_url="http://x/v1")) == ()
