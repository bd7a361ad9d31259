"""Reading a scenario: a path, or the name of one that ships in ``loadtest/scenarios``; every fault by its place."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slipstream import InputError
from slipstream.build.strict_yaml import YAMLError, load_strict, one_line
from slipstream.loadtest.scenario import Scenario

SHIPPED = Path(__file__).parent / "scenarios"

_TOLD_AT_ONCE = 20
_EXAMPLE = f"start from {SHIPPED / 'default.yaml'}"
_short = Repr()  # for a given value in a message: an alias makes a few bytes of YAML a value of any size
_short.maxlevel, _short.maxstring, _short.maxother = 2, 80, 80


class ScenarioNotFound(InputError):
    """Neither a file nor the name of a shipped scenario."""


class ScenarioInvalid(InputError):
    """Not YAML, an unknown or repeated key, or a value that does not fit; names the place."""


def shipped_scenarios() -> list[str]:
    """Names of the scenarios that come with Slipstream."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_scenario(reference: str) -> Scenario:
    """Read the scenario at a path, or the shipped one of that name (write ``./NAME`` for a file called like one).

    Raises:
        ScenarioNotFound: there is neither.
        ScenarioInvalid: every fault in it, by its dotted place.
    """
    path = SHIPPED / f"{reference}.yaml" if reference in shipped_scenarios() else Path(reference)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading a pipe could wait for ever
            raise ScenarioInvalid(f"{path} is no file", "a scenario is a YAML file in UTF-8")
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise ScenarioNotFound(
            f"there is no scenario {reference!r}", f"give a path, or one of: {', '.join(shipped_scenarios())}"
        ) from None
    except (OSError, ValueError) as error:
        raise ScenarioInvalid(f"{path} cannot be read: {error}", "a scenario is a YAML file in UTF-8") from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, origin: str) -> Scenario:
    """The scenario written in ``text``; ``origin`` names it in errors, and the scenario where it has no name.

    Raises:
        ScenarioInvalid: see `load_scenario`.
    """
    try:
        fields = load_strict(text)
    except YAMLError as error:
        raise ScenarioInvalid(f"{origin}: {one_line(error)}", "write each key once, as `key: value`") from error
    except (RecursionError, ValueError) as error:  # a date that is none, for instance
        raise ScenarioInvalid(f"{origin} cannot be read: {error}", _EXAMPLE) from error
    if not isinstance(fields, dict):
        raise ScenarioInvalid(f"{origin} holds no keys", _EXAMPLE)
    return checked({"name": _name_of(origin), **fields}, origin)


def checked(fields: dict[str, Any], origin: str) -> Scenario:
    """The scenario of ``fields``; ``origin`` names it in errors.

    Raises:
        ScenarioInvalid: every fault in it, by its dotted place.
    """
    try:
        return Scenario.model_validate(fields)
    except ValidationError as error:
        faults = list(_faults(error.errors()))
        raise ScenarioInvalid(f"{origin}: " + "; ".join(said for said, _ in faults), faults[0][1]) from error


def _name_of(origin: str) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", Path(origin).stem.lower()).lstrip("_.-")[:64] or "scenario"


def _faults(errors: list[ErrorDetails]) -> Iterator[tuple[str, str]]:
    """What is wrong at each place, and what to do about it; misspelt keys first, because others may come of them."""
    by_place: dict[str, list[tuple[str, str]]] = {}  # a number or a range fails as both, which is one fault
    for error in sorted(errors, key=lambda error: error["type"] != "extra_forbidden")[:_TOLD_AT_ONCE]:
        place, section = locate(error)
        by_place.setdefault(place, []).append(_fault(error, place, section))
    for faults in by_place.values():
        yield " or ".join(said for said, _ in faults), faults[0][1]


def _fault(error: ErrorDetails, place: str, section: type[BaseModel]) -> tuple[str, str]:
    if error["type"] == "extra_forbidden":
        nearest = nearest_key(place, section)
        return f"unknown key {place!r}; the nearest known key is {nearest!r}", f"write {nearest} instead of {place}"
    if error["type"] == "missing":
        return f"{place} is missing", f"add {place} to the scenario"
    if error["type"].startswith("union_tag"):
        kinds = ", ".join(sections_in(section.model_fields[place].annotation))
        return f"{place}.kind has to be one of: {kinds}", f"write {place}: {{kind: KIND, ...}} with one of them"
    said = error["msg"].removeprefix("Value error, ").replace("tuple", "list")
    if not place:
        return said, _EXAMPLE
    return f"{place}: {said}, not {_short.repr(error['input'])}", f"change {place}"


def locate(error: ErrorDetails) -> tuple[str, type[BaseModel]]:
    """The dotted place of ``error`` as a person writes it, and the section that it is in.

    Pydantic puts the kind of a section and the branch of a choice into its places, too.
    """
    place: list[str] = []
    section: type[BaseModel] = Scenario
    choices: dict[str, type[BaseModel]] = {}
    for part in error["loc"]:
        if isinstance(part, str) and part in choices:
            section, choices = choices[part], {}
        elif isinstance(part, str) and part in section.model_fields:
            place.append(part)
            choices = sections_in(section.model_fields[part].annotation)
        elif isinstance(part, int) or error["type"] == "extra_forbidden":
            place.append(str(part))
        if len(choices) == 1:  # nothing to choose, so no kind in the place
            section, choices = next(iter(choices.values())), {}
    return ".".join(place), section


def sections_in(annotation: Any) -> dict[str, type[BaseModel]]:
    """The sections that a field may hold, by their kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return {str(get_args(kind.annotation)[0]) if kind else annotation.__name__: annotation}
    return {name: one for argument in get_args(annotation) for name, one in sections_in(argument).items()}


def nearest_key(place: str, section: type[BaseModel]) -> str:
    """The known dotted key most like ``place``: spelled like it in its section, of its name elsewhere, or just near."""
    above, _, name = place.rpartition(".")
    prefix = f"{above}." if above else ""
    near = [prefix + key for key in get_close_matches(name, section.model_fields)]
    known = list(dict.fromkeys(known_keys(Scenario)))
    elsewhere = [key for key in known if key.rpartition(".")[2] == name]
    siblings = [prefix + key for key in get_close_matches(name, section.model_fields, n=1, cutoff=0)]
    return [*near, *elsewhere, *siblings, *known][0]


def known_keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that a scenario may have, dotted; sections of different kinds one after the other."""
    for name, field in section.model_fields.items():
        yield prefix + name
        for inner in sections_in(field.annotation).values():
            yield from known_keys(inner, f"{prefix}{name}.")


__all__ = [
    "ScenarioInvalid", "ScenarioNotFound", "checked", "known_keys", "load_scenario", "nearest_key", "parse_scenario",
    "shipped_scenarios",
]  # fmt: skip
