"""The golden set's verdict on one adapter: a recipe's stages with that adapter in them, up to the answers.

The stages are those of a build and are kept by their inputs like its own: what was in production is not measured twice,
and the build that follows a promotion finds them made.
"""

from collections.abc import Sequence
from pathlib import Path

from slipstream import InputError
from slipstream.build.evaluation.golden import ANSWERS, PROMPTS
from slipstream.build.golden.answers import GoldenAnswers
from slipstream.build.golden.contexts import read_prompts
from slipstream.build.golden.report import evaluate
from slipstream.build.graph import stage_names
from slipstream.build.pipeline import Pipeline
from slipstream.build.promotion.comparison import Scores
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Status
from slipstream.engines.protocols import Progress
from slipstream.settings import Settings

_LAST = "answers"
_ADAPTERS = 2  # a candidate and what is in production


class NothingToAsk(InputError):
    """The recipe names no golden set."""


class GoldenScores:
    """Scores of an adapter in ``recipe``: 1 for each golden question of the gate that it answers well, 0 otherwise."""

    def __init__(self, recipe: Recipe, settings: Settings, progress: Progress) -> None:
        """
        Raises:
            NothingToAsk: ``recipe`` has no golden set.
        """
        if recipe.evaluation is None or recipe.evaluation.golden is None:
            raise NothingToAsk(
                "the recipe names no golden set", "set evaluation.golden in it, or give another --recipe"
            )
        self._recipe, self._settings, self._progress = recipe, settings, progress
        self._asked = 0
        self.golden_set = recipe.evaluation.golden

    def __call__(self, reference: str) -> Scores:
        """
        Raises:
            GateError: the adapter does not merge within the tolerance.
            DiskFull: nothing half made is left.
            InputError, EnvironmentFault: a reference, the recipe or a library does not fit.
        """
        recipe = self._recipe.model_copy(update={"adapter": reference})
        names = stage_names(recipe, self._settings)
        share = _Share(reference, names[: names.index(_LAST) + 1], self._part)
        made = Pipeline(recipe, self._settings, share).make(_LAST)
        self._asked += 1
        return _scores(made["contexts"].folder / PROMPTS, made[_LAST].folder / ANSWERS)

    def _part(self, share: float, doing: str) -> None:
        self._progress((self._asked + share) / _ADAPTERS, doing)


class _Share:
    """A `Watcher` that tells of all ``stages`` as of one piece of work."""

    def __init__(self, reference: str, stages: Sequence[str], progress: Progress) -> None:
        self._reference, self._stages, self._progress = reference, stages, progress

    def started(self, stage: str) -> None:
        self.progress(stage, 0.0, "")

    def progress(self, stage: str, share: float, doing: str) -> None:
        self._progress((self._stages.index(stage) + share) / len(self._stages), f"{self._reference}: {stage}")

    def finished(self, stage: str, status: Status, seconds: float) -> None:
        self.progress(stage, 1.0, "")


def _scores(prompts_file: Path, answers_file: Path) -> Scores:
    prompts = [prompt for prompt in read_prompts(prompts_file) if prompt.question.use == "gate"]
    answers = GoldenAnswers.model_validate_json(answers_file.read_text(encoding="utf-8"))
    return {row.question_id: float(row.passed) for row in evaluate(prompts, answers).rows}


__all__ = ["GoldenScores", "NothingToAsk"]
