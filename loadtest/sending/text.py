"""Text that can be written down, whatever a server sent."""


def well_formed(text: str) -> str:
    """``text`` as it can be written down: JSON's escapes may bring one half of a character, and its other half in the
    next chunk; both are put together, and a half that stays alone is replaced.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


__all__ = ["well_formed"]
