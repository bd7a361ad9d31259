"""When the stages of a request ran, as the models tell it: nanoseconds of `profiling.spans.now_ns`, 0 for unknown.

============== ===========================================================================================
tensor         INT64 values
============== ===========================================================================================
``embed_ns``   began, ended
``retrieve_ns`` began, search began, search ended, prompt was ready
``marks_ns``   how many values of `Before` follow, those (in the first response only), when the sender took
               the tokens up, when it sent their text, and the end of every step that brought them
============== ===========================================================================================

All are zeros or empty where spans are switched off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

EMBED_NS, RETRIEVE_NS, MARKS_NS = "embed_ns", "retrieve_ns", "marks_ns"
EMBED_MARKS, RETRIEVE_MARKS = 2, 4


class Before(NamedTuple):
    """What happened before the first token."""

    embed_began: int = 0
    embed_ended: int = 0
    retrieve_began: int = 0
    search_began: int = 0
    search_ended: int = 0
    prompt_ready: int = 0
    submitted: int = 0
    taken: int = 0

    @classmethod
    def of(
        cls, embed_ns: Sequence[int] = (), retrieve_ns: Sequence[int] = (), submitted: int = 0, taken: int = 0
    ) -> "Before":
        """From the tensors that passed through; one of a wrong length says nothing."""
        embed = embed_ns if len(embed_ns) == EMBED_MARKS else (0,) * EMBED_MARKS
        retrieve = retrieve_ns if len(retrieve_ns) == RETRIEVE_MARKS else (0,) * RETRIEVE_MARKS
        return cls._make((*embed, *retrieve, submitted, taken))


@dataclass(frozen=True, slots=True)
class Marks:
    """Those of one response of the generator; ``before`` is None but in the first."""

    detokenize_began: int
    sent: int
    steps: tuple[int, ...] = ()
    before: Before | None = None

    def encode(self) -> list[int]:
        """The values of ``marks_ns``."""
        before = self.before or ()
        return [len(before), *before, self.detokenize_began, self.sent, *self.steps]

    @classmethod
    def decode(cls, values: Sequence[int]) -> "Marks | None":
        """The marks in ``values``; None where there are none, or none of ours."""
        count = values[0] if len(values) else -1
        if count not in (0, len(Before._fields)) or len(values) < count + 3:
            return None
        began, sent, *steps = values[1 + count :]
        return cls(began, sent, tuple(steps), Before(*values[1 : 1 + count]) if count else None)


__all__ = ["EMBED_MARKS", "EMBED_NS", "MARKS_NS", "RETRIEVE_MARKS", "RETRIEVE_NS", "Before", "Marks"]
