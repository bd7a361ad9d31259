"""A draft's beginning: the merged model with some of its layers, and a check that both speak of the same tokens.

Method: Men et al. 2024, "ShortGPT" (layers can be left out), and Sanh et al. 2019, "DistilBERT", section 3 (a student
takes evenly spaced layers of its teacher).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import InputError
from slipstream.ensemble.tokenizer import TOKENIZER

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TooManyLayers(InputError):
    """The draft is to have as many layers as the model, or more."""


class VocabularyMismatch(InputError):
    """Draft and engine do not mean the same text by a token."""


def kept_layers(total: int, wanted: int) -> list[int]:
    """Which of ``total`` layers a draft of ``wanted`` keeps: the first, the last and evenly spaced ones between.

    Raises:
        TooManyLayers: it would be the model itself.
    """
    if not 1 <= wanted < total:
        raise TooManyLayers(
            f"a draft of {wanted} layers cannot be cut from a model of {total}", f"set draft.layers to 1 to {total - 1}"
        )
    if wanted == 1:
        return [0]
    return [round(place * (total - 1) / (wanted - 1)) for place in range(wanted)]


def cut_layers(model: "PreTrainedModel", wanted: int) -> "PreTrainedModel":
    """A copy of ``model`` with ``wanted`` of its layers.

    Raises:
        TooManyLayers: see `kept_layers`.
    """
    from copy import deepcopy

    from torch.nn import ModuleList

    kept = kept_layers(model.config.num_hidden_layers, wanted)
    draft: Any = deepcopy(model)
    decoder = draft.get_decoder()
    decoder.layers = ModuleList(decoder.layers[place] for place in kept)
    for place, layer in enumerate(decoder.layers):
        layer.self_attn.layer_idx = place  # where its keys and values are cached
    draft.config.num_hidden_layers = wanted
    if getattr(draft.config, "layer_types", None):
        draft.config.layer_types = [draft.config.layer_types[place] for place in kept]
    cut: PreTrainedModel = draft
    return cut


def check_same_tokens(target: Path, draft: Path) -> None:
    """See that two checkpoint folders have one vocabulary: equal tokenizers, sizes and end-of-sequence tokens.

    Raises:
        VocabularyMismatch: naming what differs.
    """
    ours, theirs = _tokens(target), _tokens(draft)
    differing = [name for name, value in ours.items() if theirs[name] != value]
    if differing:
        raise VocabularyMismatch(
            f"{draft} is no draft for {target}: they differ in {', '.join(differing)}",
            "a draft has to come from the same model family, with the same tokenizer",
        )


def _tokens(folder: Path) -> dict[str, Any]:
    try:
        tokenizer = json.loads((folder / TOKENIZER).read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return {
            "the vocabulary": tokenizer["model"]["vocab"],
            "how text is split": [
                tokenizer.get("normalizer"),
                tokenizer.get("pre_tokenizer"),
                tokenizer["model"].get("merges"),
            ],
            "added tokens": [[token["id"], token["content"]] for token in tokenizer["added_tokens"]],
            "vocabulary size": config["vocab_size"],
            "end-of-sequence tokens": config.get("eos_token_id"),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyMismatch(f"{folder} tells no vocabulary: {error!r}", "slipstream build") from error


__all__ = ["TooManyLayers", "VocabularyMismatch", "check_same_tokens", "cut_layers", "kept_layers"]
