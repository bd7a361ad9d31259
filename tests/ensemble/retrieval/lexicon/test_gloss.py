"""A Russian question becomes rough English that keeps what was not Russian."""

import pytest

from slipstream.ensemble.retrieval.lexicon.gloss import Gloss, gloss
from tests.ensemble.retrieval.lexicon.pairs import PAIRS


@pytest.mark.parametrize("text", ["", "  ", "?!", "How does add_middleware work?", "naïve café\n", "日本語", "e\u0301"])
def test_a_text_without_cyrillic_letters_passes_unchanged(text: str) -> None:
    assert gloss(text) == Gloss(text)


def test_identifiers_digits_and_signs_stay_where_they_are() -> None:
    found = gloss("Где `add_middleware()` вызывается в fastapi/applications.py:104?")
    assert found.english == "where `add_middleware()` call in fastapi/applications.py:104?"


def test_an_english_question_with_one_russian_word_keeps_its_english() -> None:
    assert gloss("What does the хендлер of Router return?").english == "What does the handler of Router return?"


@pytest.mark.parametrize(
    ("russian", "english"),
    [
        ("значения по умолчанию", "default values"),
        ("обработчиками ошибок", "error handler"),
        ("в переменных окружения", "in environment variable"),
        ("регулярными выражениями", "regular expression"),
        ("из пула соединений", "from connection pool"),
        ("телом запроса", "request body"),
        ("в строке запроса", "in query string"),
    ],
)
def test_phrases_are_more_than_their_words_in_every_case(russian: str, english: str) -> None:
    assert gloss(russian).english == english


@pytest.mark.parametrize(
    ("english", "forms"),
    [
        ("error", "ошибка ошибки ошибку ошибкой ошибок ошибкам ошибками"),
        ("list", "список списка списку списком списки списков"),
        ("level", "уровень уровня уровнем уровни уровней"),
        ("name", "имя имени именем имена имён"),
        ("close", "закрыть закрывает закрывают закрыл закрыли закроет закрыт закрытие закрывается закрывая"),
        ("use", "использует используют использовать использовал используется используемый использование используя"),
        ("load", "загрузить загружает загрузил загружу загруженный загрузка загружен"),
        ("check", "проверяет проверить проверю проверка проверок проверил"),
        ("set", "устанавливает установить установлен установленный установка"),
        ("file", "файл файла файлу файлом файле файлы файлов файлам файлами файлах"),
    ],
)
def test_every_form_of_a_word_is_known(english: str, forms: str) -> None:
    assert {form: gloss(form).english for form in forms.split()} == dict.fromkeys(forms.split(), english)


def test_case_yo_and_decomposed_letters_make_no_difference() -> None:
    assert gloss("ЖДЁТ").english == gloss("ждет").english == "wait"
    assert gloss("передаче\u0306").unknown == ()
    assert gloss("и\u0306од") == gloss("йод")


def test_a_participle_is_not_the_noun_with_its_stem() -> None:
    assert gloss("вложение").english == "attachment"
    assert gloss("с вложенными").english == "with nested"


def test_words_that_english_does_not_need_leave_no_hole() -> None:
    assert gloss("Открыт ли файл?").english == "open file?"


def test_hyphens_divide_words_that_are_not_one_in_the_lexicon() -> None:
    assert gloss("JSON-объекты сервера-клиента").english == "JSON-object server-client"
    assert gloss("какой-то прокси-сервер").english == "some proxy server"


@pytest.mark.parametrize("written", ["request'а", "request’ом", "request-ы"])
def test_a_russian_ending_on_a_latin_word_falls_off(written: str) -> None:
    assert gloss(f"поля {written}").english == "field request"


def test_letters_of_the_wrong_keyboard_inside_a_latin_word_become_latin() -> None:
    assert gloss("gеt_usеr").english == "get_user"


def test_a_negation_of_a_known_word_is_negated() -> None:
    assert gloss("несжатый").english == "not compress"


def test_other_equivalents_are_for_the_lexical_search_only() -> None:
    found = gloss("удалить каталог и удалить файл")
    assert found.english == "delete directory and delete file"
    assert found.alternatives == ("remove", "catalog")


def test_an_unknown_word_is_named_and_spelled_in_latin_letters() -> None:
    found = gloss("Где Вжух и щё?")
    assert found.unknown == ("Вжух", "щё")
    assert found.english == "where vzhuh and sche?"


def test_ukrainian_and_other_cyrillic_texts_are_glossed_as_far_as_known() -> None:
    found = gloss("Як отримати файл? Ќ ѣ Ꙁ")
    assert "file?" in found.english
    assert "Як" in found.unknown


@pytest.mark.parametrize("text", ["а" * 5000, "-", "а-", "-а-б--в-", "где " * 3000, "не", "ё", "\u0301\u0306", "ъ"])
def test_no_text_is_too_odd(text: str) -> None:
    assert isinstance(gloss(text).english, str)


def test_a_developers_sentences_are_known_word_by_word() -> None:
    assert [gloss(russian).unknown for _, russian in PAIRS] == [()] * len(PAIRS)
