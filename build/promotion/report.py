"""A comparison for people: Markdown for a file, lines for a terminal."""

from collections.abc import Iterator

from slipstream.build.promotion.comparison import CONFIDENCE, Comparison, Question

_SHOWN = 20  # questions on a terminal; MLflow keeps all


def comparison_lines(found: Comparison, production: str, candidate: str) -> Iterator[str]:
    """The verdict's numbers, then the questions that were answered better or worse, the largest change first."""
    yield f"{'':>11}  {'score':>6}  {len(found.questions)} questions"
    yield f"{'production':>11}  {found.production:6.3f}  {production}"
    yield f"{'candidate':>11}  {found.candidate:6.3f}  {candidate}"
    yield f"{'difference':>11}  {found.difference:+6.3f}  {interval(found)}; {found.gained} better, {found.lost} worse"
    changed = _changed(found)
    for one in changed[:_SHOWN]:
        yield f"{'':>11}  {one.difference:+6.3f}  {one.production:.3f} → {one.candidate:.3f}  {one.id}"
    if len(changed) > _SHOWN:
        yield f"{'':>11}  and {len(changed) - _SHOWN} more: the run in MLflow has them all"


def interval(found: Comparison) -> str:
    """``95% interval [-0.012, +0.087]``."""
    return f"{CONFIDENCE:.0%} interval [{found.lower:+.3f}, {found.upper:+.3f}]"


def comparison_markdown(found: Comparison) -> str:
    """The whole comparison as a table."""
    rows = [f"| {_cell(one.id)} | {one.production:.3f} | {one.candidate:.3f} | {one.difference:+.3f} |"
            for one in found.questions]  # fmt: skip
    mean = f"| **mean** | {found.production:.3f} | {found.candidate:.3f} | {found.difference:+.3f} |"
    asked = "not worse by more than " + f"{found.margin}" if found.margin else "better"
    verdict = f"{interval(found)}; asked for: {asked}; verdict: {'yes' if found.is_better else 'no'}"
    head = "| question | production | candidate | difference |\n|---|---:|---:|---:|"
    return "\n".join([head, *rows, mean, "", verdict, ""])


def _changed(found: Comparison) -> list[Question]:
    return sorted((one for one in found.questions if one.difference), key=lambda one: (-abs(one.difference), one.id))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["comparison_lines", "comparison_markdown", "interval"]
