"""What the scorer says of a text is what the checkpoint says, position by position and text by text."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slipstream.engines.openvino.scorer import OpenVinoScorer

TEXT, OTHER = [(7 * place) % 300 for place in range(40)], [(11 * place) % 300 for place in range(40)]


@pytest.fixture(scope="module")
def scorer(engine: Path) -> OpenVinoScorer:
    return OpenVinoScorer(engine, exact=True)


def test_every_position_is_the_checkpoints_distribution_of_the_next_token(engine: Path, scorer: OpenVinoScorer) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(engine.parent / "wide").eval()
    with torch.inference_mode():
        wanted = model(torch.tensor([TEXT])).logits[0].log_softmax(-1).numpy()
    found = scorer.log_probs(TEXT)
    assert (found.dtype, found.shape) == (np.float32, (len(TEXT), 320))
    np.testing.assert_allclose(found, wanted, atol=0.01)  # the engine's weights have 16 bits
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1, rtol=1e-4)


def test_a_text_says_nothing_of_the_next(engine: Path) -> None:
    alone = OpenVinoScorer(engine, exact=True).log_probs(TEXT)
    second = OpenVinoScorer(engine, exact=True)
    second.log_probs(OTHER)
    np.testing.assert_array_equal(second.log_probs(TEXT), alone)


def test_what_is_served_is_near_what_is_exact(engine: Path, scorer: OpenVinoScorer) -> None:
    served = OpenVinoScorer(engine).log_probs(TEXT)
    assert np.abs(served - scorer.log_probs(TEXT)).max() < 0.1
