"""What NVIDIA's data sheets promise of the cards that engines are planned for. Nothing here was measured.

Dense tensor-core operations per second (sheets that print them with sparsity are halved) and bytes per second. A card
of that name with less (PCIe instead of SXM) makes the bound looser, never wrong. Sheets: https://www.nvidia.com/
en-us/data-center/a100, h100, h200, l4, l40s and hgx (B200). No sheet of the A10G says what its tensor cores do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slipstream.profiling.limit.roof import Rate, Reading, Roof
from slipstream.profiling.limit.work import Arithmetic


@dataclass(frozen=True, slots=True)
class Card:
    """``bytes_per_s``, and operations per second in 16 bits and, where the card has it, FP8."""

    bytes_per_s: float
    sixteen_bit: float | None
    fp8: float | None = None


CARDS: Mapping[str, Card] = {
    "a10g": Card(600e9, None),
    "a100-40gb": Card(1.555e12, 312e12),
    "a100-80gb": Card(2.039e12, 312e12),
    "l4": Card(300e9, 121e12, 242.5e12),
    "l40s": Card(864e9, 362e12, 733e12),
    "h100": Card(3.35e12, 989.5e12, 1979e12),
    "h200": Card(4.8e12, 989.5e12, 1979e12),
    "b200": Card(8e12, 2250e12, 4500e12),
}


def card_roof(name: str, gpus: int) -> Roof:
    """Of ``gpus`` cards that share every layer; without any figure for a card that no sheet is known of."""
    card = CARDS.get(name)
    if card is None:
        return Roof(f"{gpus} x {name}", (), {}, "not measured, and no data sheet is known")
    compute: dict[Arithmetic, Rate] = {}
    if card.sixteen_bit is not None:
        compute["16-bit"] = _told(card.sixteen_bit * gpus)
    if card.fp8 is not None:
        compute["8-bit"] = _told(card.fp8 * gpus)
    readings = (Reading(0, _told(card.bytes_per_s * gpus)),)
    return Roof(f"{gpus} x {name}", readings, compute, "by its data sheet, not measured")


def _told(rate: float) -> Rate:
    return Rate(rate, rate, rate)


__all__ = ["CARDS", "Card", "card_roof"]
