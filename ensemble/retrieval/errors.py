"""What can be wrong with a collection, and what to do about it."""

from slipstream import EnvironmentFault, InputError


class CollectionNameInvalid(InputError):
    """A name that could not be a folder or a Qdrant collection: only ``[A-Za-z0-9._-]{1,64}``, no leading dot."""


class CollectionNotFound(InputError):
    """No collection has that name, or it was never published."""


class EmbedderMismatch(InputError):
    """The collection's vectors come from another embedder than the one that would search them."""


class CollectionOutdated(InputError):
    """The collection was indexed by a release whose words are not those of this one's questions."""


class StoreUnavailable(EnvironmentFault):
    """The index cannot be opened or the server does not answer."""


class IndexDamaged(StoreUnavailable):
    """What lies on the disk is not what was published. Building the collection anew is the way out of it."""


class IndexHeld(StoreUnavailable):
    """Another process has the published version open; one at a time can."""


class VersionGone(StoreUnavailable):
    """A version was removed while it was in use: later ones were published in the meantime."""


def remedy(collection: str) -> str:
    """What to do about a collection that is missing or damaged."""
    return f"slipstream index PATH... --collection {collection} builds it."


def not_found(collection: str) -> CollectionNotFound:
    return CollectionNotFound(f"There is no collection {collection!r}", remedy(collection))
