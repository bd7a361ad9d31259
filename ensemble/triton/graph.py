"""The ensemble as typed Python, and how it becomes Triton's `ModelConfig` messages.

The tensors are those of the table in `slipstream.ensemble.contracts`. Configurations are protobuf messages from
`tritonclient` and are printed by protobuf itself, so a `config.pbtxt` can hold no placeholder and no unknown field.
Rules that Triton would only tell at load time are checked here first (its `src/ensemble_scheduler/ensemble_utils.cc`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from slipstream import SlipstreamError
from slipstream.ensemble.contracts import EMBEDDER, GENERATOR, RAG, RETRIEVER, SEARCH
from slipstream.ensemble.stage_marks import EMBED_MARKS, EMBED_NS, MARKS_NS, RETRIEVE_MARKS, RETRIEVE_NS

DataType = Literal["BOOL", "INT32", "INT64", "FP32", "BYTES"]
EmbedderBackend = Literal["python", "onnxruntime"]


class GraphError(SlipstreamError):
    """The graph contradicts itself; Triton would refuse it when it loads."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output; ``dims`` has -1 for a length known only at run time."""

    name: str
    dtype: DataType
    dims: tuple[int, ...] = (1,)
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a backend runs. ``decoupled`` models answer any number of times per request."""

    name: str
    backend: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    decoupled: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    warm_up: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shapes of a zero-filled request that Triton runs before it calls the model ready."""


@dataclass(frozen=True, slots=True)
class Step:
    """One model in an ensemble. A tensor of the model is bound to the ensemble's tensor of the same name."""

    model: Model
    skip: frozenset[str] = frozenset()
    """Optional inputs that stay unset."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Steps in the order of the data. Its inputs are what no step produces."""

    name: str
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        produced: set[str] = set()
        needed: dict[str, Tensor] = {}
        for step in self.steps:
            for tensor in step.model.inputs:
                if tensor.name not in produced and tensor.name not in step.skip:
                    needed.setdefault(tensor.name, replace(tensor, optional=False))
            produced.update(tensor.name for tensor in step.model.outputs)
        return tuple(needed.values())


@dataclass(frozen=True, slots=True)
class Graph:
    models: tuple[Model, ...]
    ensembles: tuple[Ensemble, ...]


def build_graph(dimension: int, parameters: Mapping[str, str], embedder_backend: EmbedderBackend = "python") -> Graph:
    """The way of a question: embedder, retriever, generator, and the ensembles `rag` and `search` over them.

    Args:
        dimension: length of the embedder's vectors.
        parameters: handed to every model that Python runs.
        embedder_backend: ``onnxruntime`` where the image has that backend (NGC); the embedded Triton has not.
    """
    embed_ns, retrieve_ns = Tensor(EMBED_NS, "INT64", (EMBED_MARKS,)), Tensor(RETRIEVE_NS, "INT64", (RETRIEVE_MARKS,))
    embedder = Model(
        EMBEDDER,
        embedder_backend,
        (Tensor("input_ids", "INT64", (-1, -1)), Tensor("attention_mask", "INT64", (-1, -1))),
        (Tensor("embedding", "FP32", (-1, dimension)), *((embed_ns,) if embedder_backend == "python" else ())),
        parameters=parameters if embedder_backend == "python" else {},
        warm_up={"input_ids": (1, 16), "attention_mask": (1, 16)},
    )
    retriever = Model(
        RETRIEVER,
        "python",
        (
            Tensor("embedding", "FP32", (-1, dimension)),
            Tensor("messages", "BYTES"),
            Tensor("search", "BYTES"),
            Tensor("max_tokens", "INT32"),
        ),
        (Tensor("hits", "BYTES"), Tensor("prompt_ids", "INT32", (-1,)), retrieve_ns),
        parameters=parameters,
    )
    generator = Model(
        GENERATOR,
        "python",
        (
            Tensor("prompt_ids", "INT32", (-1,)),
            Tensor("generation_id", "BYTES"),
            Tensor("hits", "BYTES", optional=True),
            replace(embed_ns, optional=True),
            replace(retrieve_ns, optional=True),
            Tensor("max_tokens", "INT32"),
            Tensor("temperature", "FP32"),
            Tensor("top_p", "FP32"),
            Tensor("seed", "INT64"),
            Tensor("stop", "BYTES", (-1,)),
            Tensor("ignore_eos", "BOOL"),
            Tensor("cancel", "BOOL", optional=True),
        ),
        (
            Tensor("text", "BYTES"),
            Tensor("finish_reason", "BYTES"),
            Tensor("token_counts", "INT32", (2,)),
            Tensor("hits", "BYTES"),
            Tensor(MARKS_NS, "INT64", (-1,)),
        ),
        decoupled=True,
        parameters=parameters,
    )
    return Graph((embedder, retriever, generator), tuple(_ensembles(embedder, retriever, generator)))


