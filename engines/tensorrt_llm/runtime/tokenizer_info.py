"""What XGrammar has to be told of a vocabulary, in the form that each mode of TensorRT-LLM reads.

Both follow from a ``tokenizer.json``. NVIDIA makes the file of the C++ backend with ``transformers`` and TensorRT-LLM
(``generate_xgrammar_tokenizer_info.py``); the LLM class loads a folder with ``transformers`` by itself.
"""

import json
from pathlib import Path
from typing import Any

from slipstream.engines.tensorrt_llm.runtime.served import EngineUnreadable, ServedEngine

TOKENIZER_INFO = "xgrammar_tokenizer_info.json"


def write_tokenizer_info(tokenizer: Path, engine: ServedEngine, out: Path) -> None:
    """Write to ``out`` what ``tokenizer`` (a byte-level ``tokenizer.json``) says of the tokens of ``engine``.

    Special tokens have no text, so that no grammar can take one for what it is spelled like; which of them end a text
    is told by their ids.

    Raises:
        EngineUnreadable: ``tokenizer`` is none, or of another model.
    """
    try:
        content = tokenizer.read_text(encoding="utf-8")
        told: dict[str, Any] = json.loads(content)
        pieces = [""] * engine.vocabulary_size
        for text, token in told["model"]["vocab"].items():
            pieces[token] = text
        for added in told["added_tokens"]:
            pieces[added["id"]] = "" if added["special"] else added["content"]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise _unreadable(tokenizer, error) from error
    info = {"encoded_vocab": pieces, "tokenizer_str": content, "stop_token_ids": list(engine.eos_token_ids)}
    out.write_text(json.dumps(info), encoding="utf-8")


def write_tokenizer_folder(tokenizer: Path, engine: ServedEngine, out: Path) -> None:
    """Write to the folder ``out`` what ``transformers`` needs to load ``tokenizer`` and to know its end token.

    Raises:
        EngineUnreadable: ``tokenizer`` is none, or of another model.
    """
    try:
        content = tokenizer.read_text(encoding="utf-8")
        added = {token["id"]: token["content"] for token in json.loads(content)["added_tokens"]}
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": added[engine.eos_token_ids[0]],
            "clean_up_tokenization_spaces": False,
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(tokenizer, error) from error
    (out / "tokenizer.json").write_text(content, encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def _unreadable(tokenizer: Path, error: Exception) -> EngineUnreadable:
    return EngineUnreadable(f"{tokenizer} is no tokenizer of this engine: {error!r}", "slipstream build RECIPE")
