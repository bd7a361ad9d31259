"""Kernel names as people say them."""

_LONGEST = 72


def short_name(demangled: str) -> str:
    """The function's name without what it returns and takes; its template arguments as far as they fit.

    ``void cutlass::Kernel2<gemm_64x64>(T1::Params)`` is ``cutlass::Kernel2<gemm_64x64>``.
    """
    name = _without_parameters(demangled.strip()).removeprefix("void ").strip() or demangled.strip()
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _without_parameters(name: str) -> str:
    """Cut the last group of parentheses, if the name ends with it; those of an anonymous namespace do not end it."""
    if not name.endswith(")"):
        return name
    depth = 0
    for place in range(len(name) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(name[place], 0)
        if depth == 0:
            return name[:place]
    return name


__all__ = ["short_name"]
