"""All checks at once, each in a thread of its own: most of them wait, and one that hangs must not hide the others."""

import threading
from collections.abc import Sequence
from time import monotonic

from slipstream import SlipstreamError
from slipstream.ensemble.doctor.finding import Check, Finding, NotExamined, Subject

DEADLINE_S = 9.0
"""Every wait inside a check is shorter: what has no answer by then hangs (a dead network disk, a wedged driver)."""


def examine(subject: Subject, checks: Sequence[Check], deadline_s: float = DEADLINE_S) -> list[Finding]:
    """What ``checks`` find, in their order. Never raises for what a check does."""
    found: dict[int, Finding] = {}

    def look(place: int, check: Check) -> None:
        found[place] = _look(check, subject)

    # Daemons: whoever hangs in the kernel would otherwise keep this process from ending.
    threads = [
        threading.Thread(target=look, args=(place, check), name=name_of(check), daemon=True)
        for place, check in enumerate(checks)
    ]
    ends = monotonic() + deadline_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - monotonic()))
    return [found.get(place) or _hangs(check, deadline_s) for place, check in enumerate(checks)]


def name_of(check: Check) -> str:
    name: str = getattr(check, "__name__", type(check).__name__)
    return name


def _look(check: Check, subject: Subject) -> Finding:
    name = name_of(check)
    try:
        return check(subject)
    except NotExamined as why:
        return Finding(name, "skipped", str(why))
    except SlipstreamError as error:
        return Finding(name, "problem", error.message, error.remedy)
    except ModuleNotFoundError as error:
        return Finding(name, "problem", f"{error.name} is not installed", "pip install 'slipstream[serve]'")
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            said = f"{error.filename}: {error.strerror}"
            return Finding(name, "problem", said, "check that it is there and may be used")
        return Finding(
            name,
            "problem",
            f"the check itself failed: {type(error).__name__}: {error}",
            "this is a defect of Slipstream: report it with this line",
        )


def _hangs(check: Check, deadline_s: float) -> Finding:
    return Finding(
        name_of(check),
        "problem",
        f"no answer within {deadline_s:.0f} s",
        "look for what hangs: a disk or a driver (dmesg | tail), a server or a name server that answers slowly",
    )
