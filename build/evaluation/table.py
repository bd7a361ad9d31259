"""What was measured of one engine, as a Markdown table: measure, merged model, engine, gate."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slipstream.build.evaluation.record import Evaluation
from slipstream.build.gates import GateResult

Row = tuple[str, ...]


def markdown(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table whose columns are padded; all but the first are aligned to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
    for row in (header, rule, *rows):
        cells = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(cells)} |"


def evaluation_lines(evaluation: Evaluation) -> Iterator[str]:
    """The table of a build."""
    gates = {gate.name: gate for gate in evaluation.gates}
    yield from markdown(("measured", "merged model", "engine", "gate"), list(_rows(evaluation, gates)))
    if evaluation.draft is not None:
        yield ""
        yield from speculation_lines(evaluation.draft)
    yield f"on {evaluation.host.cores} cores of {evaluation.host.cpu}"


def speculation_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Every way to speculate that was measured, and why one of them, or none, is kept.

    Args:
        report: a `SpeculationReport` as plain values.
    """
    header = ("speculation", "accepted", "tokens/step", "tokens/s alone", "gain", "tokens/s, 8 streams", "gain")
    yield from markdown(header, [_speculation_row(one, report["kept"]) for one in report["measured"]])
    yield str(report["why"])


def _speculation_row(one: Mapping[str, Any], kept: Mapping[str, Any]) -> Row:
    method, tokens = one["candidate"]["method"], one["candidate"]["tokens"]
    name = " ".join([method, *([str(tokens)] if tokens else []), *(["(kept)"] if one["candidate"] == kept else [])])
    speeds = [
        cell
        for speed in (one["alone"], one["loaded"])
        for cell in (
            f"{speed['tokens_per_s']:.0f} ± {speed['spread']:.0f}",
            f"{speed['gain']:.2f} ± {speed['gain_spread']:.2f}",
        )
    ]
    return name, told("{:.0%}", one["acceptance_rate"]), f"{one['tokens_per_step']:.2f}", *speeds


def _rows(evaluation: Evaluation, gates: dict[str, GateResult]) -> Iterator[Row]:
    yield "weights, MB", megabytes(evaluation.reference_bytes), megabytes(evaluation.weights_bytes), ""
    for kind, found in evaluation.quality.items():
        gated = kind == "code"
        rise = f"{told('{:.2f}', found['perplexity'])} ({told('{:+.1%}', found['rise'])})"
        yield (
            f"perplexity of {kind}", told("{:.2f}", found["reference_perplexity"]), rise,
            _gate(gates.get("max_perplexity_rise") if gated else None, "rise ≤ {:.0%}"),
        )  # fmt: skip
        yield (
            f"KL of {kind}, nats",
            "0",
            told("{:.3f}", found["kl"]),
            _gate(gates.get("max_kl") if gated else None, "≤ {:.3g}"),
        )
    if evaluation.golden is not None:
        yield from _golden_rows(evaluation.golden, gates)
    if evaluation.judge is not None:
        for metric, mean in evaluation.judge["means"].items():
            yield f"{metric.replace('_', ' ')}, by {evaluation.judge['model']}", "", f"{mean:.2f}", ""
    alone, loaded = evaluation.speed["alone"], evaluation.speed["loaded"]
    yield "decode, tokens/s, 1 stream", "", f"{alone['decode']:.0f}", ""
    yield f"output, tokens/s, {loaded['streams']} streams", "", f"{loaded['output']:.0f}", ""
    yield "first token alone, ms", "", f"{alone['ttft_s'] * 1000:.0f}", ""
    yield "peak memory of the engine, MB", "", megabytes(evaluation.speed["peak_memory_bytes"]), ""


def _golden_rows(golden: dict[str, Any], gates: dict[str, GateResult]) -> Iterator[Row]:
    ours, theirs = golden["report"], golden["reference"]
    yield (
        "golden set passed", share(theirs["pass_rate"]), share(ours["pass_rate"]),
        _gate(gates.get("min_golden_pass_rate"), "≥ {:.0%}"),
    )  # fmt: skip
    yield (
        "citation validity", share(theirs["citation_validity"]), share(ours["citation_validity"]),
        _gate(gates.get("min_citation_validity"), "≥ {:.0%}"),
    )  # fmt: skip
    yield (
        "mean answer, tokens", number(theirs["answer_tokens"]), number(ours["answer_tokens"]),
        _gate(gates.get("max_length_change"), "± {:.0%}"),
    )  # fmt: skip
    yield "greedy answers the same", "", share(golden["agreement"]["identical"]), ""
    yield "... beginning alike", "", share(golden["agreement"]["common_prefix"]), ""


def _gate(result: GateResult | None, words: str) -> str:
    return "" if result is None else f"{words.format(result.allowed)} {'ok' if result.passed else 'FAILED'}"


def megabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.0f}"


def share(value: float | None) -> str:
    return told("{:.1%}", value)


def number(value: float | None) -> str:
    return told("{:.1f}", value)


def told(words: str, value: float | None) -> str:
    """``value`` in the format ``words``, a dash for what was not measured or is no number."""
    return "-" if value is None else words.format(value)


__all__ = ["evaluation_lines", "markdown", "megabytes", "number", "share", "speculation_lines", "told"]
