"""A small suite: two folders of sources, questions about them, and what nothing answers."""

import json
from pathlib import Path
from typing import Any

SUITE = """\
corpora:
  - {name: shop, path: ../shop, split: development}
  - {name: post, path: ../mail, split: test, exclude: [tests/]}
"""
CART = '''\
class Cart:
    def push(self, item):
        """Put one more item into the basket."""
        self.items.append(item)

    def total(self):
        """Add up the price of everything."""
        return sum(item.price for item in self.items)
'''
SEND = """\
package mail

// Send delivers one letter to its reader.
func Send(letter string) error {
	return deliver(letter)
}
"""


def question(name: str, path: str, first: int, last: int, **fields: Any) -> dict[str, Any]:
    answers = [{"path": path, "line_start": first, "line_end": last}]
    base = {"id": name, "package": path.partition("/")[0], "language": "en", "text": "how is it done?", "pair": None}
    return {**base, "answers": answers, **fields}


QUESTIONS = [
    question("cart-1", "shop/cart.py", 4, 4, text="where does an item go?"),
    question("cart-1-ru", "shop/cart.py", 4, 4, language="ru", text="куда попадает товар?", pair="cart-1"),
    question("post-1", "post/send.go", 4, 6, text="how is a letter sent?"),
]
UNANSWERABLE = [{"id": "none-1", "language": "en", "text": "which kernel runs on the GPU?", "split": "test"}]


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def write_suite(folder: Path) -> Path:
    """``folder/suite`` and the sources that it names beside it."""
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "cart.py").write_text(CART)
    (folder / "mail" / "tests").mkdir(parents=True)
    (folder / "mail" / "send.go").write_text(SEND)
    (folder / "mail" / "tests" / "more.go").write_text(SEND)
    (folder / "mail" / "old.py").write_bytes(b"x = '\xe9'\n")
    suite = folder / "suite"
    suite.mkdir()
    (suite / "suite.yaml").write_text(SUITE)
    write_lines(suite / "questions.jsonl", QUESTIONS)
    write_lines(suite / "unanswerable.jsonl", UNANSWERABLE)
    return suite
