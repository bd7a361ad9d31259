"""The grammar of an answer, by what a real engine samples from it: valid marks only, and no end before one.

The engine's weights are random, and its vocabulary is made of the pieces that could break the rule: brackets merged
with digits, spaces and points, halves of characters, backticks in runs.
"""

import itertools
import re
from collections.abc import Iterator

import pytest

from slipstream.engines.openvino.runtime import OpenVinoRuntime
from slipstream.engines.protocols import RuntimeOptions, Sampling
from slipstream.ensemble.citations import CODE, MARK, CitationGuard, cited_numbers
from slipstream.ensemble.grammar import UNCITED_ENDS, citing_grammar, common_grammars
from tests.engines.conftest import Reader, compile_tiny_engine, write_vocabulary

PIECES = [
    piece.encode() if isinstance(piece, str) else piece
    for piece in (
        "[", " [", "][", "[[", "]", "].", "1", "2", "3", "0", "12", "[1", "2]", "[9]", "[0]", " [12]", "x[", "f(x)[",
        ")", "_", " ", ".", "\n", "word", " list", "Dict[str", ", ", "`", " `", "``", "```", "```py\n", "`]", "[`",
        " да", "я".encode()[:1], "я".encode()[1:], "٣", "[٣]", "—", "\x00", "\x07", "[^1]", "[-",
    )
]  # fmt: skip
MAX_TOKENS = 80
_numbers = itertools.count()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenVinoRuntime]:
    pieces = list(dict.fromkeys(PIECES))
    tokenizer = write_vocabulary(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json", pieces)
    options = RuntimeOptions(
        max_concurrency=16, kv_cache_bytes=16 * 2**20, tokenizer=tokenizer, grammars=common_grammars()
    )
    loaded = OpenVinoRuntime(compile_tiny_engine(tmp_path_factory.getbasetemp()), options)
    yield loaded
    loaded.close()


def sample(runtime: OpenVinoRuntime, contexts: int, count: int) -> list[tuple[str, str]]:
    """``count`` answers and why each ended."""
    pieces = list(dict.fromkeys(PIECES))
    readers = [
        Reader(
            runtime, f"g{next(_numbers)}", [3 + seed % 40, 4], Sampling(MAX_TOKENS, 3.0, seed=seed),
            citing_grammar(contexts),
        )
        for seed in range(count)
    ]  # fmt: skip
    texts = [
        b"".join(pieces[token - 3] for token in reader.wait().tokens).decode(errors="ignore") for reader in readers
    ]
    return [(text, reader.ends[0]) for text, reader in zip(texts, readers, strict=True)]


@pytest.mark.parametrize("contexts", [1, 2, 12])
def test_whatever_is_sampled_cites_only_contexts_and_ends_only_after_one(
    runtime: OpenVinoRuntime, contexts: int
) -> None:
    answers = sample(runtime, contexts, 240)
    for text, ended in answers:
        outside = re.sub(r"`+[^`]*`*\Z", "", CODE.sub("`", text))  # max_tokens may have cut in code
        assert all(1 <= int(digits) <= contexts for digits in re.findall(r"\[([0-9]+)(?=\])", outside)), text
        if ended == "stop":
            assert cited_numbers(text), text
            assert not re.search(r"\[[0-9]*\Z", text), text
            guard = CitationGuard(contexts)
            assert guard.feed(text) + guard.flush() == text
    assert sum(ended == "stop" for _, ended in answers) > 8
    assert {ended for _, ended in answers} == {"stop", "length"}
    finished = [text for text, ended in answers if ended == "stop"]
    assert set().union(*map(cited_numbers, finished)) >= set(range(1, min(contexts, 2) + 1))


def test_code_stays_possible(runtime: OpenVinoRuntime) -> None:
    written = "\0".join(text for text, ended in sample(runtime, 2, 480) if ended == "stop")
    spans = [match[0] for match in CODE.finditer(written)]
    assert any("[0]" in span for span in spans)
    assert any("[9]" in span for span in spans)
    assert any(span.startswith("```py\n") and span.endswith("```") for span in spans)
    assert any(span.startswith("``") and not span.startswith("```") for span in spans)
    assert re.search(r"Dict\[str", CODE.sub("`", written))
    assert re.search(r"\[\W*word", CODE.sub("`", written))
    assert "да" in written
    assert "f(x)[" in CODE.sub("`", written)


def test_no_contexts_no_grammar() -> None:
    with pytest.raises(ValueError, match="nothing to cite"):
        citing_grammar(0)


def test_a_model_that_never_cites_is_led_to_a_mark_after_two_sentences_or_lines(runtime: OpenVinoRuntime) -> None:
    """The weights are random: nothing but the grammar makes these answers cite."""
    before: list[str] = []
    for text, _ in sample(runtime, 3, 240):
        prose = CODE.sub("`", text)
        before.append(prose[: mark.start()] if (mark := MARK.search(prose)) else prose)
    ends = [len(re.findall(r"[.!?](?=[ \n])|(?<![.!?])\n", prose)) for prose in before]
    assert set(ends) == {0, 1, UNCITED_ENDS}
    assert any(re.search(r"\.(?! )\S.*\. ", prose) for prose in before)
