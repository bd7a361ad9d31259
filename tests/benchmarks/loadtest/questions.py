"""Writes `loadtest/scenarios/questions/fastapi-starlette.jsonl`: one question about every public symbol, no two alike.

A load that repeats its questions measures the server's prefix cache. So the shipped scenarios ask about every function,
class and method of the two packages that the default collection holds, a sixth of them in Russian, in an order drawn
from a fixed seed.

Run: ``python -m tests.benchmarks.loadtest.questions > loadtest/scenarios/questions/fastapi-starlette.jsonl``.
"""

import ast
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

PACKAGES = ("fastapi", "starlette")
WORDINGS = (
    "What does {name} in {module} do?",
    "How does {name} of {module} work, step by step?",
    "Which arguments does {name} in {module} take, and what are they for?",
    "What can go wrong in {name} ({module})?",
    "When would I call {name} from {module} myself?",
    "Что делает {name} в модуле {module}?",
)


def symbols(package: str) -> Iterator[tuple[str, str]]:
    """Module and qualified name of every public function, class and method."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    for path in sorted(root.rglob("*.py")):
        module = ".".join((package, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")
        for name in _named(ast.parse(path.read_text(encoding="utf-8"))):
            if not any(part.startswith("_") for part in (*module.split("."), *name.split("."))):
                yield module, name


def _named(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield node.name
            yield from (f"{node.name}.{inner}" for inner in _named(node))


def main() -> None:
    found = sorted({pair for package in PACKAGES for pair in symbols(package)})
    Random(1).shuffle(found)  # noqa: S311
    for number, (module, name) in enumerate(found):
        prompt = WORDINGS[number % len(WORDINGS)].format(name=name, module=module)
        sys.stdout.write(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
