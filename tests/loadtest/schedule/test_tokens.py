"""The tokenizer: where it is found, and that it counts as the server does."""

import json
from pathlib import Path

import pytest

from slipstream.loadtest.schedule.tokens import ServerTokenizer, TokenizerUnreadable, find_tokenizer
from tests.loadtest.tokenizers_made import write_byte_level, write_word_piece

BUNDLE = "7170ed33455b4392"


def bundles(folder: Path) -> Path:
    write_byte_level(folder / BUNDLE / "tokenizer")
    return folder


def test_the_path_of_the_command_line_goes_first(tmp_path: Path, tokenizer_folder: Path) -> None:
    metadata = {"bundle": {"id": BUNDLE}}
    for given in (tokenizer_folder, tokenizer_folder / "tokenizer.json"):
        found = find_tokenizer(given, metadata, bundles(tmp_path))
        assert found is not None
        assert found.path == tokenizer_folder / "tokenizer.json"


def test_else_it_is_that_of_the_bundle_that_the_server_says_it_serves(tmp_path: Path) -> None:
    found = find_tokenizer(None, {"bundle": {"id": BUNDLE}, "version": "0.1"}, bundles(tmp_path))
    assert found is not None
    assert found.path == tmp_path / BUNDLE / "tokenizer" / "tokenizer.json"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"bundle": None},
        {"bundle": BUNDLE},
        {"bundle": {}},
        {"bundle": {"id": 7}},
        {"bundle": {"id": "0123456789abcdef"}},  # one that is not on this machine
        {"bundle": {"id": f"../bundles/{BUNDLE}"}},
        {"bundle": {"id": ""}},
    ],
)
def test_a_server_that_names_no_bundle_of_ours_has_none(tmp_path: Path, metadata: dict[str, object] | None) -> None:
    assert find_tokenizer(None, metadata, bundles(tmp_path / "bundles")) is None


@pytest.mark.parametrize("content", [None, "", "{}", "no json", '{"model": {"type": "BPE"}}'])
def test_what_is_no_tokenizer_is_refused_in_words(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokenizerUnreadable) as caught:
        find_tokenizer(path, None, tmp_path)
    assert str(path) in caught.value.message
    assert "tokenizer.json" in caught.value.remedy


def test_a_text_is_counted_whole_and_alone(tmp_path: Path) -> None:
    """The file says to cut at 8 tokens, to fill up to 8, and to put one at either end."""
    counting = ServerTokenizer(write_word_piece(tmp_path))
    assert counting.count("the") == 1
    assert counting.count("the " * 50) == 50
    assert counting.counts(["the", "the the the", ""]) == [1, 3, 0]


def test_the_chat_template_is_counted_around_the_message(tokenizer: ServerTokenizer) -> None:
    message = "words of any kind, however many"
    rendered = f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.template_tokens == tokenizer.count(rendered) - tokenizer.count(message)


@pytest.mark.parametrize(
    "template", [None, "{% for", "{{ raise_exception('no') }}", "{{ messages[3].content.upper() }}", "{{ 1 + 'a' }}"]
)
def test_a_template_that_is_missing_or_fails_leaves_the_count_open(tmp_path: Path, template: str | None) -> None:
    folder = write_byte_level(tmp_path, words=300)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    assert ServerTokenizer(folder).template_tokens is None


def test_a_template_knows_the_start_of_a_sequence(tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path, words=300)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    assert ServerTokenizer(folder).template_tokens == 0
    for content in ("[]", "{}", "?", json.dumps({"bos_token": None})):
        (folder / "special_tokens.json").write_text(content)
        assert ServerTokenizer(folder).template_tokens == 0
    (folder / "special_tokens.json").write_text(json.dumps({"bos_token": "<|im_start|>"}))
    assert ServerTokenizer(folder).template_tokens == 1
