"""What a program wrote, for another program to read: by its name, its first lines, the length of its lines."""

import re

_MINIFIED_LINE, _CHAPTER_LINE = 500, 10_000  # mean line length in bytes above which no person wrote it
_GENERATED_NAME = re.compile(
    r"(?:_pb2(?:_grpc)?\.pyi?|\.pb\.(?:go|h|cc)|\.min\.m?js|\.bundle\.js|\.lock|\.lock\.json|-lock\.(?:json|ya?ml)|^go\.sum)$"
)
_GENERATED_HEADER = re.compile(
    rb"^[ \t]*(?:#|//|/\*|\*|<!--|;|\"\"\")[^\n]*"
    rb"(?:@generated\b|\bDO NOT (?:EDIT|MODIFY)\b|(?i:\b(?:auto[- ]?)?generated\b[^\n]*\bdo not (?:edit|modify))"
    rb"|(?i:\bauto-?generated (?:by|from|file|code)\b))",
    re.MULTILINE,
)
_HEADER_LINES, _HEADER_BYTES = 30, 4_096


def is_generated_name(name: str) -> bool:
    return _GENERATED_NAME.search(name) is not None


def is_generated(head: bytes, *, is_prose: bool) -> bool:
    """Whether a file that begins with ``head`` says so in its first lines, or is minified."""
    top = b"\n".join(head[:_HEADER_BYTES].split(b"\n", _HEADER_LINES)[:_HEADER_LINES])
    if _GENERATED_HEADER.search(top):
        return True
    # A paragraph on one line is how prose is written, but not a chapter.
    return _line_length(head) > (_CHAPTER_LINE if is_prose else _MINIFIED_LINE)


def is_data(sample: bytes) -> bool:
    """Whether ``sample`` is minified, or a table: six of ten words are numbers, where people write, two at most."""
    words = re.findall(rb"\w+", sample)
    numbers = sum(word[:1].isdigit() for word in words)
    return bool(sample) and (_line_length(sample) > _MINIFIED_LINE or numbers > 0.6 * len(words))


def _line_length(sample: bytes) -> float:
    return len(sample) / (sample.count(b"\n") + sample.count(b"\r") + 1)


__all__ = ["is_data", "is_generated", "is_generated_name"]
