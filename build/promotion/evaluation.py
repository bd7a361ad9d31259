"""The golden set's verdict on one adapter: a recipe's stages with that adapter in them, up to the answers.

The stages are those of a build and are kept by their inputs like its own: what was in production is not measured twice,
and the build that follows a promotion finds them made.
"""

from collections.abc import Sequence
from pathlib import Path

from slipstream import InputError
from slipstream.build.durable import explaining_full_disk
from slipstream.build.evaluation.golden import ANSWERS, PROMPTS
from slipstream.build.golden.answers import GoldenAnswers
from slipstream.build.golden.contexts import read_prompts
from slipstream.build.golden.report import evaluate
from slipstream.build.graph import resolve, stages_of
from slipstream.build.promotion.comparison import Scores
from slipstream.build.recipe import Recipe
from slipstream.build.stages import Stage, StageCache, StageRecord
from slipstream.engines.protocols import Progress
from slipstream.settings import Settings

_LAST = "answers"
_ADAPTERS = 2  # a candidate and what is in production
_RESOLVING = 0.05  # of the time


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
        self._cache = StageCache(settings.cache_dir / "stages")
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
        with explaining_full_disk(self._settings.root, "the evaluation"):
            resolved = resolve(recipe, self._settings, self._part(reference, 0.0, _RESOLVING))
            stages = needed(stages_of(recipe, resolved), _LAST)
            made: dict[str, StageRecord] = {}
            for number, stage in enumerate(stages):
                first, last = (_RESOLVING + (1 - _RESOLVING) * share / len(stages) for share in (number, number + 1))
                made[stage.name], _ = self._cache.run(
                    stage, made, self._part(f"{reference}: {stage.name}", first, last)
                )
        self._asked += 1
        return _scores(made["contexts"].folder / PROMPTS, made[_LAST].folder / ANSWERS)

    def _part(self, doing: str, first: float, last: float) -> Progress:
        asked = self._asked
        return lambda share, _: self._progress((asked + first + share * (last - first)) / _ADAPTERS, doing)


def needed(stages: Sequence[Stage], last: str) -> list[Stage]:
    """Those that ``last`` reads, directly or not, and itself, in order."""
    wanted = {last}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted.update(stage.after)
    return [stage for stage in stages if stage.name in wanted]


def _scores(prompts_file: Path, answers_file: Path) -> Scores:
    prompts = [prompt for prompt in read_prompts(prompts_file) if prompt.question.use == "gate"]
    answers = GoldenAnswers.model_validate_json(answers_file.read_text(encoding="utf-8"))
    return {row.question_id: float(row.passed) for row in evaluate(prompts, answers).rows}


__all__ = ["GoldenScores", "NothingToAsk", "needed"]
