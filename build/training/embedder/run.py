"""A training run from source trees to an adapter's folder."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import structlog

from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.build.stages import digest_of
from slipstream.build.training.embedder.card import card_text
from slipstream.build.training.embedder.checkpoints import Checkpoints
from slipstream.build.training.embedder.evaluate import Finding, measure
from slipstream.build.training.embedder.held_out import suite_packages
from slipstream.build.training.embedder.pairs import PairOptions, Pairs, collect_pairs
from slipstream.build.training.embedder.train import TrainOptions, attach, train
from slipstream.build.training.run import LIBRARIES, OutputTaken
from slipstream.build.training.train import save_adapter
from slipstream.engines.protocols import Progress
from slipstream.ensemble.retrieval.roots import resolve_root

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What to train on what.

    Attributes:
        sources: as for ``slipstream index``: folders, files, ``pkg:NAME``.
        exclude: packages that must not be in it.
        held_out: the folder of a suite whose packages must not be in it either.
    """

    sources: tuple[str, ...]
    out: Path
    base_model: str
    exclude: tuple[str, ...] = ()
    held_out: Path | None = None
    training: TrainOptions = field(default_factory=TrainOptions)


@dataclass(frozen=True, slots=True)
class TrainedEmbedder:
    """What came out; ``scores`` by "base" and "adapter", ``losses`` (nats) by step."""

    path: Path
    base_model: str
    pairs: Pairs
    scores: Mapping[str, Finding]
    losses: tuple[float, ...]
    train_s: float


def train_embedder(options: RunOptions, cache_dir: Path, progress: Progress) -> TrainedEmbedder:
    """Collect the pairs, measure, train, measure again, save. What a killed run had finished is not done again.

    Raises:
        OutputTaken: ``out`` is there already.
        SourceNotFound, SourceHeldOut, NothingToLearnFrom, SuiteInvalid: the sources will not do.
        OtherTraining: a checkpoint beside ``out`` is of another run.
        EmbedderUnsupported, SlipstreamError: see `attach` and `resolve_model`.
    """
    if options.out.exists():
        raise OutputTaken(f"{options.out} is there already", "choose another --out, or move it away")
    roots = [resolve_root(source) for source in options.sources]
    names = frozenset(options.exclude) | (suite_packages(options.held_out) if options.held_out else frozenset())
    wanted = PairOptions(held_out=names, seed=options.training.seed)
    pairs = collect_pairs(roots, wanted, _part(progress, 0.0, 0.05))
    base = resolve_model(options.base_model, cache_dir, _part(progress, 0.05, 0.06))
    log.info("pairs_collected", train=len(pairs.train), held_back=len(pairs.held_back), digest=pairs.digest)
    tuned = attach(base, options.training)
    before = measure(tuned, pairs.held_back, _part(progress, 0.06, 0.1, "base: "))  # B is zero: the base model itself
    checkpoints = Checkpoints(options.out.with_name(f".{options.out.name}.training"), _run_id(options, pairs, base))
    started = perf_counter()
    end = train(tuned, pairs.train, options.training, checkpoints, _part(progress, 0.1, 0.95))
    train_s = perf_counter() - started
    after = measure(tuned, pairs.held_back, _part(progress, 0.95, 1.0, "adapter: "))
    scores = {"base": before, "adapter": after}
    trained = TrainedEmbedder(options.out, base.reference, pairs, scores, end.losses, train_s)
    save_adapter(tuned.encoder.encoder, base, options.out, prompt=None, card=_card(trained, options, names))
    checkpoints.remove()
    log.info("adapter_saved", path=str(options.out), train_s=round(train_s, 1), mrr_10=round(after.mrr_10, 4))
    return trained


def _run_id(options: RunOptions, pairs: Pairs, base: ResolvedModel) -> str:
    return digest_of([asdict(options.training), pairs.digest, base.sha256])


def _card(trained: TrainedEmbedder, options: RunOptions, names: frozenset[str]) -> str:
    training = options.training
    params: dict[str, Any] = {
        "base_model": trained.base_model,
        "dataset_sha256": trained.pairs.digest,
        "held_out": ", ".join(sorted(names)),
        "files_left_out": trained.pairs.left_out,
        **asdict(training),
        "alpha": training.alpha,
        "target_modules": ",".join(training.target_modules),
        "last_loss": round(sum(trained.losses[-25:]) / len(trained.losses[-25:]), 4),
        **{library: version(library) for library in LIBRARIES},
    }
    return card_text(
        command=_command(options), pairs=trained.pairs, scores=trained.scores, params=params, train_s=trained.train_s
    )


def _command(options: RunOptions) -> str:
    training = options.training
    words = ["slipstream", "train-embedder", *options.sources, "--out", options.out.name]
    words += ["--base-model", options.base_model, "--steps", str(training.steps), "--rank", str(training.rank)]
    words += ["--batch", str(training.batch), "--learning-rate", f"{training.learning_rate:g}"]
    words += ["--seed", str(training.seed)]
    words += [word for name in options.exclude for word in ("--exclude", name)]
    words += ["--held-out", str(options.held_out)] if options.held_out else []
    return shlex.join(words)


def _part(progress: Progress, first: float, last: float, doing: str = "") -> Progress:
    """A progress that fills ``first`` to ``last`` of ``progress``."""
    return lambda share, what: progress(first + share * (last - first), f"{doing}{what}")


__all__ = ["RunOptions", "TrainedEmbedder", "train_embedder"]
