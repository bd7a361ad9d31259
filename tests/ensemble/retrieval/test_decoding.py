"""What text a file's bytes are, when they are not UTF-8."""

import pytest

from slipstream.ensemble.retrieval.chunker import cut_file
from slipstream.ensemble.retrieval.decoding import decode

RUSSIAN = "# Возвращает цену с учётом скидки\ndef price(x):\n    return x  # итог\n"
CODE = "value = compute(1)\n" * 40


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "cp866"])
@pytest.mark.parametrize("text", [RUSSIAN, CODE + "# цена\n", "# ВНИМАНИЕ: НЕ МЕНЯТЬ\n", 'puts("Файл не найден")\n'])
def test_russian_is_read_in_the_encoding_it_was_written_in(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == (text, True)


@pytest.mark.parametrize(
    "text", ["# größer als üblich é\n", "name = 'José'\n" + CODE, "# MAß ÜBER ÄRGER\n", "# © £ ½ µm\n"]
)
def test_western_text_is_latin_1(text: str) -> None:
    assert decode(text.encode("latin-1")) == (text, True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_says_its_encoding_is_not_guessed(encoding: str) -> None:
    assert decode(RUSSIAN.encode(encoding)) == (RUSSIAN, False)


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_both_orders_of_bytes_are_read(encoding: str) -> None:
    assert decode(("\ufeff" + RUSSIAN).encode(encoding)) == (RUSSIAN, False)


def test_a_declared_encoding_is_believed_if_it_fits() -> None:
    text = "# -*- coding: shift_jis -*-\n# 価格を計算する\n"
    assert decode(text.encode("shift_jis")) == (text, False)
    assert decode("# coding: ascii\n# é\n".encode("latin-1")) == ("# coding: ascii\n# é\n", True)
    assert decode("# coding: no-such\n# é\n".encode("latin-1")) == ("# coding: no-such\n# é\n", True)
    assert decode("# coding: base64\n# é\n".encode("latin-1")) == ("# coding: base64\n# é\n", True)


@pytest.mark.parametrize("encoding", ["unicode_escape", "utf-16-le", "cp037"])
def test_a_declared_encoding_that_would_move_lines_or_itself_is_not_believed(encoding: str) -> None:
    text = f"# coding: {encoding}\nEND = '\\n\\n'\n# größer als üblich é\n"
    data = text.encode("latin-1") + b"#" * (-len(text) % 2)  # so that two bytes to a letter come out even
    assert decode(data)[0].startswith(text)


def test_a_broken_byte_costs_one_character_of_utf_8_and_not_the_others() -> None:
    assert decode(RUSSIAN.encode() + b"# \xff\n") == (RUSSIAN + "# \ufffd\n", True)


def test_half_a_character_at_the_end_of_utf_16_is_no_error() -> None:
    assert decode("x = 1\n".encode("utf-16") + b"\0") == ("x = 1\n\ufffd", True)


def test_what_was_guessed_is_counted_with_the_file() -> None:
    cut = cut_file("a.py", RUSSIAN.encode("cp1251"), "repo")
    assert cut.caveats == ["guessed_encoding"]
    assert "price" in [chunk.symbol for chunk in cut.chunks]
