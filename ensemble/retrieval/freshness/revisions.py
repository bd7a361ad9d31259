"""Which revision a version of a collection was made from, and which version a revision's name means.

A version's facts carry a list of `Revision`, the newest first: one for each repository it was made from, and more when
a later commit changed nothing that is indexed.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slipstream import InputError
from slipstream.ensemble.retrieval.store import VersionInfo

REVISIONS = "revisions"
KEEP = 8
"""How many recent revisions stay searchable unless told otherwise."""
MIN_HEX = 7
"""Digits that an abbreviated commit needs, as many as git shows."""
_HEX = re.compile(rf"[0-9a-fA-F]{{{MIN_HEX},64}}")
_LISTED = 12
_REMEMBERED = 64


class RevisionNotFound(InputError):
    """No version of the collection was made from that revision, or none is kept any more."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit as it was indexed; ``branch`` (None: detached) and ``tags`` are the names that it had then.

    ``dirty``: files of the working tree were indexed, and some differed from the commit.
    """

    repo: str
    commit: str
    branch: str | None = None
    tags: tuple[str, ...] = ()
    dirty: bool = False

    @classmethod
    def of(cls, facts: Any) -> "Revision":
        """From the JSON values of `VersionInfo.facts`."""
        return cls(facts["repo"], facts["commit"], facts["branch"], tuple(facts["tags"]), bool(facts["dirty"]))

    def label(self) -> str:
        """``1a2b3c4 (main, v1.0)``."""
        names = ", ".join([*([self.branch] if self.branch else []), *self.tags, *(["dirty"] if self.dirty else [])])
        return self.commit[:MIN_HEX] + (f" ({names})" if names else "")


def revisions_of(info: VersionInfo) -> list[Revision]:
    return [Revision.of(facts) for facts in info.facts.get(REVISIONS, ())]


def merged(now: Sequence[Revision], before: Sequence[Revision] = ()) -> list[dict[str, Any]]:
    """The facts of a version that is made from ``now`` and was made from ``before``, with equal sources."""
    taken = {(revision.repo, revision.commit, revision.branch) for revision in now}
    others = [revision for revision in before if (revision.repo, revision.commit, revision.branch) not in taken]
    return [asdict(revision) | {"tags": list(revision.tags)} for revision in [*now, *others][:_REMEMBERED]]


def find(versions: Sequence[VersionInfo], wanted: str) -> VersionInfo:
    """The version of ``versions`` (the newest first) that ``wanted`` means: a branch, a tag or a commit.

    A name means the newest version that had it; a commit the one without uncommitted edits, if there is one.

    Raises:
        RevisionNotFound: telling those there are; or the digits fit two commits.
    """
    known = [(info, revision) for info in versions for revision in revisions_of(info)]
    for info, revision in known:
        if wanted == revision.branch or wanted in revision.tags:
            return info
    if _HEX.fullmatch(wanted):
        fitting = [(info, revision) for info, revision in known if revision.commit.startswith(wanted.lower())]
        if len({revision.commit for _, revision in fitting}) > 1:
            raise _not_found(f"{wanted} fits several commits that are", known)
        if fitting:
            return min(fitting, key=lambda pair: pair[1].dirty)[0]
    raise _not_found(f"revision {wanted[:80]!r} is not", known)


def retained(versions: Sequence[VersionInfo], keep: int) -> list[str]:
    """Which of ``versions`` (the newest first) stay: ``keep`` that a revision leads to, and at least two.

    The one before the newest stays whatever it was made from: a reader may have read the pointer just now.
    """
    stay: list[str] = []
    covered: set[tuple[str, str, bool]] = set()
    for position, info in enumerate(versions):
        new = {(revision.repo, revision.commit, revision.dirty) for revision in revisions_of(info)} - covered
        if position < 2 or (new and len(stay) < keep):
            stay.append(info.version)
            covered |= new
    return stay


def _not_found(what: str, known: Sequence[tuple[VersionInfo, Revision]]) -> RevisionNotFound:
    labels = list(dict.fromkeys(revision.label() for _, revision in known))
    more = f" and {len(labels) - _LISTED} more" if len(labels) > _LISTED else ""
    return RevisionNotFound(
        f"{what} indexed" + (f"; indexed are {', '.join(labels[:_LISTED])}{more}" if labels else "; no revision is"),
        f"ask for a branch, a tag or {MIN_HEX} digits of a commit of these, or check it out and run slipstream index",
    )


__all__ = ["KEEP", "MIN_HEX", "REVISIONS", "Revision", "RevisionNotFound", "find", "merged", "retained", "revisions_of"]
