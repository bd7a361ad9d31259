"""Following git repositories: whenever a head has moved and rests, its commit is indexed.

Heads are polled, because the ways in which git stores references (files, packed, reftable) and moves them are many,
and asking takes 2 ms. A rebase is waited for: its steps are no results.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import structlog

from slipstream import EnvironmentFault, InputError, SlipstreamError
from slipstream.ensemble.retrieval.errors import StoreUnavailable
from slipstream.ensemble.retrieval.freshness.commits import Commits, Followed
from slipstream.ensemble.retrieval.freshness.git import GitFailed, Head
from slipstream.ensemble.retrieval.freshness.revisions import Revision
from slipstream.ensemble.retrieval.index import IndexReport, NothingToIndex
from slipstream.ensemble.retrieval.lock import FileLock
from slipstream.ensemble.retrieval.naming import check_name
from slipstream.ensemble.retrieval.roots import resolve_root

log = structlog.get_logger(__name__)

POLL_S = 0.4
REST_S = 0.2
"""How long a head has to stay where it is: a checkout of another branch and a pull right after it are one change."""
_TAGS_S = 10.0
_RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0)


class Watch:
    """Follows the repositories of ``arguments``, as `resolve_root` takes them.

    Args:
        make: publishes a version of what it is given.
        tell: is told what came of it.

    Raises:
        SourceNotFound, NotARepository, GitMissing: an argument cannot be followed.
    """

    def __init__(
        self, arguments: Sequence[str], make: Callable[[Commits], IndexReport], tell: Callable[[IndexReport], None]
    ) -> None:
        self._followed = [Followed(resolve_root(argument)) for argument in arguments]
        self._make = make
        self._tell = tell
        self._done: list[Revision] | None = None
        self._tags: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._failures = 0
        self._told = ""

    def run(self) -> NoReturn:
        """Follow until the process is interrupted.

        Raises:
            EnvironmentFault: the first version cannot be made; later ones are tried again and again.
            InputError: this cannot be indexed at all.
        """
        while True:
            time.sleep(self.step())

    def step(self) -> float:
        """Look once, and index what has changed; gives the seconds to wait before the next time."""
        try:
            revisions = self._settled()
            if revisions is not None and revisions != self._done:
                self._index(revisions)
            self._told = ""
        except (GitFailed, NothingToIndex) as error:
            self._complain(error)
        except InputError:
            raise
        except SlipstreamError as error:
            if self._done is None and isinstance(error, EnvironmentFault):
                raise
            return self._again(error)
        except Exception as error:
            if self._done is None:
                raise
            log.exception("watch.failed")
            return self._again(SlipstreamError(f"{type(error).__name__}: {error}"))
        return POLL_S

    def _index(self, revisions: list[Revision]) -> None:
        commits = Commits(self._followed, revisions)
        try:
            self._tell(self._make(commits))
        except NothingToIndex:
            self._done = revisions  # until a head moves
            raise
        finally:
            commits.close()
        self._done, self._failures = revisions, 0

    def _settled(self) -> list[Revision] | None:
        """What the heads stand at; None while one of them moves or a rebase is under way.

        Raises:
            GitFailed: a repository has no commit, or is not there.
        """
        heads = self._heads()
        if self._done is not None and [(head.commit, head.branch) for head in heads] != [
            (revision.commit, revision.branch) for revision in self._done
        ]:
            time.sleep(REST_S)
            if self._heads() != heads:
                return None
        if any(head.rebasing for head in heads):
            return None
        return [self._revision(each, head) for each, head in zip(self._followed, heads, strict=True)]

    def _heads(self) -> list[Head]:
        return [each.repository.head() for each in self._followed]

    def _revision(self, followed: Followed, head: Head) -> Revision:
        asked, tags = self._tags.get(head.commit, (float("-inf"), ()))
        if time.monotonic() - asked >= _TAGS_S:
            tags = followed.repository.tags(head.commit)
            self._tags = {**self._tags, head.commit: (time.monotonic(), tags)} if len(self._tags) < 64 else {}
        return Revision(followed.root.repo, head.commit, head.branch, tags)

    def _again(self, error: SlipstreamError) -> float:
        wait = _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
        self._failures += 1
        self._complain(error, retry_s=wait)
        return wait

    def _complain(self, error: SlipstreamError, **more: float) -> None:
        """Once for each reason: what was published goes on being searched."""
        if error.message != self._told:
            self._told = error.message
            log.warning("watch.waiting", reason=error.message, remedy=error.remedy, **more)


@contextmanager
def alone(index_dir: Path, collection: str) -> Iterator[None]:
    """Two that follow different repositories would take the collection from each other, commit by commit.

    Raises:
        StoreUnavailable: another process of this machine follows repositories into ``collection``.
    """
    check_name(collection)
    index_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(index_dir / f".watching-{collection}.lock")
    if not lock.acquire(create=True):
        raise StoreUnavailable(
            f"another slipstream index --watch keeps {collection!r} up to date",
            "name all PATHs in one command, or choose another --collection",
        )
    try:
        yield
    finally:
        lock.release()


__all__ = ["Watch", "alone"]
