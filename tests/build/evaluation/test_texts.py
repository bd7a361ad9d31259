"""Held-out text: where it comes from, and that nothing in it is calibrated on."""

from pathlib import Path

import pytest

from slipstream import InputError
from slipstream.build.evaluation.texts import Document, NotHeldOut, TooLittleText, held_out, windows
from slipstream.build.options import EvaluationOptions

CODE = "\n".join(f"def count_the_barges_in_harbour_number_{n}(harbour: str) -> int:" for n in range(20))


def options(tmp_path: Path, **changed: object) -> EvaluationOptions:
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code" / "a.py").write_text(CODE)
    return EvaluationOptions.model_validate({"code": [str(tmp_path / "code")], "tokens": 512, "window": 128, **changed})


def test_a_source_that_is_calibrated_on_is_refused(tmp_path: Path) -> None:
    given = options(tmp_path)
    with pytest.raises(NotHeldOut, match="is calibrated on and measured on"):
        held_out(given, given.code)


def test_a_copy_of_what_is_calibrated_on_is_left_out_wherever_it_lies(tmp_path: Path) -> None:
    given = options(tmp_path)
    (tmp_path / "code" / "b.py").write_text(CODE.replace("count_the_barges_in_harbour", "weigh_the_gates_of_the_mill"))
    assert [document.name for document in held_out(given, []).code] == ["a.py", "b.py"]
    half = "\n".join(CODE.splitlines()[:12])
    assert [document.name for document in held_out(given, [], [half]).code] == ["b.py"]
    third = "\n".join(CODE.splitlines()[:6])
    assert len(held_out(given, [], [third]).code) == 2


def test_prose_is_the_language_reference_a_readme_or_files(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("Barges come in at noon.")
    (tmp_path / "data.bin").write_bytes(b"\0\1")
    given = options(tmp_path, prose=["python:topics", "readme:click", str(tmp_path / "notes.md")])
    names = [document.name for document in held_out(given, []).prose]
    assert "python:topics/assignment" in names
    assert names[-2:] == ["readme:click", str(tmp_path / "notes.md")]
    assert held_out(given, []).prose[-1].text == "Barges come in at noon."


@pytest.mark.parametrize(
    ("source", "said"), [("readme:no-such-thing", "is installed"), ("/nowhere/at/all", "holds no text")]
)
def test_prose_that_is_not_there_is_told(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        held_out(options(tmp_path, prose=[source]), [])


def test_the_digest_follows_every_word(tmp_path: Path) -> None:
    given = options(tmp_path)
    before = held_out(given, []).digest
    assert held_out(given, []).digest == before
    (tmp_path / "code" / "a.py").write_text(CODE.replace("barges", "bargee"))
    assert held_out(given, []).digest != before


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_windows_lie_inside_one_document_and_are_the_same_every_time() -> None:
    documents = [Document(str(n), chr(97 + n) * 95) for n in range(6)]
    cut = windows(documents, letters, 80, 10, "code")
    assert [len(ids) for ids in cut] == [10] * 8
    assert all(len(set(ids)) == 1 for ids in cut)
    assert len({ids[0] for ids in cut}) > 2
    assert windows(documents, letters, 80, 10, "code") == cut


def test_too_little_text_is_told_with_what_to_change() -> None:
    with pytest.raises(TooLittleText, match="90 tokens in pieces of 10; 100 are to be measured") as caught:
        windows([Document("a", "x" * 99)], letters, 100, 10, "prose")
    assert "evaluation.prose" in (caught.value.remedy or "")


def test_sources_that_cannot_hold_enough_are_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(TooLittleText, match=r"evaluation.code holds \d+ characters; 4096 tokens"):
        held_out(options(tmp_path, tokens=4096), [])
