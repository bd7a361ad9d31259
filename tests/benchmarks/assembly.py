"""What the prompt shows of the answer: the hits of real questions, put together as before and as `assemble` does.

Before: hits best first, what overlaps a better one left out, the first that does not fit cut, and nothing after it.
The same hits go into both. "Touched" counts a prompt that holds any line of an answer, "whole" one that holds every
line of one. Run, with the suite's development corpora indexed as one collection and nothing serving it:
``SLIPSTREAM_HOME=... python -m tests.benchmarks.assembly COLLECTION [HITS]``
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from slipstream.ensemble.assembly import MIN_CUT_TOKENS, assemble
from slipstream.ensemble.bundle import find_bundle
from slipstream.ensemble.contracts import Hit, SearchRequest
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.prompt import render_context
from slipstream.ensemble.retrieval.search import Searcher
from slipstream.ensemble.retrieval.stores import open_store
from slipstream.ensemble.tokenizer import ChatTokenizer
from slipstream.settings import Settings

QUESTIONS = Path(__file__).parents[1] / "retrieval" / "questions.jsonl"
DEVELOPMENT = ("jinja2", "requests", "celery", "express", "zod", "cobra", "bytes")
BUDGETS = (768, 2000)
HITS = 30

Count = Callable[[str], int]
Assembly = Callable[[Sequence[Hit], int, Count], list[Hit]]


def concatenated(hits: Sequence[Hit], budget: int, count: Count) -> list[Hit]:
    """The contexts before there was an assembly, from the first ten hits."""
    chosen: list[Hit] = []
    for hit in hits[:10]:
        if any(
            hit.path == other.path and hit.line_start <= other.line_end and other.line_start <= hit.line_end
            for other in chosen
        ):
            continue
        cost = count(render_context(len(chosen) + 1, hit) + "\n")
        if cost <= budget:
            chosen.append(hit)
            budget -= cost
            continue
        lines = hit.text.rstrip("\n").split("\n")
        for kept in range(len(lines) - 1, 0, -1):
            fields = {"text": "\n".join(lines[:kept]), "line_end": hit.line_start + kept - 1}
            cut = hit.model_copy(update=fields)
            cost = count(render_context(len(chosen) + 1, cut) + "\n")
            if cost <= budget:
                return [*chosen, cut] if cost >= MIN_CUT_TOKENS else chosen
        break
    return chosen


def shown(contexts: Sequence[Hit], answers: Sequence[Mapping[str, Any]]) -> tuple[bool, bool]:
    """Whether any line of an answer is in the prompt, and whether all lines of one are."""
    lines: dict[str, set[int]] = {}
    for context in contexts:
        lines.setdefault(context.path, set()).update(range(context.line_start, context.line_end + 1))
    wanted = [(lines.get(one["path"], set()), set(range(one["line_start"], one["line_end"] + 1))) for one in answers]
    return any(has & wants for has, wants in wanted), any(wants <= has for has, wants in wanted)


def main() -> None:
    collection, *most = sys.argv[1:]
    settings = Settings()
    bundle = find_bundle(settings.bundles_dir, None)
    tokenizer, embedder = ChatTokenizer(bundle.tokenizer_dir), Embedder(bundle.embedder_dir)
    searcher = Searcher(open_store(settings), embedder.digest)
    questions = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    questions = [question for question in questions if question["package"] in DEVELOPMENT]
    vectors = embedder.embed_questions([question["text"] for question in questions])
    limit = int(most[0]) if most else HITS
    found = [
        searcher.search(SearchRequest(query=question["text"], collection=collection, limit=limit), vector).hits
        for question, vector in zip(questions, vectors, strict=True)
    ]
    searcher.close()
    print(f"{len(questions)} questions, {limit} hits each")
    assemblies: dict[str, Assembly] = {"before": concatenated, "assembled": assemble}
    for budget in BUDGETS:
        for name, assembly in assemblies.items():
            prompts, took = [], []
            for hits in found:
                started = perf_counter()
                prompts.append(assembly(hits, budget, tokenizer.count))
                took.append(1e3 * (perf_counter() - started))
            in_it = [shown(prompt, question["answers"]) for prompt, question in zip(prompts, questions, strict=True)]
            touched, whole = (sum(column) / len(questions) for column in zip(*in_it, strict=True))
            contexts = sum(map(len, prompts)) / len(prompts)
            print(
                f"{budget:>5} tokens  {name:<10} touched {touched:.3f}  whole {whole:.3f}  "
                f"contexts {contexts:.1f}  {median(took):.1f} ms"
            )


if __name__ == "__main__":
    main()
