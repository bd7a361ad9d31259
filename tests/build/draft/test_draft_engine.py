"""From a checkpoint to a draft that an engine verifies: distilled, exported, loaded beside the engine it came from."""

from pathlib import Path

import pytest

from slipstream.build.draft.distil import DistilOptions, Lesson, distil
from slipstream.build.draft.prompts import Asked, answer_all
from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import QuantizationSpec, RuntimeOptions, Speculation
from tests.tiny_llama import write_tiny_checkpoint

ASKED = [Asked([40 + number, 7, 90 - number, 11], "") for number in range(6)]


@pytest.mark.integration
def test_a_distilled_draft_is_accepted_now_and_then_and_changes_no_answer(tmp_path: Path) -> None:
    checkpoint, draft = tmp_path / "checkpoint", tmp_path / "draft"
    write_tiny_checkpoint(checkpoint, hidden=128)
    engine = compiled(checkpoint, tmp_path / "engine")
    without = OpenVinoRuntime(engine, RuntimeOptions(4, 8 << 20, batch_invariant=True))
    answers = answer_all(without, ASKED, lambda *_: None)
    without.close()
    lessons = [Lesson(one.prompt_ids, answer) for one, answer in zip(ASKED, answers, strict=True)]
    distil(checkpoint, lessons, draft, DistilOptions(layers=1, steps=30, bf16=False), lambda *_: None)
    speculation = Speculation("draft", 3, engine=compiled(draft, tmp_path / "draft-engine"))
    with_draft = OpenVinoRuntime(engine, RuntimeOptions(4, 8 << 20, speculation=speculation))
    spoken = answer_all(with_draft, ASKED, lambda *_: None)
    metrics = with_draft.metrics()
    with_draft.close()
    assert spoken == answers
    assert metrics.accepted / metrics.proposed > 0.5


def compiled(checkpoint: Path, folder: Path) -> Path:
    quantized, engine = folder / "quantized", folder / "engine"
    for path in (quantized, engine):
        path.mkdir(parents=True)
    target = OpenVinoTarget()
    target.quantize(checkpoint, QuantizationSpec(method="none"), [], quantized, lambda *_: None)
    target.compile(quantized, engine, lambda *_: None)
    return engine
