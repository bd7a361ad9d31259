"""Checkpoints in memory and on disk: load a resolved model, save it as a Hugging Face folder, extract its tokenizer."""

import json
import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.build.references import ResolvedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_ROUND_TRIP = (
    "def f(x: int) -> str:\n    return x[0]  # 2048 items\n\n\tdone",
    "Где проверяется лимит запросов? Ёж, щука — «да».",
    "naïve café, 東京, emoji 🙂👩‍💻, tabs\tand  double  spaces",
)


_CONTROL = 3  # `tokenizer.ggml.token_type` of a control token


class CheckpointUnusable(InputError):
    """The weights load, yet something that serving needs is missing or wrong."""


def load_checkpoint(model: ResolvedModel) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """The model in fp32 on the CPU, in eval mode, and its tokenizer; GGUF weights are dequantized (some seconds).

    Raises:
        CheckpointUnusable: it cannot be read, is no decoder, has no chat template, or its tokenizer loses text.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(model)
    location: dict[str, Any] = (
        {"pretrained_model_name_or_path": model.path.parent, "gguf_file": model.path.name}
        if model.weights == "gguf"
        else {"pretrained_model_name_or_path": model.path, "use_safetensors": True}
    )
    try:
        with redirect_stderr(StringIO()):  # the progress bar of dequantizing cannot be switched off
            loaded: Any = AutoModelForCausalLM.from_pretrained(**location, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        raise CheckpointUnusable(
            f"{model.reference} cannot be loaded as a decoder: {error}",
            "choose a model that transformers can generate with",
        ) from error
    declared = loaded.generation_config.eos_token_id
    declared = declared if isinstance(declared, list) else [declared]
    ends = [tokenizer.eos_token_id, *declared, *_end_of_text(tokenizer)]
    loaded.generation_config.eos_token_id = list(dict.fromkeys(end for end in ends if end is not None))
    loaded.name_or_path = loaded.config.name_or_path = (
        model.reference
    )  # what peft writes into an adapter, instead of a path of this machine
    loaded.eval()
    return loaded, tokenizer


def load_tokenizer(model: ResolvedModel) -> "PreTrainedTokenizerFast":
    """The tokenizer of ``model``, proven to give back the text that it was given.

    Raises:
        CheckpointUnusable: it cannot be read, has no chat template, or loses text.
    """
    tokenizer = _gguf_tokenizer(model.path) if model.weights == "gguf" else _folder_tokenizer(model)
    if not tokenizer.chat_template:
        raise CheckpointUnusable(f"{model.reference} has no chat template", "choose an instruction-tuned model")
    for text in _ROUND_TRIP:
        back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), clean_up_tokenization_spaces=False)
        if back != text:
            raise CheckpointUnusable(
                f"the tokenizer of {model.reference} loses text: {text!r} comes back as {back!r}",
                "fetch the model again, or from another source",
            )
    return tokenizer


def _folder_tokenizer(model: ResolvedModel) -> "PreTrainedTokenizerFast":
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        auto: Any = AutoTokenizer
        tokenizer = auto.from_pretrained(model.path, local_files_only=True)
    except Exception as error:  # of a file that is cut or missing: AttributeError, TypeError, or no class of its own
        raise CheckpointUnusable(f"{model.reference} has no readable tokenizer: {error}", "fetch it again") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointUnusable(f"{model.reference} has no tokenizer.json", "choose a model with a fast tokenizer")
    return tokenizer


def _gguf_tokenizer(path: Path) -> "PreTrainedTokenizerFast":
    """Byte-level BPE as the file's metadata declares it.

    Built from the metadata instead of through ``AutoTokenizer(gguf_file=...)``, which takes it for a SentencePiece
    tokenizer: its decoder drops bytes, digits are not split, and a BOS is added that the model never saw.
    Names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, "Tokenizer".
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    try:
        fields = GGUFReader(path).fields
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise CheckpointUnusable(f"{path} is truncated or no GGUF file: {error}", "fetch the file again") from error

    def field(name: str, default: Any = None) -> Any:
        return fields[f"tokenizer.{name}"].contents() if f"tokenizer.{name}" in fields else default

    if (kind := (field("ggml.model"), field("ggml.pre"))) != ("gpt2", "smollm"):
        raise CheckpointUnusable(
            f"{path.name} has a tokenizer of kind {kind[0]}/{kind[1]}; from GGUF only gpt2/smollm is read",
            "use the same model as safetensors (hf:OWNER/NAME or a folder)",
        )
    tokens = field("ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in field("ggml.merges")]
    backend = Tokenizer(models.BPE(vocab={token: id_ for id_, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, field("ggml.token_type"), strict=True) if kind == _CONTROL]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    named = {role: field(f"ggml.{role}_token_id") for role in ("bos", "eos", "unknown", "padding")}
    names = {role: tokens[id_] for role, id_ in named.items() if id_ is not None}
    fast: Any = PreTrainedTokenizerFast
    built: PreTrainedTokenizerFast = fast(
        tokenizer_object=backend,
        bos_token=names.get("bos"),
        eos_token=names.get("eos"),
        unk_token=names.get("unknown"),
        pad_token=names.get("padding"),
        chat_template=field("chat_template"),
        clean_up_tokenization_spaces=False,
    )
    return built


def _end_of_text(tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """The id of ``<|endoftext|>`` where that is a control token: models that chat still end a document with it."""
    token = "<|endoftext|>"  # noqa: S105
    return [id_ for id_, added in tokenizer.added_tokens_decoder.items() if added.special and str(added) == token]


def save_checkpoint(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerFast", out: Path) -> None:
    """Write a Hugging Face folder: safetensors in the model's own dtype, configuration, tokenizer, chat template."""
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def write_tokenizer(checkpoint: Path, out: Path) -> None:
    """Write the bundle's ``tokenizer/`` folder (see `slipstream.ensemble.tokenizer`) from a saved checkpoint.

    Raises:
        CheckpointUnusable: ``checkpoint`` was not written by `save_checkpoint`.
    """
    try:
        settings = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
        generation = json.loads((checkpoint / "generation_config.json").read_text(encoding="utf-8"))
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        out.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "chat_template.jinja"):
            shutil.copyfile(checkpoint / name, out / name)
    except FileNotFoundError as error:
        raise CheckpointUnusable(
            f"{checkpoint} lacks {Path(error.filename).name}", "slipstream build RECIPE"
        ) from error
    special = {
        "bos_token": _spelling(settings.get("bos_token")),
        "eos_token": _spelling(settings.get("eos_token")),
        "eos_token_ids": generation["eos_token_id"],
        "context_length": config["max_position_embeddings"],
    }
    (out / "special_tokens.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")


def _spelling(token: str | dict[str, Any] | None) -> str:
    """A special token's text; older tokenizers write it as an object, some models have none."""
    return str(token["content"]) if isinstance(token, dict) else token or ""


__all__ = ["CheckpointUnusable", "load_checkpoint", "load_tokenizer", "save_checkpoint", "write_tokenizer"]
