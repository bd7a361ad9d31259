"""A whole build that asks golden questions: what is calibrated on, who judges, and what is written of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from slipstream import EnvironmentFault
from slipstream.build.gates import GateFailed
from slipstream.build.golden.judged import JUDGED
from slipstream.build.golden.questions import chunks_by_path, load_golden
from slipstream.build.pipeline import Pipeline
from slipstream.build.recipe import Recipe, parse_recipe
from slipstream.cli import main
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.ensemble.manifest import EVALUATION
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings
from tests.build.conftest import TinyRecipe
from tests.build.evaluation.test_comparison import Silent
from tests.build.golden.fake_judge import FakeJudge, serving
from tests.build.golden.sets import write_golden
from tests.build.golden.test_judge import ANSWERS

GATE, ALL = ["gate", "calibration", "gate", "gate"], ["gate", "calibration"] * 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all: what one test built the next one finds."""
    return tmp_path_factory.mktemp("golden-builds")


def recipe_text(tiny_recipe: TinyRecipe, folder: Path, uses: list[str], **changed: object) -> str:
    text = tiny_recipe(serving={"min_confidence": 0.0}, **changed)
    fields = yaml.safe_load(text)
    source = fields["calibration"]["sources"][0]
    golden = write_golden(folder / "golden.yaml", source, uses, "It is what it is.")
    fields["evaluation"]["golden"] = str(golden)
    return yaml.safe_dump(fields)


def recipe(tiny_recipe: TinyRecipe, folder: Path, uses: list[str], **changed: object) -> Recipe:
    return parse_recipe(recipe_text(tiny_recipe, folder, uses, **changed), "tiny.yaml")


def test_no_chunk_that_answers_at_the_gate_is_calibrated_on(
    home: Path, tmp_path: Path, tiny_recipe: TinyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    quantize = OpenVinoTarget.quantize

    def watched(target: OpenVinoTarget, checkpoint: Path, spec: object, sequences: object, *rest: object) -> object:
        if sequences:
            seen.extend(sequences)  # type: ignore[arg-type]
            raise EnvironmentFault("this is all we wanted to see")
        return quantize(target, checkpoint, spec, sequences, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenVinoTarget, "quantize", watched)
    asking = recipe(tiny_recipe, tmp_path, ALL, calibration__sequences=64, calibration__tokens=1024)
    pipeline = Pipeline(asking, Settings(home=home, mlflow_uri=None), Silent())
    with pytest.raises(EnvironmentFault, match="all we wanted"):
        pipeline.build()
    tokenizer = ChatTokenizer(pipeline.outputs["merge"].folder / "tokenizer")
    told = "\n".join(map(tokenizer.decode, seen))
    assert asking.evaluation is not None
    assert asking.evaluation.golden is not None
    golden = load_golden(asking.evaluation.golden)
    chunks = [chunk for file in chunks_by_path(golden.sources).values() for chunk in file]
    texts = {
        use: [chunk.text for one in golden.asked(use) for chunk in chunks
              if (chunk.path, chunk.line_start) == (one.answers[0].path, one.answers[0].line_start)]
        for use in ("gate", "calibration")
    }  # fmt: skip
    assert len(texts["gate"]) == len(texts["calibration"]) == 30
    assert [text for text in texts["gate"] if text in told] == []
    assert sum(text in told for text in texts["calibration"]) > 10
    assert not [one.question for one in golden.asked("gate") if one.question in told]
    assert any(one.question in told for one in golden.asked("calibration"))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, which has imported everything: exit code, standard output and error.

    With real files for both, which the engine's process inherits.
    """

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("SLIPSTREAM_HOME", str(home))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return (int(ended.value.code or 0), *capfd.readouterr())

    return run


def test_a_named_judge_is_asked_and_what_it_says_is_kept_and_shown(
    run: Run, tmp_path: Path, tiny_recipe: TinyRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(recipe_text(tiny_recipe, tmp_path, GATE, quantization={"method": "none"}), encoding="utf-8")
    with serving(FakeJudge(list(ANSWERS))) as judge:
        monkeypatch.setenv("SLIPSTREAM_JUDGE_URL", judge.url)
        monkeypatch.setenv("SLIPSTREAM_JUDGE_MODEL", "tiny-judge")
        code, shown, err = run("build", str(path))
        assert code == 0, err
        asked = len(judge.prompts)
        again = json.loads(run("build", str(path), "--json")[1])
        assert len(judge.prompts) == asked > 0
    assert again["unchanged"]
    kept = json.loads((Path(again["path"]) / EVALUATION).read_text(encoding="utf-8"))
    assert kept["judge"]["model"] == "tiny-judge"
    assert set(kept["judge"]["means"]) == set(JUDGED)
    assert {score["question_id"] for score in kept["judge"]["scores"]} <= {"q0", "q2", "q3"}
    assert [row["question_id"] for row in kept["golden"]["report"]["rows"]] == ["q0", "q2", "q3"]
    assert "faithfulness, by tiny-judge" in shown
    assert "no judge" not in shown
    monkeypatch.delenv("SLIPSTREAM_JUDGE_URL")
    monkeypatch.delenv("SLIPSTREAM_JUDGE_MODEL")
    assert "no judge: set SLIPSTREAM_JUDGE_URL" in run("build", str(path))[1]


def test_a_golden_gate_that_fails_ends_with_1_the_table_and_the_gate(
    run: Run, tmp_path: Path, tiny_recipe: TinyRecipe
) -> None:
    path = tmp_path / "tiny.yaml"
    gates = {"min_golden_pass_rate": 1.0}  # of a model whose weights are random
    text = recipe_text(tiny_recipe, tmp_path, GATE, quantization={"method": "none"}, gates=gates, version="2.0")
    path.write_text(text, encoding="utf-8")
    code, shown, err = run("build", str(path))
    assert code == GateFailed.exit_code == 1
    assert "≥ 100% FAILED" in shown
    assert re.search(r"min_golden_pass_rate is 0\S*, at least 1 is allowed", err)
    assert not [line for line in run("bundles")[1].splitlines() if "test-v2.0" in line]
