"""Whatever a check does, it becomes one finding, and hides no other."""

import threading
from pathlib import Path
from time import monotonic

import pytest

from slipstream import EnvironmentFault
from slipstream.ensemble.doctor.checks import CHECKS
from slipstream.ensemble.doctor.examination import examine
from slipstream.ensemble.doctor.finding import Finding, NotExamined, Subject
from tests.ensemble.doctor.homes import settings_of


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    return Subject(settings_of(tmp_path / "home"))


def fine(subject: Subject) -> Finding:
    return Finding("fine", "ok", "seen")


def defective(subject: Subject) -> Finding:
    raise RuntimeError("the kernel said\x1b[31m no")


def refusing(subject: Subject) -> Finding:
    raise EnvironmentFault("the disk is full", "free some space")


def lacking(subject: Subject) -> Finding:
    import no_such_module_anywhere  # noqa: F401

    return Finding("lacking", "ok", "")


def idle(subject: Subject) -> Finding:
    raise NotExamined("nothing to look at")


def test_a_check_that_crashes_is_a_finding_with_the_exceptions_name(subject: Subject) -> None:
    first, second = examine(subject, [defective, fine])
    assert (first.check, first.state) == ("defective", "problem")
    assert "RuntimeError" in first.evidence
    assert "report it" in first.remedy
    assert second == Finding("fine", "ok", "seen")


def test_what_slipstream_refuses_is_a_problem_with_its_remedy(subject: Subject) -> None:
    assert examine(subject, [refusing]) == [Finding("refusing", "problem", "the disk is full", "free some space")]


def test_a_file_that_the_system_refuses_is_named(subject: Subject) -> None:
    def reading(subject: Subject) -> Finding:
        return Finding("reading", "ok", Path("/no/such/file").read_text())

    (found,) = examine(subject, [reading])
    assert (found.state, found.evidence) == ("problem", "/no/such/file: No such file or directory")


def test_a_missing_library_says_what_to_install(subject: Subject) -> None:
    (found,) = examine(subject, [lacking])
    assert found.state == "problem"
    assert found.evidence == "no_such_module_anywhere is not installed"
    assert "slipstream[serve]" in found.remedy


def test_nothing_to_look_at_is_no_problem(subject: Subject) -> None:
    assert examine(subject, [idle]) == [Finding("idle", "skipped", "nothing to look at")]


def test_a_check_that_hangs_is_told_and_keeps_nobody_waiting(subject: Subject) -> None:
    never = threading.Event()

    def hanging(subject: Subject) -> Finding:
        never.wait(30)
        return Finding("hanging", "ok", "")

    started = monotonic()
    first, second = examine(subject, [hanging, fine], deadline_s=0.2)
    never.set()
    assert monotonic() - started < 5
    assert (first.check, first.state) == ("hanging", "problem")
    assert "no answer" in first.evidence
    assert second.state == "ok"


def test_checks_wait_at_the_same_time(subject: Subject) -> None:
    together = threading.Barrier(8, timeout=10)

    def waiting(subject: Subject) -> Finding:
        together.wait()
        return Finding("waiting", "ok", "")

    assert {found.state for found in examine(subject, [waiting] * 8)} == {"ok"}


def test_a_finding_has_the_name_of_its_check(home: Path) -> None:
    """Machines read the names: what a check returns, and what its crash or skip is called, have to be one."""
    found = examine(Subject(settings_of(home)), CHECKS)
    assert [one.check for one in found] == [check.__name__ for check in CHECKS]
    assert not [one for one in found if "the check itself failed" in one.evidence]
