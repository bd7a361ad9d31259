"""A training run from an indexed collection to a registered adapter."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from slipstream import InputError, SlipstreamError
from slipstream.build.checkpoint import load_checkpoint
from slipstream.build.references import resolve_model
from slipstream.build.registry import RegisteredAdapter, Registry, check_names
from slipstream.build.training.card import write_card
from slipstream.build.training.dataset import Dataset, DatasetOptions, build_dataset, describe_dataset
from slipstream.build.training.encoding import encode_pages
from slipstream.build.training.evaluate import Citing, answer_all, score_groups
from slipstream.build.training.train import TrainOptions, attach_lora, options_as_params, save_adapter, train
from slipstream.engines.protocols import Progress
from slipstream.ensemble.prompt import PROMPT
from slipstream.ensemble.retrieval.stores import open_store
from slipstream.settings import Settings

LIBRARIES = ("peft", "torch", "transformers")

log = structlog.get_logger(__name__)


class OutputTaken(InputError):
    """The folder that the adapter should go to is there already."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to train on what, and under which name to keep it."""

    collection: str
    base_model: str
    name: str
    alias: str | None
    out: Path | None
    dataset: DatasetOptions = field(default_factory=DatasetOptions)
    training: TrainOptions = field(default_factory=TrainOptions)


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out.

    Attributes:
        scores: by "base" and "adapter", then by group (`score_groups`), over the held-back questions.
        losses: nats per answer token, by optimizer step.
    """

    path: Path
    base_model: str
    dataset: Dataset
    facts: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Citing]]
    losses: list[float]
    train_s: float


def train_and_register(
    options: RunOptions, settings: Settings, progress: Progress
) -> tuple[Trained, RegisteredAdapter]:
    """Train, then register: a run that is killed leaves no adapter folder and no model version.

    Raises:
        OutputTaken, NameInvalid: before any work is done.
        CollectionNotFound, StoreUnavailable: there is no such collection, or it cannot be read.
        TooLittleToLearnFrom: the collection documents too few symbols.
        SlipstreamError: as `resolve_model`, `load_checkpoint` and `Registry.register` say; when only registering
            failed, the remedy names the adapter that was kept.
    """
    check_names(options.name, options.alias)
    trained = train_adapter(options, settings, progress)
    try:
        registered = register_trained(trained, options, Registry(settings.registry_uri))
    except SlipstreamError as error:
        error.remedy = f"the adapter is kept; when that is mended: slipstream register {trained.path}"
        raise
    return trained, registered


def train_adapter(options: RunOptions, settings: Settings, progress: Progress) -> Trained:
    """Make the dataset, evaluate the base, train, evaluate again, save. See `train_and_register` for what is raised."""
    import torch

    out = options.out or settings.root / "adapters" / f"{options.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if out.exists():
        raise OutputTaken(f"{out} is there already", "choose another --out, or move it away")
    reader = open_store(settings).reader(options.collection)
    try:
        base = resolve_model(options.base_model, settings.cache_dir, _part(progress, 0.0, 0.02))
        model, tokenizer = load_checkpoint(base)
        frozen: torch.nn.Module = model
        frozen.to(torch.bfloat16 if options.training.bf16 else torch.float32)  # the LoRA matrices come in fp32
        progress(0.02, "making the dataset")
        dataset = build_dataset(reader, lambda text: len(tokenizer.encode(text)), options.dataset)
    finally:
        reader.close()
    facts = _facts(dataset)
    log.info("dataset_made", digest=dataset.digest, **facts)
    before = answer_all(model, tokenizer, dataset.held_back, _part(progress, 0.05, 0.15, "base: "))
    # At these lengths a fifth cheaper on a CPU than the fused kernel, whose backward pass is slow.
    model.set_attn_implementation("eager")
    tuned = attach_lora(model, options.training)
    started = perf_counter()
    losses = train(
        tuned, encode_pages(dataset.train, tokenizer), options.training, _part(progress, 0.15, 0.93, "training: ")
    )
    train_s = perf_counter() - started
    after = answer_all(tuned, tokenizer, dataset.held_back, _part(progress, 0.93, 1.0, "adapter: "))
    scores = {
        "base": score_groups(dataset.held_back, before),
        "adapter": score_groups(dataset.held_back, after),
    }
    save_adapter(tuned, base, out)
    trained = Trained(out, base.reference, dataset, facts, scores, losses, train_s)
    write_card(out, params=params_of(trained, options), scores=scores)
    log.info("adapter_saved", path=str(out), train_s=round(train_s, 1), cited=scores["adapter"]["all"].cited)
    return trained


def register_trained(trained: Trained, options: RunOptions, registry: Registry) -> RegisteredAdapter:
    """The adapter as a model version, its run with parameters, metrics and the loss curve."""
    metrics = {
        f"{group}.{measure}.{who}": float(value)
        for who, groups in trained.scores.items()
        for group, citing in groups.items()
        for measure, value in asdict(citing).items()
    }
    metrics |= {**trained.facts, "train_s": trained.train_s}
    params = params_of(trained, options)
    return registry.register(
        trained.path, options.name, options.alias, params=params, metrics=metrics, curves={"loss": trained.losses}
    )


def params_of(trained: Trained, options: RunOptions) -> dict[str, Any]:
    """Everything that determines the adapter, flat."""
    return {
        "base_model": trained.base_model,
        "prompt_id": PROMPT.id,
        "collection": options.collection,
        "dataset_sha256": trained.dataset.digest,
        "pages": options.dataset.pages,
        "held_back": options.dataset.held_back,
        "hold_out": ",".join(sorted(options.dataset.hold_out)),
        "context_tokens": options.dataset.context_tokens,
        **options_as_params(options.training),
        **{library: version(library) for library in LIBRARIES},
    }


def _facts(dataset: Dataset) -> dict[str, float]:
    return {
        f"{name}.{fact}": value
        for name, samples in (("train", dataset.train), ("held_back", dataset.held_back))
        for fact, value in describe_dataset(samples).items()
    }


def _part(progress: Progress, first: float, last: float, doing: str = "") -> Progress:
    """A progress that fills ``first`` to ``last`` of ``progress``."""
    return lambda share, what: progress(first + share * (last - first), f"{doing}{what}")


__all__ = [
    "OutputTaken",
    "RunOptions",
    "Trained",
    "params_of",
    "register_trained",
    "train_adapter",
    "train_and_register",
]
