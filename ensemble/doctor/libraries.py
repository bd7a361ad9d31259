"""What is installed against what was tested: the ranges of the package, and the lock that comes with it."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires
from importlib.resources import files

from slipstream.ensemble.doctor.finding import Finding, NotExamined, Subject

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
    """What ``package[extra]`` asks for and does not get.

    Raises:
        NotExamined: ``package`` runs from a tree that was never installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        wanted = [Requirement(line) for line in requires(package) or ()]
    except PackageNotFoundError:
        raise NotExamined(f"{package} was not installed: nothing says what it needs") from None
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        found = have.get(canonicalize_name(one.name))
        if found is None:
            yield f"{one.name} is not installed"
        elif not one.specifier.contains(found, prereleases=True):
            yield f"{one.name} {found} is not {one.specifier}"


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
