"""Are all citations valid? 200 questions through the facade, every citation checked against the files themselves.

A citation is valid when its file exists in the indexed version, its lines are inside the file, and its chunk was in
the prompt. The questions name functions and classes of the indexed packages (English and Russian), and some name
nothing that is there. Run: ``python -m tests.benchmarks.citations``.
"""

import ast
import asyncio
import random
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx

from slipstream.ensemble.citations import cited_numbers
from slipstream.ensemble.contracts import RETRIEVED_CHUNKS
from slipstream.settings import Settings
from tests.benchmarks.served import Server, machine, serve

QUESTIONS, STREAMS, SEED = 200, 8, 20261121
PACKAGES = ("fastapi", "starlette")
PHRASINGS = (
    "What does {name} do?",
    "Where is {name} defined and what is it for?",
    "How does {name} work?",
    "Explain {name}.",
    "Что делает {name}?",
)
GENERAL = (
    "How are WebSocket connections closed?",
    "How do I add CORS headers?",
    "How are background tasks run after a response?",
    "Where are path parameters converted?",
    "How does dependency injection resolve a dependency?",
    "How is the OpenAPI schema generated?",
    "Как обрабатываются исключения в приложении?",
    "How does the Kafka consumer rebalance partitions?",
    "hi",
    "Write a haiku.",
)


@dataclass
class Tally:
    answers: int = 0
    cited: int = 0
    declined: int = 0
    cut: int = 0
    citations: int = 0
    marks_unresolved: int = 0
    invalid: list[str] = field(default_factory=list)


def package_root(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def questions() -> list[str]:
    """Phrasings over names of the packages' own functions and classes, then the general ones; fixed seed."""
    names: list[str] = []
    for package in PACKAGES:
        for path in sorted(package_root(package).rglob("*.py")):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            names += [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    draw = random.Random(SEED)  # noqa: S311 - a sample, not a secret
    chosen = draw.sample(sorted({name for name in names if not name.startswith("_")}), QUESTIONS - len(GENERAL))
    return [PHRASINGS[i % len(PHRASINGS)].format(name=f"`{name}`") for i, name in enumerate(chosen)] + list(GENERAL)


def problem(citation: dict[str, object], hits: list[dict[str, Any]]) -> str | None:
    """Why a citation is invalid, or None. ``path`` begins with the folder name of the root it was indexed from."""
    path, start, end = str(citation["path"]), int(str(citation["line_start"])), int(str(citation["line_end"]))
    file = package_root(path.split("/")[0]).parent / path
    if not file.is_file():
        return f"{path} does not exist"
    lines = file.read_text(encoding="utf-8").split("\n")
    if not 1 <= start <= end <= len(lines):
        return f"{path}:{start}-{end} is outside its {len(lines)} lines"
    found = {line for hit in hits if hit["path"] == path for line in range(hit["line_start"], hit["line_end"] + 1)}
    # A context may be several chunks that lie one behind the other, with the empty lines between them.
    if not all(line in found or not lines[line - 1].strip() for line in range(start, end + 1)):
        return f"{path}:{start}-{end} was not in the prompt"
    return None


async def ask(client: httpx.AsyncClient, question: str, tally: Tally) -> None:
    body = {"model": "slipstream", "messages": [{"role": "user", "content": question}], "max_tokens": 128}
    answer = (await client.post("/v1/chat/completions", json=body)).raise_for_status().json()
    found = (
        (await client.post("/v1/search", json={"query": question, "limit": RETRIEVED_CHUNKS})).raise_for_status().json()
    )
    text = answer["choices"][0]["message"]["content"]
    tally.answers += 1
    tally.cited += bool(answer["citations"])
    tally.declined += not answer["grounded"]
    tally.cut += answer["choices"][0]["finish_reason"] == "length"
    tally.citations += len(answer["citations"])
    tally.marks_unresolved += len(cited_numbers(text)) - len(answer["citations"])
    for citation in answer["citations"]:
        if (why := problem(citation, found["hits"])) is not None:
            tally.invalid.append(f"{question} -> {why}")


async def run(server: Server) -> Tally:
    tally = Tally()
    queue = iter(questions())

    async def worker(client: httpx.AsyncClient) -> None:
        for question in queue:
            await ask(client, question, tally)

    async with httpx.AsyncClient(base_url=f"http://{server.host}:{server.port}", timeout=120) as client:
        await asyncio.gather(*(worker(client) for _ in range(STREAMS)))
    return tally


def main() -> None:
    print(f"machine: {machine()}")
    with serve(Settings().root / "logs" / "benchmark-citations.log") as server:
        tally = asyncio.run(run(server))
    valid = tally.citations - len(tally.invalid)
    print(f"valid citations: {valid} of {tally.citations} over {tally.answers} questions (goal: 100%)")
    print(f"marks that resolve to nothing: {tally.marks_unresolved} (goal: 0)")
    print(
        f"answers with at least one citation: {tally.cited} of {tally.answers}; "
        f"declined: {tally.declined}; cut at 128 tokens: {tally.cut}"
    )
    for line in tally.invalid:
        print(f"  invalid: {line}")
    raise SystemExit(bool(tally.invalid or tally.marks_unresolved))


if __name__ == "__main__":
    main()
