"""Group sizes: which of them divide the layers of a model."""

from collections.abc import Sequence

from slipstream import InputError

_USUAL = (256, 128, 64, 32, 16)


class GroupSizeMismatch(InputError):
    """The group size does not divide the input width of a layer that would be quantized."""


def require_group_size(widths: Sequence[int], group_size: int, whose: str = "the model") -> None:
    """
    Args:
        widths: distinct input widths of the linear layers inside the blocks.
        whose: names the model in the error.

    Raises:
        GroupSizeMismatch: naming the widths and the sizes that would fit.
    """
    if group_size >= 1 and not any(width % group_size for width in widths):
        return
    fitting = [size for size in _USUAL if all(width % size == 0 for width in widths)]
    raise GroupSizeMismatch(
        f"group size {group_size} does not divide every input width of {whose} ({', '.join(map(str, widths))})",
        f"set group_size to one of: {', '.join(map(str, fitting)) or 'none fits; use method: none'}",
    )


def is_grouped(tensor: str) -> bool:
    """Whether a weight matrix of that name is quantized by groups: the embedding and the last layer are not."""
    return not any(word in tensor for word in ("embed", "embd", "lm_head")) and tensor != "output.weight"


__all__ = ["GroupSizeMismatch", "is_grouped", "require_group_size"]
