"""The tokenizer of the server under load: it counts answers, and makes prompts of a given length.

It is found in this order: the path given on the command line; the bundle that ``GET /v1/metadata`` names, where that
bundle is under ``$SLIPSTREAM_HOME/bundles``; none.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from slipstream import InputError

_FILE = "tokenizer.json"
_BUNDLE = re.compile(r"[0-9a-f]{8,64}")  # a server may say anything; what becomes a path is the name of a bundle


class TokenizerUnreadable(InputError):
    """What was named as a tokenizer is none."""


class ServerTokenizer:
    """Counts tokens as the server does.

    Attributes:
        path: of its ``tokenizer.json``.
        sha256: of that file.
    """

    def __init__(self, path: Path) -> None:
        """Read a ``tokenizer.json``, or the one in a folder.

        Raises:
            TokenizerUnreadable: there is none, or the library refuses it.
        """
        from tokenizers import Tokenizer

        self.path = path / _FILE if path.is_dir() else path
        try:
            content = self.path.read_bytes()
            self._tokenizer = Tokenizer.from_str(content.decode())
        except Exception as error:  # the library raises no type of its own
            raise TokenizerUnreadable(
                f"{self.path} is no tokenizer: {error}", "name a tokenizer.json in Hugging Face's format, or its folder"
            ) from error
        self._tokenizer.no_truncation()  # a file may say to cut or to fill up, which would miscount
        self._tokenizer.no_padding()
        self.sha256 = hashlib.sha256(content).hexdigest()

    def count(self, text: str) -> int:
        """Tokens of ``text`` alone; none are added for the start or the end of a sequence."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """`count` of each."""
        return [len(one.ids) for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def pieces(self) -> list[str]:
        """The text of every token alone, sorted, each once; spaces around it are left out."""
        ids = sorted(self._tokenizer.get_vocab().values())
        return sorted({text.strip() for text in self._tokenizer.decode_batch([[one] for one in ids])} - {""})

    @cached_property
    def template_tokens(self) -> int | None:
        """How many tokens the chat template adds to one user message; None where no template lies beside the tokenizer.

        Counted for a message of ordinary words: what stands around it is the same for each.
        """
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        try:
            template = (self.path.parent / "chat_template.jinja").read_text(encoding="utf-8")
            special = _special_tokens(self.path.parent)
            # The options that chat templates are written for (transformers, "Chat templates").
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            message = "Where is it?"
            rendered = environment.from_string(template).render(
                messages=[{"role": "user", "content": message}], add_generation_prompt=True, **special
            )
        except (OSError, ValueError, TypeError, TemplateError):
            return None
        return self.count(rendered) - self.count(message)


def _special_tokens(folder: Path) -> dict[str, str]:
    """The start and the end of a sequence as templates name them; empty where no file says them."""
    try:
        said = json.loads((folder / "special_tokens.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    named = said if isinstance(said, dict) else {}
    return {name: named[name] for name in ("bos_token", "eos_token") if isinstance(named.get(name), str)}


def find_tokenizer(given: Path | None, metadata: Mapping[str, Any] | None, bundles_dir: Path) -> ServerTokenizer | None:
    """The tokenizer to count with; None when nothing names one.

    Args:
        given: what the command line names.
        metadata: what ``GET /v1/metadata`` answered; None for a server that has no such page.
        bundles_dir: ``$SLIPSTREAM_HOME/bundles``.

    Raises:
        TokenizerUnreadable: ``given`` is no tokenizer, or that of the bundle is not.
    """
    if given is not None:
        return ServerTokenizer(given)
    bundle = (metadata or {}).get("bundle")
    name = bundle.get("id") if isinstance(bundle, Mapping) else None
    if not isinstance(name, str) or not _BUNDLE.fullmatch(name):
        return None
    path = bundles_dir / name / "tokenizer" / _FILE
    return ServerTokenizer(path) if path.is_file() else None


__all__ = ["ServerTokenizer", "TokenizerUnreadable", "find_tokenizer"]
