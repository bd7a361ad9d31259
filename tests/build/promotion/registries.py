"""A registry with adapters in it, and scores that candidates are given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipstream.build.mlflow_client import open_client
from slipstream.build.promotion.comparison import Scores
from slipstream.build.promotion.standing import CHANNEL
from slipstream.build.registry import Registry
from tests.build.lora import write_lora

MODEL = "assistant"
QUESTIONS = tuple(f"q{number:02}" for number in range(30))
GOOD, MIDDLING, POOR = (dict.fromkeys(QUESTIONS, score) for score in (0.9, 0.5, 0.1))


class Scored:
    """Scores by version, and what was asked for; an evaluation of the real kind takes minutes."""

    def __init__(self, scores: Mapping[str, Scores]) -> None:
        self.scores, self.asked = scores, list[str]()

    def __call__(self, reference: str) -> Scores:
        self.asked.append(reference)
        return self.scores[reference.rpartition("/")[2]]


def register(registry: Registry, folder: Path, versions: int, model: str = MODEL, **config: Any) -> None:
    """Register that many adapters, different ones, none of them promoted."""
    for seed in range(versions):
        registry.register(write_lora(folder / f"{model}-{seed}", seed=seed, **config), model, None)


def aliases(registry: Registry, model: str = MODEL) -> dict[str, str]:
    with open_client(registry.uri) as client:
        return {name: str(version) for name, version in client.get_registered_model(model).aliases.items()}


def channels(registry: Registry, model: str = MODEL) -> dict[str, str]:
    """The tag of every version that has it."""
    with open_client(registry.uri) as client:
        versions = client.search_model_versions(f"name='{model}'")
        return {version.tags[CHANNEL]: str(version.version) for version in versions if CHANNEL in version.tags}
