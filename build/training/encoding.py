"""Samples as token ids: exactly as serving will put them, and once what the questions about one page share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from slipstream.build.training.dataset import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Encoded:
    """Prompt and answer as ids; the answer ends with the end-of-turn token and begins at ``answer_start``."""

    ids: list[int]
    answer_start: int


def encode_sample(sample: Sample, tokenizer: "PreTrainedTokenizerFast") -> Encoded:
    """The sample exactly as serving will put it: same template, same ids up to where the assistant begins."""
    text = str(tokenizer.apply_chat_template(sample.messages, tokenize=False, add_generation_prompt=True))
    prompt = tokenizer.encode(text, add_special_tokens=False)
    answer = tokenizer.encode(sample.answer, add_special_tokens=False)
    return Encoded([*prompt, *answer, int(str(tokenizer.eos_token_id))], len(prompt))


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """Samples whose prompts begin alike: ``prefix`` once, and for each what stands behind it, counted from there."""

    prefix: list[int]
    branches: list[Encoded]

    @property
    def answer_tokens(self) -> int:
        return sum(len(branch.ids) - branch.answer_start for branch in self.branches)

    @property
    def tokens(self) -> int:
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)


def encode_pages(samples: Sequence[Sample], tokenizer: "PreTrainedTokenizerFast") -> list[EncodedPage]:
    """Samples by page, in order. Ids are those of the whole samples: the prefix is where they agree."""
    pages: list[EncodedPage] = []
    for _, group in groupby(samples, key=lambda sample: sample.page):
        whole = [encode_sample(sample, tokenizer) for sample in group]
        # One prompt token has to stay in the branch: it predicts the answer's first.
        most = min(encoded.answer_start for encoded in whole) - 1
        columns = zip(*(encoded.ids[:most] for encoded in whole), strict=True)
        shared = next((at for at, column in enumerate(columns) if len(set(column)) > 1), most)
        branches = [Encoded(encoded.ids[shared:], encoded.answer_start - shared) for encoded in whole]
        pages.append(EncodedPage(whole[0].ids[:shared], branches))
    return pages
