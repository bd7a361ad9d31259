"""The tables: every line is an entry, and no word is said twice."""

import re
import subprocess
import sys
import time
from collections import Counter
from importlib.resources import files

import pytest

from slipstream.ensemble.retrieval.lexicon import entries
from slipstream.ensemble.retrieval.lexicon.entries import TABLES, lexicon, plain
from slipstream.ensemble.retrieval.lexicon.gloss import gloss

_RUSSIAN = re.compile(r"[а-я]+(?:[- ][а-я]+)*")
_ENGLISH = re.compile(r"[A-Za-z][A-Za-z /-]*")


def _lines() -> list[str]:
    room = files(entries.__package__ or "")
    text = "".join(room.joinpath(f"{table}.tsv").read_text(encoding="utf-8") for table in TABLES)
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("line", ["нет табуляции", "два\tраза\tдва"])
def test_a_line_without_its_two_sides_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        entries.parse(line)


def test_every_line_has_russian_forms_and_one_to_three_english_equivalents() -> None:
    for line in _lines():
        russian, english = line.split("\t")
        assert all(_RUSSIAN.fullmatch(form) and plain(form) == form for form in russian.split(", ")), line
        equivalents = english.split(", ")
        assert english == "-" or all(_ENGLISH.fullmatch(word) for word in equivalents), line
        assert len(set(equivalents)) == len(equivalents) <= 3, line


def test_no_form_stands_twice() -> None:
    forms = Counter(form for line in _lines() for form in line.split("\t")[0].split(", "))
    assert [form for form, count in forms.items() if count > 1] == []
    assert len(forms) >= 3500


def test_every_form_comes_out_as_its_own_line_says() -> None:
    for form, equivalents in lexicon().exact.items():
        assert gloss(form).english == "".join(equivalents[:1]), form


TEXT = """
Приложение принимает входящие запросы и передаёт их обработчикам. Каждый обработчик получает объект запроса, проверяет
права пользователя и возвращает ответ; если токен просрочен, клиент увидит ошибку с кодом 401. Тяжёлые задачи ставятся
в очередь, откуда их забирают фоновые процессы. Когда воркер падает, брокер сообщений отдаёт задачу следующему, причём
число повторных попыток ограничено, а пауза между ними растёт. Настройки читаются из переменных окружения при запуске,
но любую из них можно переопределить в командной строке. Соединения с базой данных берутся из пула и возвращаются туда
после завершения транзакции; неиспользуемые закрываются по таймеру. Шаблоны компилируются один раз и лежат в кэше,
пока исходный файл не изменится. Логи пишутся в стандартный вывод, каждая строка содержит метку времени, уровень и
идентификатор запроса. Перед выпуском новой версии разработчик прогоняет тесты, собирает пакет и обновляет документацию.
"""


def test_a_technical_text_is_covered() -> None:
    words = re.findall(r"[А-Яа-яё]+", TEXT)
    unknown = gloss(TEXT).unknown
    assert len(words) > 120
    assert len(unknown) / len(words) <= 0.03, unknown


def test_no_heavy_library_comes_with_it() -> None:
    program = (
        "import sys, slipstream.ensemble.retrieval.lexicon.gloss as g; g.gloss('где');"
        "print([name for name in ('torch', 'numpy', 'onnxruntime', 'qdrant_client') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_question_costs_less_than_a_millisecond() -> None:
    gloss("разогрев")
    took = []
    for _ in range(50):
        start = time.perf_counter()
        gloss("Где обрабатываются ошибки соединения и что возвращается, если клиент отключился раньше времени?")
        took.append(time.perf_counter() - start)
    assert min(took) < 0.001
