"""A report for people."""

from collections.abc import Sequence
from itertools import groupby
from math import isfinite

from rich.table import Table

from slipstream.ensemble.retrieval.evaluation.report import Declining, Parity, Row
from slipstream.ensemble.retrieval.evaluation.scores import FEWEST, Estimate


def score_table(rows: Sequence[Row]) -> Table:
    """A section for each group of queries, a line for each ranker."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("queries", no_wrap=True)
    table.add_column("ranker", no_wrap=True)
    for heading in ("MRR@10", "95%", "recall@1", "@5", "@10", "file@10", "× best baseline", "95%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (split, language, kind), group in groupby(rows, key=lambda row: (row.split, row.language, row.kind)):
        label = f"{split} · {language} · {kind}"
        for row in group:
            found = row.scores
            shares = (found.recall_1, found.recall_5, found.recall_10, found.file_recall_10)
            table.add_row(
                f"{label} ({found.queries})" if label else "",
                row.ranker,
                f"{found.mrr.value:.3f}",
                _interval(found.mrr, 3) if found.queries >= FEWEST else "too few",
                *(f"{share.value:.3f}" for share in shares),
                *_compared(row),
            )
            label = ""
        table.add_section()
    return table


def parity_table(parities: Sequence[Parity]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("MRR in Russian / in English", "ranker"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ratio", "95%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for parity in parities:
        shown = (f"{parity.ratio.value:.2f}", _interval(parity.ratio, 2)) if parity.ratio else ("too few", "")
        table.add_row(f"{parity.split} ({parity.questions} pairs)", parity.ranker, *shown)
    return table


def declining_table(declining: Sequence[Declining]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("declined by confidence", "ranker"):
        table.add_column(heading, no_wrap=True)
    for heading in ("AUROC", "threshold", "unanswerable", "answerable", "with development's threshold"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in declining:
        carried = f"{one.carried[1]:.1%} and {one.carried[0]:.1%}" if one.carried else ""
        table.add_row(
            f"{one.split} ({one.unanswerable} and {one.answerable})",
            one.ranker,
            f"{one.fitted.auroc:.3f}",
            f"{one.fitted.threshold:.4g}" if isfinite(one.fitted.threshold) else "none",
            f"{one.fitted.declined_unanswerable:.1%}",
            f"{one.fitted.declined_answerable:.1%}",
            carried,
        )
    return table


def _compared(row: Row) -> tuple[str, str]:
    if row.against is None:
        return "", ""
    if row.ratio is None:
        return "too few", ""
    return f"{row.ratio.value:.2f} {row.against}", _interval(row.ratio, 2)


def _interval(estimate: Estimate, digits: int) -> str:
    return f"{estimate.low:.{digits}f}–{estimate.high:.{digits}f}"


__all__ = ["declining_table", "parity_table", "score_table"]
