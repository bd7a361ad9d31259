"""The prompts of golden questions: made by the search and the retriever that serve, from an index of their own."""

from pathlib import Path

import pytest

from slipstream.build.golden.contexts import GoldenPrompt, read_prompts, retrieve_contexts, write_prompts
from slipstream.build.golden.questions import GoldenInvalid, GoldenOutdated, GoldenSet
from slipstream.ensemble.citations import resolve
from slipstream.ensemble.manifest import ServingOptions
from slipstream.ensemble.prompt import render_messages
from slipstream.ensemble.tokenizer import ChatTokenizer
from tests.ensemble.words import write_tokenizer
from tests.tiny_bert import export_tiny_embedder

ANY_CONFIDENCE = ServingOptions(min_confidence=0, context_margin=10)
CART = '''def add_item(cart, item):
    """Put an item into the cart."""
    cart.items.append(item)
    return cart


def remove_item(cart, item):
    """Take an item out of the cart."""
    cart.items.remove(item)
    return cart
'''


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "embedder"
    export_tiny_embedder(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), 4096)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "cart.py").write_text(CART, encoding="utf-8")
    return folder


def golden(shop: Path, *, last: int = 4) -> GoldenSet:
    answer = {"path": "cart.py", "line_start": 1, "line_end": last, "symbol": "add_item"}
    return GoldenSet.model_validate(
        {
            "sources": [str(shop)],
            "questions": [
                {"id": "adds", "use": "gate", "question": "What does add_item do?", "answers": [answer]},
                {"id": "flies", "use": "gate", "question": "How are aeroplanes refuelled?"},
            ],
        }
    )


def prompts_of(
    shop: Path, embedder: Path, tokenizer: ChatTokenizer, work: Path, serving: ServingOptions, *, last: int = 4
) -> list[GoldenPrompt]:
    told: list[float] = []
    found = retrieve_contexts(
        golden(shop, last=last), embedder, tokenizer, serving, work, lambda share, doing: told.append(share)
    )
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)
    return found


class TestContexts:
    def test_of_sources_that_changed_are_not_made(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path
    ) -> None:
        with pytest.raises(GoldenOutdated, match=r"adds: cart\.py:1-400"):
            prompts_of(shop, embedder, tokenizer, tmp_path / "work", ANY_CONFIDENCE, last=400)
        assert not (tmp_path / "work" / "index").exists()

    def test_that_do_not_fit_name_their_question(
        self, shop: Path, embedder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        narrow = write_tokenizer(tmp_path_factory.mktemp("narrow"), 64)
        with pytest.raises(GoldenInvalid, match="question 'adds': The context window is 64 tokens"):
            prompts_of(shop, embedder, narrow, tmp_path / "work", ANY_CONFIDENCE)

    def test_are_those_that_a_served_prompt_would_have(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path
    ) -> None:
        first, _ = prompts_of(shop, embedder, tokenizer, tmp_path / "work", ANY_CONFIDENCE)
        assert "add_item" in first.contexts[0].symbol
        hits = first.evidence.hits
        assert list(first.prompt_ids) == tokenizer.encode_chat(render_messages("What does add_item do?", hits))
        assert first.messages == render_messages("What does add_item do?", hits)
        assert resolve("It adds [1].", hits)[0].path == "cart.py"

    def test_hold_what_stands_in_the_file(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path
    ) -> None:
        first, _ = prompts_of(shop, embedder, tokenizer, tmp_path / "work", ANY_CONFIDENCE)
        lines = CART.split("\n")
        for context in first.contexts:
            assert context.problem == ""
            assert context.text.rstrip("\n") == "\n".join(lines[context.line_start - 1 : context.line_end]).rstrip("\n")

    @pytest.mark.parametrize(
        ("changed", "problem"),
        [
            ("# a line in front\n" + CART, "says something else in the file"),
            ("def add_item(): ...\n", "is outside its 2 lines"),
            (None, "cart.py is not in the indexed version"),
        ],
    )
    def test_of_a_file_that_changed_since_are_known_for_it(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path, changed: str | None, problem: str
    ) -> None:
        def change(share: float, doing: str) -> None:
            if doing.startswith("searching") and changed is not None:
                (shop / "cart.py").write_text(changed, encoding="utf-8")
            elif doing.startswith("searching"):
                (shop / "cart.py").rename(shop / "wagon.py")

        first, _ = retrieve_contexts(golden(shop), embedder, tokenizer, ANY_CONFIDENCE, tmp_path / "work", change)
        assert problem in first.contexts[0].problem

    def test_are_none_where_the_search_is_not_sure_enough(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path
    ) -> None:
        declined = prompts_of(shop, embedder, tokenizer, tmp_path / "work", ServingOptions(min_confidence=1.0))
        assert [(one.contexts, one.prompt_ids, one.messages) for one in declined] == [((), (), [])] * 2
        assert all("I did not find this" in one.declined for one in declined)


class TestAFileOfPrompts:
    def test_gives_back_what_was_written(
        self, shop: Path, embedder: Path, tokenizer: ChatTokenizer, tmp_path: Path
    ) -> None:
        prompts = prompts_of(shop, embedder, tokenizer, tmp_path / "work", ANY_CONFIDENCE)
        write_prompts(prompts, tmp_path / "prompts.json")
        assert read_prompts(tmp_path / "prompts.json") == prompts

    @pytest.mark.parametrize("text", ["", "[{}]", "{", '{"a": 1}'])
    def test_that_is_none_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "prompts.json").write_text(text, encoding="utf-8")
        with pytest.raises(GoldenInvalid, match="holds no golden prompts"):
            read_prompts(tmp_path / "prompts.json")
