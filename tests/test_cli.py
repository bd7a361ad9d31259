"""The command line as a whole: every command explains itself, and errors say what to do next."""

import json
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from slipstream import GateError, InputError, SlipstreamError
from slipstream.cli import COMMANDS, main, report


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert f"slipstream {name}" in shown.output


def test_a_mistyped_command_names_the_nearest() -> None:
    shown = CliRunner().invoke(main, ["biuld"])
    assert shown.exit_code == 2
    assert "Did you mean 'build'?" in shown.output


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command that raises whatever is put into the list."""
    raised: list[BaseException] = []

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def fail(as_json: bool) -> None:
        raise raised[0]

    monkeypatch.setitem(COMMANDS, "fail", ("slipstream.cli", "fail", ""))
    monkeypatch.setattr(import_module("slipstream.cli"), "fail", fail, raising=False)
    return raised


def test_wrong_input_exits_with_2_and_says_what_to_do(failing: list[BaseException]) -> None:
    failing.append(InputError("no recipe 'x'", "slipstream build default"))
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 2
    assert shown.stderr == "error: no recipe 'x'\n  try: slipstream build default\n"


def test_a_refused_result_exits_with_1(failing: list[BaseException]) -> None:
    failing.append(GateError("merged logits differ"))
    assert CliRunner().invoke(main, ["fail"]).exit_code == 1


def test_json_errors_are_one_object(failing: list[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    failing.append(InputError("Модель не найдена", "slipstream train"))
    monkeypatch.setattr("sys.argv", ["slipstream", "fail", "--json"])
    shown = CliRunner().invoke(main, ["fail", "--json"])
    error = json.loads(shown.stderr)["error"]
    assert error == {"type": "InputError", "message": "Модель не найдена", "remedy": "slipstream train"}


def test_ctrl_c_is_no_verdict(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 130
    assert "stopped by Ctrl-C" in shown.stderr


def test_the_systems_word_on_a_file_is_no_traceback(failing: list[BaseException]) -> None:
    failing.append(PermissionError(13, "Permission denied", "/srv/slipstream/bundles"))
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 2
    assert shown.stderr.startswith("error: /srv/slipstream/bundles: Permission denied\n  try: ")


def test_a_defect_is_not_taken_for_a_verdict(failing: list[BaseException]) -> None:
    failing.append(KeyError("facts"))
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 2
    assert "Traceback" in shown.stderr
    assert "report it" in shown.stderr


def test_a_reader_that_went_away_is_no_defect(failing: list[BaseException]) -> None:
    failing.append(BrokenPipeError(32, "Broken pipe"))
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 1  # click's own, and silent
    assert shown.stderr == ""


@pytest.mark.parametrize("arguments", [["--bogus"], ["extra"]])
def test_wrong_usage_is_json_where_json_is_asked_for(
    arguments: list[str], failing: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["slipstream", "fail", *arguments, "--json"])
    shown = CliRunner().invoke(main, ["fail", *arguments, "--json"])
    assert shown.exit_code == 2
    assert json.loads(shown.stderr)["error"]["remedy"] == "main fail --help"


def test_what_steers_a_terminal_is_spelled_out_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    report(SlipstreamError("a\x1b]0;title\x07\nb\x9b31m", "rm \x1b[2J"), as_json=False)
    said = capsys.readouterr().err
    assert "a\\x1b]0;title\\x07\nb\\x9b31m" in said
    assert "\\x1b[2J" in said
