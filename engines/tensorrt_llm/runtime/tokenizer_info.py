"""What the C++ backend's XGrammar has to be told of a vocabulary: ``xgrammar_tokenizer_info.json``.

NVIDIA makes the file with ``transformers`` and TensorRT-LLM (``generate_xgrammar_tokenizer_info.py``). Its three keys
follow from a ``tokenizer.json`` alone.
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
        raise EngineUnreadable(f"{tokenizer} is no tokenizer of this engine: {error!r}", "slipstream build") from error
    info = {"encoded_vocab": pieces, "tokenizer_str": content, "stop_token_ids": list(engine.eos_token_ids)}
    out.write_text(json.dumps(info), encoding="utf-8")