def _ensembles(embedder: Model, retriever: Model, generator: Model) -> Iterator[Ensemble]:
    timed = [tensor.name for tensor in embedder.outputs if tensor.name == EMBED_NS]
    generate = Step(generator, skip=frozenset({"cancel"} if timed else {"cancel", EMBED_NS}))
    yield Ensemble(RAG, (Step(embedder), Step(retriever), generate), tuple(tensor.name for tensor in generator.outputs))
    yield Ensemble(SEARCH, (Step(embedder), Step(retriever)), ("hits", *timed, RETRIEVE_NS))


def render(graph: Graph) -> dict[str, str]:
    """``config.pbtxt`` of every model, by model name.

    Raises:
        GraphError: a step's input comes from nowhere, or an ensemble mixes decoupled and earlier outputs.
    """
    from google.protobuf import text_format

    configs = [_model_config(model) for model in graph.models]
    configs += [_ensemble_config(ensemble) for ensemble in graph.ensembles]
    return {config.name: text_format.MessageToString(config) for config in configs}


def _model_config(model: Model) -> Any:
    from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

    config = ModelConfig(name=model.name, backend=model.backend, max_batch_size=0)
    _add_tensors(config, model.inputs, model.outputs)
    config.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_CPU)
    if model.decoupled:
        config.model_transaction_policy.decoupled = True
    for key, value in model.parameters.items():
        config.parameters[key].string_value = value
    if model.warm_up:
        sample = config.model_warmup.add(name="zeros", batch_size=0)
        for tensor in model.inputs:
            entry = sample.inputs[tensor.name]
            entry.data_type = _data_type(tensor)
            entry.dims.extend(model.warm_up[tensor.name])
            entry.zero_data = True
    return config


def _ensemble_config(ensemble: Ensemble) -> Any:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    _check(ensemble)
    produced = {tensor.name: tensor for step in ensemble.steps for tensor in step.model.outputs}
    config = ModelConfig(name=ensemble.name, platform="ensemble", max_batch_size=0)
    _add_tensors(config, ensemble.inputs, tuple(produced[name] for name in ensemble.outputs))
    written: dict[str, str] = {}  # where the latest step wrote a tensor of that name
    for number, step in enumerate(ensemble.steps):
        entry = config.ensemble_scheduling.step.add(model_name=step.model.name, model_version=-1)
        for tensor in step.model.inputs:
            if tensor.name not in step.skip:
                entry.input_map[tensor.name] = written.get(tensor.name, tensor.name)
        outputs = _outputs(ensemble, number)
        for name, place in outputs.items():
            entry.output_map[name] = place
        written |= outputs
    return config


def _outputs(ensemble: Ensemble, number: int) -> dict[str, str]:
    """The outputs of step ``number`` that are read, and the ensemble tensors they are written to.

    Triton refuses a tensor that nothing reads. What a later step produces anew (`hits` pass through the generator) is
    an intermediate under another name.
    """
    model = ensemble.steps[number].model
    places: dict[str, str] = {}
    for name in (tensor.name for tensor in model.outputs):
        if _is_produced_again(ensemble, number, name):
            places[name] = f"{model.name}_{name}"
        elif name in ensemble.outputs or _is_read_later(ensemble, number, name):
            places[name] = name
    return places


def _is_produced_again(ensemble: Ensemble, number: int, name: str) -> bool:
    later = ensemble.steps[number + 1 :]
    return any(name == tensor.name for step in later for tensor in step.model.outputs)


def _is_read_later(ensemble: Ensemble, number: int, name: str) -> bool:
    later = ensemble.steps[number + 1 :]
    return any(name == tensor.name and name not in step.skip for step in later for tensor in step.model.inputs)


def _check(ensemble: Ensemble) -> None:
    decoupled = [step.model.name for step in ensemble.steps if step.model.decoupled]
    last = ensemble.steps[-1].model
    if decoupled and decoupled != [last.name]:
        raise GraphError(f"{ensemble.name}: the one decoupled step has to be the last, not {', '.join(decoupled)}")
    last_outputs = {tensor.name for tensor in last.outputs}
    if decoupled and not last_outputs.issuperset(ensemble.outputs):
        earlier = ", ".join(sorted(set(ensemble.outputs) - last_outputs))
        raise GraphError(f"{ensemble.name}: outputs of a decoupled step cannot be joined with earlier ones ({earlier})")
    for step in ensemble.steps:
        unskippable = [tensor.name for tensor in step.model.inputs if tensor.name in step.skip and not tensor.optional]
        if unskippable:
            raise GraphError(f"{ensemble.name}: {step.model.name} needs {', '.join(unskippable)}")
    produced = {tensor.name for step in ensemble.steps for tensor in step.model.outputs}
    if missing := sorted(set(ensemble.outputs) - produced):
        raise GraphError(f"{ensemble.name}: no step produces {', '.join(missing)}")


def _add_tensors(config: Any, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
    for tensor in inputs:
        entry = config.input.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)
        if tensor.optional:
            entry.optional = True
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)


def _data_type(tensor: Tensor) -> int:
    from tritonclient.grpc import model_config_pb2

    # ModelConfig calls a byte string what the inference protocol calls BYTES.
    return int(model_config_pb2.DataType.Value("TYPE_" + ("STRING" if tensor.dtype == "BYTES" else tensor.dtype)))
