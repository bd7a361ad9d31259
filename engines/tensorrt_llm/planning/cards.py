"""The GPUs that engines are planned for: what their driver reports, not what their boxes say.

``memory_mib`` is the total that ``nvidia-smi`` shows with ECC on, which is what a CUDA context finds (an "80 GB" H100
has 81,559 MiB, a "48 GB" L40S 46,068). Compute capabilities are those of https://developer.nvidia.com/cuda-gpus.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator


class GpuCard(BaseModel):
    """One GPU model.

    Attributes:
        compute_capability: as NVIDIA writes it, ``8.9``.
        source: where the numbers are from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "custom"
    memory_mib: int = Field(ge=4096, le=1_048_576)
    compute_capability: str = Field(pattern=r"^\d{1,2}\.\d$")
    source: str = "the recipe"

    @field_validator("compute_capability", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, float) else value  # YAML reads 8.9 as a number

    @property
    def sm(self) -> int:
        """The number of the architecture that kernels are built for: 89 for ``8.9``, 120 for ``12.0``."""
        major, minor = self.compute_capability.split(".")
        return int(major) * 10 + int(minor)

    @property
    def memory_bytes(self) -> int:
        return self.memory_mib * 2**20


_SEEN = "nvidia-smi total, modal-labs/modal-client#2797"

CARDS: Mapping[str, GpuCard] = {
    card.name: card
    for card in (
        GpuCard(name="a10g", memory_mib=23028, compute_capability="8.6", source=_SEEN),
        GpuCard(name="a100-40gb", memory_mib=40960, compute_capability="8.0", source=_SEEN),
        GpuCard(name="a100-80gb", memory_mib=81920, compute_capability="8.0", source=_SEEN),
        GpuCard(name="l4", memory_mib=23034, compute_capability="8.9", source=_SEEN),
        GpuCard(name="l40s", memory_mib=46068, compute_capability="8.9", source=_SEEN),
        GpuCard(name="h100", memory_mib=81559, compute_capability="9.0", source=_SEEN),
        GpuCard(
            name="h200",
            memory_mib=143771,
            compute_capability="9.0",
            source="nvidia-smi total of an H200 SXM",
        ),
        GpuCard(
            name="b200",
            memory_mib=182630,
            compute_capability="10.0",
            source="device query in pytorch/ao#4002",
        ),
    )
}


def _named(value: Any) -> Any:
    if isinstance(value, str):
        if value not in CARDS:
            raise ValueError(
                f"no GPU is known as {value!r}: choose one of {', '.join(CARDS)}, "
                "or give memory_mib and compute_capability"
            )
        return CARDS[value]
    return value


Gpu = Annotated[GpuCard, BeforeValidator(_named)]
"""A name from `CARDS`, or a card written out."""

__all__ = ["CARDS", "Gpu", "GpuCard"]
