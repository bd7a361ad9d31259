"""Synthetic prompts: exactly as long as they should be, and no two beginning alike."""

import json
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.loadtest.schedule.prompts import Prompt
from slipstream.loadtest.schedule.synthetic import MOST_PROMPTS, Synthetic, TokenizerMissing, TokenizerUnsuitable, Words
from slipstream.loadtest.schedule.tokens import ServerTokenizer
from tests.loadtest.tokenizers_made import write_letters, write_without_spaces, write_word_piece


@pytest.fixture(scope="session")
def words(tokenizer: ServerTokenizer) -> Words:
    return Words.of(tokenizer, seed=3)


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, MOST_PROMPTS), tokens=st.integers(1, 600))
def test_a_prompt_has_exactly_the_tokens_that_it_should(
    words: Words, tokenizer_folder: Path, number: int, tokens: int
) -> None:
    """Counted by the library itself, not by the code that wrote the prompt."""
    from tokenizers import Tokenizer

    text = words.write(number, tokens)
    assert len(Tokenizer.from_file(str(tokenizer_folder / "tokenizer.json")).encode(text).ids) == tokens


@pytest.mark.parametrize("tokens", [1, 7, 1024])
def test_the_chat_template_adds_the_same_to_each(words: Words, tokenizer: ServerTokenizer, tokens: int) -> None:
    """Words at the edges of a message do not merge with what the template puts there."""
    assert tokenizer.template_tokens is not None
    before, after = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    for number in range(20):
        rendered = before + words.write(number, tokens) + after
        assert tokenizer.count(rendered) == tokens + tokenizer.template_tokens


def test_a_tokenizer_of_another_kind_is_counted_by_too(tmp_path: Path) -> None:
    words = Words.of(ServerTokenizer(write_word_piece(tmp_path)), seed=1)
    assert [words.tokenizer.count(words.write(number, 40)) for number in range(50)] == [40] * 50


def test_where_neighbouring_words_merge_the_prompt_is_still_exact_or_refused(tmp_path: Path) -> None:
    words = Words.of(ServerTokenizer(write_without_spaces(tmp_path)), seed=1)
    made = []
    for number in range(50):
        with suppress(TokenizerUnsuitable):
            made.append(words.write(number, 60))
    assert len(made) > 25
    assert {words.tokenizer.count(text) for text in made} == {60}
    assert {len(text.split()) for text in made} != {60}


def test_neighbours_differ_in_their_first_token_and_all_in_the_first_few(words: Words) -> None:
    base, few = len(words.words), words.distinct_tokens
    assert base**few >= MOST_PROMPTS
    numbers = [*range(base), *range(base, 10 * base, 7), *range(base**2, base**2 + 40), MOST_PROMPTS - 1]
    beginnings = [tuple(words.write(number, 12).split()[:few]) for number in numbers]
    assert len({beginning[0] for beginning in beginnings[:base]}) == base
    assert len(set(beginnings)) == len(beginnings)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_no_prompt_is_how_another_one_begins(words: Words, one: int, other: int, tokens: int, more: int) -> None:
    """Whatever their lengths, as long as there are enough of the shorter."""
    few = max(2, tokens)
    assert len(words.words) ** 2 > 10_000
    if one != other:
        assert words.write(one, few).split()[:few] != words.write(other, few + more).split()[:few]


def test_too_many_prompts_that_are_too_short_are_refused(words: Words) -> None:
    words.check_enough(1, len(words.words))
    words.check_enough(words.distinct_tokens, MOST_PROMPTS)
    with pytest.raises(TokenizerUnsuitable, match="different prompts of 1 tokens"):
        words.check_enough(1, len(words.words) + 1)


def test_without_a_tokenizer_the_error_says_how_to_name_one() -> None:
    with pytest.raises(TokenizerMissing) as caught:
        Words.of(None, seed=1)
    assert "--tokenizer" in caught.value.remedy
    assert "tokenizer.json" in caught.value.remedy


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerUnsuitable, match="only 0 words"):
        Words.of(ServerTokenizer(write_letters(tmp_path)), seed=1)


def take(source: Synthetic, count: int, *key: int) -> list[Prompt]:
    return list(islice(source.stream(range(count), *key), count))


def test_lengths_are_drawn_evenly_between_both_ends(words: Words) -> None:
    drawn = [int(prompt.id.split("-")[2]) for prompt in take(Synthetic(words, (3, 6), "chat"), 2000)]
    assert {length: drawn.count(length) // 100 for length in set(drawn)}.keys() == {3, 4, 5, 6}
    assert all(400 < drawn.count(length) < 600 for length in (3, 4, 5, 6))


def test_a_prompt_is_that_of_its_number_whoever_asks_it(words: Words) -> None:
    """Users of a closed loop draw their lengths apart; number and length make the prompt."""
    source = Synthetic(words, (5, 9), "completions")
    prompts = {prompt.id: prompt.asked for key in range(3) for prompt in take(source, 50, key)}
    for name, asked in prompts.items():
        _, number, tokens = name.split("-")
        assert asked == {"prompt": words.write(int(number), int(tokens))}
    assert len({json.dumps(asked) for asked in prompts.values()}) == len(prompts)


def test_another_seed_writes_other_prompts(tokenizer: ServerTokenizer) -> None:
    """A server that kept the prefixes of the last run must not be helped by them."""
    texts = [Words.of(tokenizer, seed).write(0, 30) for seed in range(10)]
    assert len({text.split()[0] for text in texts}) > 5
    assert len(set(texts)) == 10
