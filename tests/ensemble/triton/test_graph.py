"""The typed graph and the configurations that Triton reads."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from slipstream.ensemble.triton.graph import Ensemble, Graph, GraphError, Model, Step, Tensor, build_graph, render


def configs(**options: Any) -> dict[str, Any]:
    texts = render(build_graph(384, {"bundle": "/bundles/x"}, **options))
    return {name: text_format.Parse(text, ModelConfig()) for name, text in texts.items()}


def shape(config: Any, side: str) -> dict[str, tuple[int, list[int]]]:
    return {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in getattr(config, side)}


class TestRefused:
    """What Triton would say only when it loads."""

    def ensemble(self, *steps: Step, outputs: tuple[str, ...]) -> Graph:
        return Graph((), (Ensemble("e", steps, outputs),))

    first = Model("first", "python", (Tensor("a", "INT32"),), (Tensor("b", "INT32"),))
    stream = Model("stream", "python", (Tensor("b", "INT32"),), (Tensor("c", "INT32"),), decoupled=True)

    def test_a_decoupled_step_before_another(self) -> None:
        after = replace(self.first, name="after")
        with pytest.raises(GraphError, match="last"):
            render(self.ensemble(Step(self.stream), Step(after), outputs=("b",)))

    def test_an_earlier_output_beside_a_decoupled_one(self) -> None:
        with pytest.raises(GraphError, match="joined"):
            render(self.ensemble(Step(self.first), Step(self.stream), outputs=("b", "c")))

    def test_an_output_that_no_step_makes(self) -> None:
        with pytest.raises(GraphError, match="no step produces nothing"):
            render(self.ensemble(Step(self.first), outputs=("nothing",)))

    def test_leaving_out_an_input_that_is_needed(self) -> None:
        with pytest.raises(GraphError, match="needs a"):
            render(self.ensemble(Step(self.first, skip=frozenset({"a"})), outputs=("b",)))


class TestRendered:
    def test_no_placeholder_is_left(self) -> None:
        assert not any("${" in text or "{{" in text for text in render(build_graph(384, {})).values())

    def test_hits_go_through_the_generator(self) -> None:
        """A citation cannot leave the retriever beside streamed text."""
        steps = configs()["rag"].ensemble_scheduling.step
        retriever, generator = steps[1], steps[2]
        assert generator.input_map["hits"] == retriever.output_map["hits"] != generator.output_map["hits"]

    def test_a_search_has_no_tensor_that_nothing_reads(self) -> None:
        """Triton refuses one ("ensemble tensor 'prompt_ids' is unused")."""
        retriever = configs()["search"].ensemble_scheduling.step[1]
        assert dict(retriever.output_map) == {"hits": "hits", "retrieve_ns": "retrieve_ns"}

    def test_ensemble_tensors_have_the_types_of_the_steps(self) -> None:
        all_configs = configs()
        rag, generator = all_configs["rag"], all_configs["generator"]
        assert shape(rag, "output") == shape(generator, "output")
        assert shape(rag, "input").keys() == {
            "input_ids", "attention_mask", "messages", "search", "max_tokens", "generation_id", "temperature", "top_p",
            "seed", "stop", "ignore_eos",
        }  # fmt: skip

    def test_only_the_generator_is_decoupled(self) -> None:
        decoupled = [name for name, config in configs().items() if config.model_transaction_policy.decoupled]
        assert decoupled == ["generator"]

    def test_the_embedder_has_the_same_tensors_on_the_native_backend(self) -> None:
        embedded, native = configs()["embedder"], configs(embedder_backend="onnxruntime")["embedder"]
        assert (embedded.backend, native.backend) == ("python", "onnxruntime")
        assert shape(embedded, "input") == shape(native, "input")
        assert shape(native, "output").items() <= shape(embedded, "output").items()
        assert not native.parameters  # the backend would refuse keys it does not know

    @pytest.mark.parametrize("backend", ["python", "onnxruntime"])
    def test_stage_times_enter_the_generator_only(self, backend: str) -> None:
        """Where they entered the retriever, no response cache could find two of its requests equal."""
        found = configs(embedder_backend=backend)
        told = {"embed_ns", "retrieve_ns"} - ({"embed_ns"} if backend == "onnxruntime" else set())
        assert not any(
            name.endswith("_ns") for model in ("embedder", "retriever") for name in shape(found[model], "input")
        )
        embedder, retriever, generator = found["rag"].ensemble_scheduling.step
        assert {name for name in generator.input_map if name.endswith("_ns")} == told
        produced = {place for step in (embedder, retriever) for place in step.output_map.values()}
        assert {generator.input_map[name] for name in told} <= produced
        assert {name for name in shape(found["search"], "output") if name.endswith("_ns")} == told

    def test_the_embedder_is_warmed_up_before_it_is_ready(self) -> None:
        (sample,) = configs()["embedder"].model_warmup
        assert {name: list(entry.dims) for name, entry in sample.inputs.items()} == {
            "input_ids": [1, 16], "attention_mask": [1, 16],
        }  # fmt: skip
