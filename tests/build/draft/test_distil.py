"""A draft cut from a tiny Llama: which layers stay, that it learns what the whole model says, and that it survives."""

import json
import pickle
import shutil
from pathlib import Path
from random import Random

import pytest

from slipstream.build.draft.cut import TooManyLayers, VocabularyMismatch, check_same_tokens, cut_layers, kept_layers
from slipstream.build.draft.distil import DistilOptions, DistilReport, Lesson, NothingToLearn, distil
from tests.tiny_llama import write_tiny_checkpoint

OPTIONS = DistilOptions(layers=1, steps=40, save_every=8, learning_rate=3e-3, bf16=False)

NO_STATES = (
    b"",
    b"half a file",
    b"hello there" * 100,
    b"\x80\x02garbage",
    b"PK\x03\x04" + bytes(500),
    pickle.dumps([1], 2),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its layers say something: as they are drawn, they hardly change what goes through them."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight *= 8 if weight.dim() == 2 else 1
    model.save_pretrained(folder)
    return folder


def lessons(count: int = 8) -> list[Lesson]:
    random = Random(1)  # noqa: S311
    return [
        Lesson([random.randrange(3, 250) for _ in range(20)], [random.randrange(3, 250) for _ in range(6)])
        for _ in range(count)
    ]


def run(checkpoint: Path, out: Path, options: DistilOptions = OPTIONS, state: Path | None = None) -> DistilReport:
    return distil(checkpoint, lessons(), out, options, lambda *_: None, state)


class Killed(Exception):
    pass


class TestLayers:
    def test_the_first_the_last_and_evenly_spaced_ones_stay(self) -> None:
        assert kept_layers(30, 6) == [0, 6, 12, 17, 23, 29]
        assert kept_layers(3, 2) == [0, 2]
        assert kept_layers(30, 1) == [0]
        assert kept_layers(30, 29)[-1] == 29
        assert len(set(kept_layers(30, 29))) == 29

    @pytest.mark.parametrize("wanted", [0, 2, 3])
    def test_as_many_as_the_model_has_are_none(self, checkpoint: Path, tmp_path: Path, wanted: int) -> None:
        with pytest.raises(TooManyLayers, match="cannot be cut from a model of 2"):
            run(checkpoint, tmp_path, DistilOptions(layers=wanted, steps=1))

    def test_a_layer_that_moves_up_caches_where_it_stands_now(self) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2
        )
        draft = cut_layers(LlamaForCausalLM(config), 2)
        assert [layer.self_attn.layer_idx for layer in draft.get_decoder().layers] == [0, 1]
        with torch.inference_mode():
            assert len(draft(torch.tensor([[5, 6]])).past_key_values) == 2

    def test_the_cut_model_generates_with_its_cache(self, checkpoint: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(checkpoint)
        draft = cut_layers(model, 1).eval()
        ids = torch.tensor([[5, 6, 7, 8]])
        with torch.inference_mode():
            cached = draft.generate(ids, max_new_tokens=6, do_sample=False, min_new_tokens=6)
            fresh = draft.generate(ids, max_new_tokens=6, do_sample=False, min_new_tokens=6, use_cache=False)
        assert cached.tolist() == fresh.tolist()
        assert model.config.num_hidden_layers == 2


class TestVocabulary:
    def test_one_checkpoint_fits_itself(self, checkpoint: Path) -> None:
        check_same_tokens(checkpoint, checkpoint)

    @pytest.mark.parametrize("place", ["vocab", "normalizer", "added", "size", "eos"])
    def test_any_difference_is_named(self, checkpoint: Path, tmp_path: Path, place: str) -> None:
        other = write_tiny_checkpoint(tmp_path)
        named = {
            "vocab": "the vocabulary", "normalizer": "how text is split", "added": "added tokens",
            "size": "vocabulary size", "eos": "end-of-sequence",
        }  # fmt: skip
        name = "config.json" if place in ("size", "eos") else "tokenizer.json"
        told = json.loads((other / name).read_text())
        if place == "vocab":
            vocab = told["model"]["vocab"]
            one, two = list(vocab)[-2:]
            vocab[one], vocab[two] = vocab[two], vocab[one]
        elif place == "normalizer":
            told["normalizer"] = {"type": "Lowercase"}
        elif place == "added":
            told["added_tokens"][0]["content"] = "<|other|>"
        else:
            told[{"size": "vocab_size", "eos": "eos_token_id"}[place]] = 1
        (other / name).write_text(json.dumps(told))
        with pytest.raises(VocabularyMismatch, match=named[place]):
            check_same_tokens(checkpoint, other)

    @pytest.mark.parametrize("content", ["[]", '{"model": []}', '{"model": {"vocab": {}}, "added_tokens": [1]}', "{"])
    def test_a_tokenizer_that_is_none_is_refused(self, checkpoint: Path, tmp_path: Path, content: str) -> None:
        (tmp_path / "tokenizer.json").write_text(content)
        (tmp_path / "config.json").write_text('{"vocab_size": 320}')
        with pytest.raises(VocabularyMismatch, match="tells no vocabulary"):
            check_same_tokens(checkpoint, tmp_path)

    def test_a_folder_that_tells_none_is_refused(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(VocabularyMismatch, match="tells no vocabulary"):
            check_same_tokens(checkpoint, tmp_path)


class TestDistillation:
    def test_nothing_to_learn_is_told_and_no_endless_loop(self, checkpoint: Path, tmp_path: Path) -> None:
        with pytest.raises(NothingToLearn, match="no prompt was answered"):
            distil(checkpoint, [], tmp_path, OPTIONS, lambda *_: None)

    def test_what_is_told_is_how_far_the_draft_is_from_the_model_where_it_answers(
        self, checkpoint: Path, tmp_path: Path
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        one = lessons(1)
        options = DistilOptions(layers=1, steps=1, bf16=False)
        report = distil(checkpoint, one, tmp_path, options, lambda *_: None)
        model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
        ids = torch.tensor([[*one[0].prompt_ids, *one[0].answer_ids]])
        with torch.inference_mode():
            models, drafts = (each(ids).logits[0, :-1].log_softmax(-1) for each in (model, cut_layers(model, 1)))
        divergence = (models.exp() * (models - drafts)).sum(-1)  # of the model's, at every position
        assert report.kl_first == pytest.approx(float(divergence[-len(one[0].answer_ids) :].mean()), rel=1e-4)

    def test_a_model_with_dropout_goes_on_and_ends_the_same(self, checkpoint: Path, tmp_path: Path) -> None:
        copied = tmp_path / "copied"
        shutil.copytree(checkpoint, copied)
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
        options = DistilOptions(layers=1, steps=4, save_every=2, bf16=False)

        def kill(share: float, doing: str) -> None:
            if share > 0.5:
                raise Killed

        with pytest.raises(Killed):
            distil(copied, lessons(), tmp_path / "killed", options, kill, tmp_path / "state")
        assert run(copied, tmp_path / "resumed", options, tmp_path / "state").resumed_at == 2
        run(copied, tmp_path / "whole", options)
        whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "resumed"))
        assert resumed == whole

    def test_the_draft_comes_nearer_to_the_model(self, checkpoint: Path, tmp_path: Path) -> None:
        report = run(checkpoint, tmp_path / "draft")
        assert report.kl_last < report.kl_first / 2
        check_same_tokens(checkpoint, tmp_path / "draft")

    def test_what_it_shares_with_the_model_stays_the_models(self, checkpoint: Path, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        run(checkpoint, tmp_path)
        model, draft = (load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path))
        shared = [name for name in draft if ".layers." not in name]
        assert shared
        assert all(draft[name].equal(model[name]) for name in shared)
        assert not any(name.startswith("model.layers.1.") for name in draft)
        assert any(not draft[name].equal(model[name]) for name in draft if ".layers.0." in name)

    def test_equal_arguments_give_equal_bytes_and_another_seed_others(self, checkpoint: Path, tmp_path: Path) -> None:
        options = (OPTIONS, OPTIONS, DistilOptions(1, 40, seed=8, learning_rate=3e-3, bf16=False))
        written = []
        for number, option in enumerate(options):
            run(checkpoint, tmp_path / str(number), option)
            written.append((tmp_path / str(number) / "model.safetensors").read_bytes())
        assert written[0] == written[1] != written[2]

    def test_a_killed_run_goes_on_where_it_was_saved_and_ends_the_same(self, checkpoint: Path, tmp_path: Path) -> None:
        state = tmp_path / "state"

        def kill(share: float, doing: str) -> None:
            if share > 0.5:
                raise Killed

        with pytest.raises(Killed):
            distil(checkpoint, lessons(), tmp_path / "killed", OPTIONS, kill, state)
        report = run(checkpoint, tmp_path / "resumed", state=state)
        assert report.resumed_at == 16
        assert not state.exists()
        run(checkpoint, tmp_path / "whole")
        whole, resumed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "resumed"))
        assert resumed == whole

    def test_one_killed_while_it_saves_goes_on_from_the_save_before(
        self, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch

        save, saved = torch.save, []

        def break_off_the_second(content: object, path: Path) -> None:
            saved.append(path)
            if len(saved) == 2:
                path.write_bytes(b"PK half of it")
                raise Killed
            save(content, path)

        state = tmp_path / "state"
        monkeypatch.setattr(torch, "save", break_off_the_second)
        with pytest.raises(Killed):
            run(checkpoint, tmp_path / "killed", state=state)
        assert run(checkpoint, tmp_path / "resumed", state=state).resumed_at == 8
        assert [path.name for path in tmp_path.iterdir() if "state" in path.name] == []

    @pytest.mark.parametrize("left", NO_STATES, ids=range(len(NO_STATES)))
    def test_a_state_that_is_no_state_is_ignored(self, checkpoint: Path, tmp_path: Path, left: bytes) -> None:
        (tmp_path / "state").write_bytes(left)
        assert run(checkpoint, tmp_path / "draft", state=tmp_path / "state").resumed_at == 0

    def test_a_state_of_another_run_is_ignored(self, checkpoint: Path, tmp_path: Path) -> None:
        state = tmp_path / "state"

        def kill(share: float, doing: str) -> None:
            if share > 0.5:
                raise Killed

        with pytest.raises(Killed):
            distil(checkpoint, lessons(9), tmp_path / "other", OPTIONS, kill, state)
        assert run(checkpoint, tmp_path / "draft", state=state).resumed_at == 0
