"""LoRA training on a real, tiny Llama: what carries the loss, what is saved, what reaches MLflow."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slipstream.build.adapter_fit import AdapterBaseMismatch, check_adapter
from slipstream.build.checkpoint import load_checkpoint
from slipstream.build.references import resolve_model
from slipstream.build.registry import NoSuchModel, Registry
from slipstream.build.training.dataset import DatasetOptions, Sample
from slipstream.build.training.encoding import Encoded, EncodedPage, encode_pages, encode_sample
from slipstream.build.training.evaluate import Answer, score
from slipstream.build.training.run import OutputTaken, RunOptions, train_and_register
from slipstream.build.training.train import TrainOptions, answer_loss, attach_lora, train
from slipstream.build.weights import WeightsDamaged
from slipstream.ensemble.retrieval.store import Chunk
from slipstream.settings import Settings
from tests.build.library import COLLECTION, index_library
from tests.tiny_llama import write_tiny_checkpoint

OPTIONS = TrainOptions(rank=2, learning_rate=1e-2, bf16=False)
CHUNKS = tuple(Chunk(f"p/{n}.py", "python", n, 1, 1, f"def {n}(): ...", "p", "") for n in ("one", "two"))


def quiet(share: float, doing: str) -> None:
    assert 0 <= share <= 1.0001


def sample(question: str, answer: str, page: int = 0) -> Sample:
    return Sample(question, CHUNKS, answer, (1,), "train", "en", page)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tuned(checkpoint: Path) -> torch.nn.Module:
    model, _ = load_checkpoint(resolve_model(str(checkpoint), checkpoint))
    attached = attach_lora(model, OPTIONS)
    torch.manual_seed(3)
    for name, parameter in attached.named_parameters():
        if "lora_B" in name:  # starts at zero, where nothing that feeds it has a gradient
            torch.nn.init.normal_(parameter, std=0.1)
    return attached


def pages(checkpoint: Path, *samples: Sample) -> list[EncodedPage]:
    _, tokenizer = load_checkpoint(resolve_model(str(checkpoint), checkpoint))
    return encode_pages(samples, tokenizer)


def test_only_the_answer_carries_the_loss(tuned: torch.nn.Module, checkpoint: Path) -> None:
    [page] = pages(checkpoint, sample("What is one?", "It is [1]."), sample("And two?", "That is [2]."))
    before = answer_loss(tuned, page)
    other = [Encoded([*branch.ids[:-3], 7, 8, 9], branch.answer_start) for branch in page.branches]
    assert answer_loss(tuned, replace(page, branches=other)) != before
    # As a label, a prompt token counts nothing: a page that is all prompt but for one token has that token's loss.
    ends = [Encoded(branch.ids, len(branch.ids) - 1) for branch in page.branches]
    alone = answer_loss(tuned, replace(page, branches=ends))
    assert 0 < alone < before
    assert page.answer_tokens == len("It is [1].") + 1 + len("That is [2].") + 1


def test_a_shared_prefix_changes_neither_loss_nor_gradient(tuned: torch.nn.Module, checkpoint: Path) -> None:
    samples = [sample("What is one?", "It is [1]."), sample("And two?", "That is [2], and long.")]
    [together] = pages(checkpoint, *samples)
    apart = pages(checkpoint, samples[0], replace(samples[1], page=1))
    assert len(together.prefix) > 100

    def gradients(*several: EncodedPage) -> tuple[float, list[torch.Tensor]]:
        tuned.zero_grad()
        loss = torch.stack([answer_loss(tuned, page) for page in several]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), [p.grad.clone() for p in tuned.parameters() if p.grad is not None]

    loss, with_prefix = gradients(together)
    expected, without = gradients(*(EncodedPage([], [Encoded(page.prefix + page.branches[0].ids,
                                    len(page.prefix) + page.branches[0].answer_start)]) for page in apart))  # fmt: skip
    assert loss == pytest.approx(expected, rel=1e-5)
    assert with_prefix
    for one, other in zip(with_prefix, without, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_sample_is_encoded_as_it_will_be_served(checkpoint: Path) -> None:
    _, tokenizer = load_checkpoint(resolve_model(str(checkpoint), checkpoint))
    encoded = encode_sample(sample("What is one?", "It is [1]."), tokenizer)
    text = tokenizer.decode(encoded.ids)
    assert text.endswith("Question: What is one?<|im_end|>\n<|im_start|>assistant\nIt is [1].<|im_end|>")
    assert tokenizer.decode(encoded.ids[encoded.answer_start :]) == "It is [1].<|im_end|>"


def test_training_learns_the_answer_touches_only_the_lora_and_repeats(checkpoint: Path) -> None:
    [page] = pages(checkpoint, sample("What is one?", "It is [1]."))
    runs: list[list[float]] = []
    for _ in range(2):
        model, _tokenizer = load_checkpoint(resolve_model(str(checkpoint), checkpoint))
        frozen = {name: parameter.clone() for name, parameter in model.named_parameters()}
        attached = attach_lora(model, OPTIONS)
        runs.append(train(attached, [page] * 12, replace(OPTIONS, epochs=5), quiet))
        for name, parameter in attached.named_parameters():
            if not parameter.requires_grad:
                plain = name.removeprefix("base_model.model.").replace(".base_layer", "")
                assert torch.equal(parameter, frozen[plain])
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0] - 0.3


def test_an_answer_counts_as_cited_only_for_a_context_of_its_prompt() -> None:
    asked = [sample("q", "a")] * 4
    answers = [Answer("No mark.", finished=True), Answer("See [1].", finished=True), Answer("See [2].", finished=False),
               Answer("See [7] and items[1].", finished=True)]  # fmt: skip
    citing = score(asked, answers)
    assert (citing.cited, citing.gold, citing.finished) == (0.5, 0.25, 0.75)
    assert citing.clean == pytest.approx(2 / 3)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return index_library(tmp_path_factory.mktemp("home"))


def run_options(checkpoint: Path, out: Path, **changes: object) -> RunOptions:
    dataset = DatasetOptions(pages=6, held_back=3, hold_out=frozenset({"mill"}), context_tokens=400)
    options = RunOptions(COLLECTION, str(checkpoint), "assistant", "staging", out, dataset, OPTIONS)
    return replace(options, **changes)  # type: ignore[arg-type]


def test_a_run_ends_in_an_adapter_that_fits_its_base_and_a_version_that_says_how(
    checkpoint: Path, settings: Settings, tmp_path: Path
) -> None:
    options = run_options(checkpoint, tmp_path / "adapter")
    trained, registered = train_and_register(options, settings, quiet)
    base = resolve_model(str(checkpoint), settings.cache_dir)
    assert check_adapter(trained.path, base).sha256 == registered.sha256
    assert Registry(settings.registry_uri).resolve("models:/assistant@staging", settings.cache_dir).path.is_dir()
    assert "≥ 1 valid citation" in (trained.path / "CARD.md").read_text(encoding="utf-8")
    run = logged_run(settings, registered.run_id)
    assert run.data.params["dataset_sha256"] == trained.dataset.digest
    assert run.data.params["hold_out"] == "mill"
    assert {"all.cited.base", "all.cited.adapter", "package.gold.adapter", "loss"} <= run.data.metrics.keys()

    with pytest.raises(OutputTaken):
        train_and_register(options, settings, quiet)
    other = resolve_model(str(write_tiny_checkpoint(tmp_path / "other", seed=1)), settings.cache_dir)
    with pytest.raises(AdapterBaseMismatch):
        check_adapter(trained.path, other)
    weights = trained.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(WeightsDamaged):
        Registry(settings.registry_uri).register(trained.path, "assistant", None)


def logged_run(settings: Settings, run_id: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    from mlflow.tracking import MlflowClient

    return MlflowClient(settings.registry_uri).get_run(run_id)


def test_a_registry_that_fails_leaves_the_adapter_and_says_how_to_register_it(
    checkpoint: Path, settings: Settings, tmp_path: Path
) -> None:
    from slipstream.build.registry import RegistryUnavailable

    settings = settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9"})
    with pytest.raises(RegistryUnavailable) as caught:
        train_and_register(run_options(checkpoint, tmp_path / "adapter"), settings, quiet)
    assert f"slipstream register {tmp_path / 'adapter'}" in caught.value.remedy
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("changes", [{"name": "a/b"}, {"alias": "latest"}])
def test_a_name_that_could_not_be_registered_is_refused_before_the_training(
    settings: Settings, tmp_path: Path, changes: dict[str, str]
) -> None:
    from slipstream.build.registry import NameInvalid

    with pytest.raises(NameInvalid):
        train_and_register(run_options(tmp_path / "no model", tmp_path / "adapter", **changes), settings, quiet)


def test_a_killed_run_leaves_no_adapter_and_no_version(checkpoint: Path, settings: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slipstream.cli", "train", "--collection", COLLECTION, "--name", "killed",
               "--base-model", str(checkpoint), "--pages", "30", "--held-back", "3", "--epochs", "60",
               "--hold-out", "mill", "--out", str(tmp_path / "adapter")]  # fmt: skip
    environment = {**os.environ, "SLIPSTREAM_HOME": str(settings.home), "COLUMNS": "80"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("training: " in line for line in process.stderr)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.stderr.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NoSuchModel):
        Registry(settings.registry_uri).resolve("models:/killed/1", settings.cache_dir)


def test_the_command_prints_one_json_object_on_stdout(checkpoint: Path, settings: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slipstream.cli", "train", "--collection", COLLECTION, "--json",
               "--base-model", str(checkpoint), "--pages", "4", "--held-back", "2", "--rank", "2",
               "--hold-out", "mill", "--out", str(tmp_path / "adapter")]  # fmt: skip
    environment = {**os.environ, "SLIPSTREAM_HOME": str(settings.home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["registered"].startswith("models:/code-assistant/")
    assert told["scores"]["adapter"]["all"]["questions"] == 2
