"""Quality on held-out text: which kinds, of which two models, and what is written of a model that says no numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from slipstream.build.evaluation.quality import quality
from slipstream.build.evaluation.texts import Document, HeldOut
from slipstream.build.options import EvaluationOptions
from slipstream.engines.protocols import Scorer, Target
from tests.ensemble.words import write_tokenizer

TOKENS = 400  # more than the tokenizer has


@dataclass
class Says:
    """The same of every token; most numbers are no log probability."""

    number: float

    def log_probs(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        return np.full((len(token_ids), TOKENS), self.number, dtype=np.float32)


class Scoring:
    """What `quality` asks of a target: the exact model is sure of nothing, the other one says ``number``."""

    def __init__(self, number: float) -> None:
        self._number = number

    def scorer(self, folder: Path, *, exact: bool = False) -> Scorer:
        assert folder.name == ("reference" if exact else "quantized")
        return Says(-log(TOKENS) if exact else self._number)


def measured(tmp_path: Path, number: float) -> dict[str, Any]:
    told: list[float] = []
    found = quality(
        cast("Target", Scoring(number)),
        tmp_path / "quantized",
        tmp_path / "reference",
        HeldOut((Document("a.py", "x" * 700),), (Document("a.md", "y" * 900),)),
        write_tokenizer(tmp_path / "tokenizer"),
        EvaluationOptions(tokens=640, window=128),
        lambda share, doing: told.append(share),
    )
    assert told == sorted(told)
    assert told[-1] == 1
    return found


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_what_is_no_number_is_written_as_none(tmp_path: Path, number: float) -> None:
    found = measured(tmp_path, number)["code"]
    assert (found["perplexity"], found["rise"], found["kl"]) == (None, None, None)
    assert found["reference_perplexity"] == pytest.approx(TOKENS, rel=1e-4)


def test_both_kinds_are_measured_on_every_token_but_the_first_of_each_window(tmp_path: Path) -> None:
    found = measured(tmp_path, -log(TOKENS) - log(2))
    assert set(found) == {"code", "prose"}
    for kind in found.values():
        assert kind["tokens"] == 5 * 127
        assert kind["perplexity"] == pytest.approx(2 * TOKENS, rel=1e-4)
        assert kind["rise"] == pytest.approx(1, rel=1e-4)
        assert kind["kl"] == pytest.approx(log(2), rel=1e-4)
