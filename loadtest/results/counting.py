"""Counting the tokens of answers after a run: their texts are kept while it runs, because counting takes the core."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from slipstream.loadtest.sample import read_samples
from slipstream.loadtest.schedule.tokens import ServerTokenizer

_AT_ONCE = 1000


def count_tokens(samples: Path, answers: Path, tokenizer: ServerTokenizer) -> int:
    """Write ``counted_tokens`` into ``samples``; returns how many samples got one.

    The file is replaced at once, so it is never half counted.

    Args:
        answers: what ``--answers`` wrote: lines of ``{"index": ..., "text": ...}``.

    Raises:
        SamplesUnreadable: see `read_samples`.
        OSError: a file cannot be read or written.
    """
    counts: dict[int, int] = {}
    texts = _texts(answers)
    while some := list(islice(texts, _AT_ONCE)):
        counted = tokenizer.counts([text for _, text in some])
        counts.update(zip((index for index, _ in some), counted, strict=True))
    written, replacing = 0, samples.with_suffix(".counting")
    with replacing.open("w", encoding="utf-8") as lines:
        for sample in read_samples(samples):
            sample.counted_tokens = counts.get(sample.index)
            written += sample.counted_tokens is not None
            lines.write(sample.to_line() + "\n")
    replacing.replace(samples)
    return written


def _texts(answers: Path) -> Iterator[tuple[int, str]]:
    """Index and text of each answer; a last line that was cut off when the run was killed is left out."""
    with answers.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                said = json.loads(line)
                yield said["index"], said["text"]


__all__ = ["count_tokens"]
