"""A step of the script for the container, and the Python programs that some of them run from the script itself."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

# Arguments: serving.json without its end tokens, the merged checkpoint, where to write.
SERVING = """\
import json, pathlib, sys
merged, out = map(pathlib.Path, sys.argv[2:])
serving = json.loads(sys.argv[1])
for name in ("generation_config.json", "config.json"):
    eos = json.loads((merged / name).read_text()).get("eos_token_id") if (merged / name).exists() else None
    if eos is not None:
        break
else:
    sys.exit(f"{merged} names no eos_token_id: add it to generation_config.json")
serving["eos_token_ids"] = eos if isinstance(eos, list) else [eos]
out.write_text(json.dumps(serving, indent=1) + "\\n")
"""
# As `require_same_vocabulary` compares them; TensorRT-LLM never does.
VOCABULARY = """\
import json, pathlib, sys
def tokens(folder):
    try:
        told = json.loads(pathlib.Path(folder, "tokenizer.json").read_text(encoding="utf-8"))
        return dict(told["model"]["vocab"]) | {token["content"]: token["id"] for token in told.get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{folder} tells no vocabulary: {error!r}")
ours, theirs = map(tokens, sys.argv[1:])
if ours != theirs:
    sys.exit(f"target and draft have different vocabularies: {len(ours.items() ^ theirs.items())} entries differ")
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the script. It is left out where ``makes``, the folder that it makes, is there already.

    The command writes to `half_made` of it, so that what was broken off is no folder that the next run takes as done.
    What only prepares a later step is left out where ``prepares``, which that one makes, is there.
    """

    title: str
    command: Sequence[str]
    makes: PurePath | None = None
    document: str = ""
    prepares: PurePath | None = None

    def lines(self) -> Iterator[str]:
        yield f"step {shlex.quote(self.title)}"
        words = " \\\n  ".join(_lines_of(self.command))
        body = f"{words} <<'PY'\n{self.document}PY" if self.document else words
        unless = self.makes or self.prepares
        if unless is None:
            yield body
            return
        yield f"if [ -e {shlex.quote(str(unless))} ]; then echo 'there already'; else"
        yield from self._making(body)
        yield "fi"

    def _making(self, body: str) -> Iterator[str]:
        if self.makes is None:
            yield body
            return
        made, half = (shlex.quote(str(path)) for path in (self.makes, half_made(self.makes)))
        yield f"rm -rf -- {half}"
        yield body
        yield f"mv -T -- {half} {made}"


def half_made(folder: PurePath) -> PurePath:
    """Where ``folder`` is made."""
    return folder.with_name(f"{folder.name}.part")


def _lines_of(command: Sequence[str]) -> Iterator[str]:
    """Words, each option on a line with its value."""
    line: list[str] = []
    for word in command:
        if word.startswith("--") and line:
            yield " ".join(line)
            line = []
        line.append(shlex.quote(word))
    yield " ".join(line)


__all__ = ["SERVING", "VOCABULARY", "Step", "half_made"]
