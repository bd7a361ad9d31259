"""The bounds of one bundle on one machine, as a table and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slipstream.profiling.limit.bounds import Bound, tpot_bound, ttft_bound
from slipstream.profiling.limit.bundle import BundleWork
from slipstream.profiling.limit.roof import Rate, Roof

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class Limits:
    """Bounds of ``tpot`` by number of streams, each with ``prompt_tokens`` of context, and of one prompt's ``ttft``.

    None: the machine's bandwidth is not known. ``measured_at`` is empty for a machine that nobody measured.
    """

    bundle: BundleWork
    roof: Roof
    prompt_tokens: int
    cached_tokens: int
    tpot: Sequence[tuple[int, Bound | None]]
    ttft: Bound | None
    measured_at: str = ""

    @classmethod
    def of(
        cls,
        bundle: BundleWork,
        roof: Roof,
        prompt_tokens: int,
        cached_tokens: int,
        streams: Sequence[int],
        measured_at: str = "",
    ) -> "Limits":
        """
        Raises:
            LimitUnknown: there is no such step or prompt.
        """
        tpot = [(number, tpot_bound(bundle.work, roof, number, prompt_tokens)) for number in streams]
        ttft = ttft_bound(bundle.work, roof, prompt_tokens, cached_tokens)
        return cls(bundle, roof, prompt_tokens, cached_tokens, tpot, ttft, measured_at)

    def to_plain(self) -> dict[str, Any]:
        """In JSON's types; a bound that is not known has no ``seconds``."""
        prompt = {"prompt_tokens": self.prompt_tokens, "cached_tokens": self.cached_tokens}
        return {
            "bundle": self.bundle.bundle_id,
            "target": self.bundle.target,
            "work": asdict(self.bundle.work),
            "roof": self.roof.to_plain(),
            "measured_at": self.measured_at,
            "context_tokens": self.prompt_tokens,
            "tpot": [{"streams": number, **_plain(bound)} for number, bound in self.tpot],
            "ttft": prompt | _plain(self.ttft),
        }

    def lines(self) -> Iterator[str]:
        """For people: what is read and computed, what the machine can do, the bounds."""
        yield from self._work_lines()
        yield from self._roof_lines()
        yield ""
        yield f"{'streams':>7}{'read/step':>12}{'operations/step':>17}{'TPOT >=':>12}{'tokens/s <=':>13}  bound by"
        for number, bound in self.tpot:
            load = self.bundle.work.decode(number, self.prompt_tokens)
            operations = load.operations * self.bundle.work.tokens_per_step  # as in the bound: proposals are computed
            cells = f"{number:>7}{quantity(load.read_bytes, 'B'):>12}{quantity(operations, 'OP'):>17}"
            known = bound and f"{1e3 * bound.seconds:>9.2f} ms{number / bound.seconds:>13,.0f}  {bound.by}"
            yield cells + (known or f"{'not known':>12}")
        cached = f", {self.cached_tokens:,} of them cached" if self.cached_tokens else ""
        ttft = self.ttft and f">= {1e3 * self.ttft.seconds:,.1f} ms, by {self.ttft.by}"
        yield f"TTFT of a prompt of {self.prompt_tokens:,} tokens{cached}: {ttft or 'not known'}"
        if self.ttft and self.ttft.operations_per_s is None:
            yield f"  by what it reads alone: no rate of {self.bundle.work.arithmetic} products is known"

    def _work_lines(self) -> Iterator[str]:
        work = self.bundle.work
        yield f"bundle {self.bundle.bundle_id} ({self.bundle.target})"
        yield f"  a step reads     {quantity(work.weight_bytes, 'B')} of weights, whatever its streams"
        yield f"  a stream reads   {work.kv_bytes_per_token:,.0f} B of {work.precision} KV cache per token of context"
        operations = quantity(4 * work.attention_width, "OP")
        yield f"  a token computes {quantity(2 * work.parameters, 'OP')}, and {operations} per token of context"
        if work.tokens_per_step > 1:
            yield f"  a step gives     {work.tokens_per_step} tokens at most: it verifies proposals"

    def _roof_lines(self) -> Iterator[str]:
        yield f"{self.roof.name} ({' '.join(part for part in (self.roof.source, self.measured_at) if part)})"
        for size in self._told_sizes():
            yield f"  reads {quantity(size, 'B'):>9} at {_rate(self.roof.bandwidth(size), 'B/s')}"
        for name, rate in self.roof.compute.items():
            yield f"  computes {name:>6} at {_rate(rate, 'OP/s')}"

    def _told_sizes(self) -> list[float]:
        """What a step reads and, where caches were measured as well, what they hold nothing of."""
        step = self.bundle.work.decode().read_bytes
        return [step, *(one.working_set_bytes for one in self.roof.readings[-1:] if one.working_set_bytes > step)]


def quantity(value: float, unit: str) -> str:
    """Three digits with a decimal prefix: ``89.8 MB``."""
    rounded = float(f"{value:.3g}")  # 999.6 million are a thousand
    factor, prefix = next((pair for pair in _PREFIXES if rounded >= pair[0]), (1.0, ""))
    return f"{value / factor:.3g} {prefix}{unit}"


def _plain(bound: Bound | None) -> dict[str, Any]:
    return asdict(bound) if bound else {}


def _rate(rate: Rate | None, unit: str) -> str:
    if rate is None:
        return "a rate that is not known"
    told = quantity(rate.best, unit)
    if rate.best == rate.least:
        return told
    return f"{told} at best (median {quantity(rate.median, unit)}, least {quantity(rate.least, unit)})"


__all__ = ["Limits", "quantity"]
