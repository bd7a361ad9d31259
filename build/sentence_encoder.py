"""A sentence-transformers model in PyTorch, fp32: what the embedder is exported from and compared with."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.build.embedder_adapter import fold
from slipstream.build.references import ResolvedModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class EmbedderUnsupported(InputError):
    """The model is no sentence encoder, or pools in a way that is not known here."""


def load_encoder(model: ResolvedModel, adapter: Path | None = None) -> Any:
    """The encoder in fp32 with pooling and L2 norm: a module from ids and mask to unit vectors.

    The LoRA in the folder ``adapter`` is folded into its weights.

    Raises:
        EmbedderUnsupported: no encoder, or another pooling than mean or first token.
        AdapterInvalid: see `fold`.
    """
    import torch
    from transformers import AutoModel

    if model.weights != "safetensors":
        raise _unsupported(model, "is no safetensors checkpoint")
    takes_first = _takes_first_token(model)
    try:
        encoder: Any = AutoModel.from_pretrained(
            model.path, dtype=torch.float32, attn_implementation="eager", use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unsupported(model, f"cannot be loaded as an encoder: {error}") from error
    if adapter is not None:
        encoder = fold(encoder, adapter)

    class SentenceEncoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.dimension: int = encoder.config.hidden_size

        def forward(self, input_ids: "Tensor", attention_mask: "Tensor") -> "Tensor":
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            if takes_first:
                pooled = states[:, 0]
            else:
                weights = attention_mask.unsqueeze(-1).to(states.dtype)
                pooled = (states * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled, p=2.0, dim=1)

    return SentenceEncoder().eval()


def _takes_first_token(model: ResolvedModel) -> bool:
    """Whether sentences are pooled to their first token's state; otherwise to the mean of all.

    Raises:
        EmbedderUnsupported: neither, or the model does not say.
    """
    file = model.path / "1_Pooling" / "config.json"
    try:
        modes = {name for name, value in json.loads(file.read_text("utf-8")).items() if value is True}
    except (OSError, ValueError, AttributeError) as error:
        raise _unsupported(model, f"does not say how it pools: {error}") from error
    modes = {name for name in modes if name.startswith("pooling_mode_")}
    if modes not in ({"pooling_mode_mean_tokens"}, {"pooling_mode_cls_token"}):
        raise _unsupported(model, f"pools by {', '.join(sorted(modes)) or 'nothing'}; mean and first token are known")
    return modes == {"pooling_mode_cls_token"}


def _unsupported(model: ResolvedModel, why: str) -> EmbedderUnsupported:
    return EmbedderUnsupported(
        f"{model.reference} {why}", "choose a sentence-transformers model with safetensors weights as the embedder"
    )


def load_tokenizer(model: ResolvedModel) -> Any:
    """The fast tokenizer, cutting at ``model_max_length``: what sentence-transformers would cut at, and no more than
    the model has positions for."""
    from transformers import AutoConfig, AutoTokenizer

    load: Any = AutoTokenizer.from_pretrained
    tokenizer = load(model.path, use_fast=True, local_files_only=True)
    limits = [tokenizer.model_max_length, AutoConfig.from_pretrained(model.path).max_position_embeddings]
    declared = model.path / "sentence_bert_config.json"
    if declared.is_file():
        limits.append(json.loads(declared.read_text("utf-8")).get("max_seq_length") or limits[0])
    tokenizer.model_max_length = min(limits)
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.enable_truncation(tokenizer.model_max_length)
    return tokenizer


def embed_fp32(encoder: Any, ids: list[list[int]], done: Callable[[float], None]) -> "NDArray[np.float32]":
    """The original's unit vectors [n, dimension]."""
    import numpy as np
    import torch

    vectors = []
    with torch.inference_mode():
        for number, tokens in enumerate(ids):
            row = torch.tensor([tokens])
            vectors.append(encoder(row, torch.ones_like(row)).numpy())
            done((number + 1) / len(ids))
    return np.concatenate(vectors)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what PyTorch and transformers have to say about torchvision, tree specs and unused poolers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
