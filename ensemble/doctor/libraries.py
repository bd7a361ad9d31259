"""What is installed against what was tested: the ranges of the package, and the lock that comes with it."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires
from importlib.resources import files
from typing import TYPE_CHECKING

from slipstream.ensemble.doctor.finding import Finding, NotExamined, Subject

if TYPE_CHECKING:
    from packaging.requirements import Requirement

LOCK = "constraints.txt"
"""At the root of the package, in a checkout as in a wheel."""
_NAMED = 6


def libraries(subject: Subject) -> Finding:
    """Everything that serving imports is there and in its range; other versions than the tested ones are told."""
    have = installed()
    wrong = list(out_of_range("slipstream", "serve", have))
    lock = files("slipstream").joinpath(LOCK)
    remedy = f"pip install -c {lock} 'slipstream[serve]'"
    if wrong:
        return Finding("libraries", "problem", _few(wrong), remedy)
    try:
        locked = read_lock(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotExamined(f"{lock} is not there: what was tested is unknown") from None
    other = [f"{name} {have[name]} (tested: {locked[name]})" for name in sorted(have.keys() & locked) if
             _public(have[name]) != _public(locked[name])]  # fmt: skip
    if other:
        return Finding("libraries", "warning", f"{len(other)} are not as tested: {_few(other)}", remedy)
    return Finding("libraries", "ok", f"all {len(have.keys() & locked)} of the lock that are installed are as tested")


def installed() -> dict[str, str]:
    """Version by normalized name of what this Python can import."""
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:  # a folder that an interrupted installation left has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def out_of_range(package: str, extra: str, have: dict[str, str]) -> Iterator[str]:
    """What ``package[extra]`` asks for and does not get, or what it asks for asks for in its turn.

    Raises:
        NotExamined: ``package`` runs from a tree that was never installed.
    """
    from packaging.utils import canonicalize_name

    waiting, seen = [(package, extra)], set[tuple[str, str]]()
    while waiting:
        asking = waiting.pop(0)
        if asking in seen:
            continue
        seen.add(asking)
        for one in _wanted(*asking):
            name = canonicalize_name(one.name)
            found, by = have.get(name), "" if asking[0] == package else f" (for {asking[0]})"
            if found is None:
                yield f"{one.name} is not installed{by}"
                continue
            if not one.specifier.contains(found, prereleases=True):
                yield f"{one.name} {found} is not {one.specifier}{by}"
            waiting += [(name, more) for more in ("", *sorted(one.extras))]


def _wanted(package: str, extra: str) -> "Iterator[Requirement]":
    from packaging.requirements import Requirement

    try:
        lines = requires(package) or ()
    except PackageNotFoundError:
        raise NotExamined(f"{package} was not installed: nothing says what it needs") from None
    for one in map(Requirement, lines):
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one


def read_lock(text: str) -> dict[str, str]:
    """Version by normalized name, of a file in the form of ``pip freeze``."""
    from packaging.utils import canonicalize_name

    pairs = (line.split("==", 1) for line in text.splitlines() if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name.strip()): version.strip() for name, version in pairs}


def _public(version: str) -> str:
    """Without the local part: ``2.13.0+cpu`` is 2.13.0 for this machine's kind of hardware."""
    return version.partition("+")[0]


def _few(named: list[str]) -> str:
    return ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
