"""The command line as a whole: every command explains itself, and errors say what to do next."""

import json
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from slipstream import GateError, InputError
from slipstream.cli import COMMANDS, main


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
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """A command that raises whatever is put into the list."""
    raised: list[Exception] = []

    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def fail(as_json: bool) -> None:
        raise raised[0]

    monkeypatch.setitem(COMMANDS, "fail", ("slipstream.cli", "fail", ""))
    monkeypatch.setattr(import_module("slipstream.cli"), "fail", fail, raising=False)
    return raised


def test_wrong_input_exits_with_2_and_says_what_to_do(failing: list[Exception]) -> None:
    failing.append(InputError("no recipe 'x'", "slipstream build default"))
    shown = CliRunner().invoke(main, ["fail"])
    assert shown.exit_code == 2
    assert shown.stderr == "error: no recipe 'x'\n  try: slipstream build default\n"


def test_a_refused_result_exits_with_1(failing: list[Exception]) -> None:
    failing.append(GateError("merged logits differ"))
    assert CliRunner().invoke(main, ["fail"]).exit_code == 1


def test_json_errors_are_one_object(failing: list[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    failing.append(InputError("Модель не найдена", "slipstream train"))
    monkeypatch.setattr("sys.argv", ["slipstream", "fail", "--json"])
    shown = CliRunner().invoke(main, ["fail", "--json"])
    error = json.loads(shown.stderr)["error"]
    assert error == {"type": "InputError", "message": "Модель не найдена", "remedy": "slipstream train"}
