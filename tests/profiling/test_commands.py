"""The group ``slipstream profile``."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from slipstream.cli import main
from slipstream.profiling.commands import COMMANDS


def test_help_imports_none_of_its_commands() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from slipstream.cli import main\n"
        "assert CliRunner().invoke(main, ['profile', '--help']).exit_code == 0\n"
        "print(sorted(m for m in sys.modules if m.startswith('slipstream.profiling')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['slipstream.profiling', 'slipstream.profiling.commands']"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(main, ["profile", name, "--help"])
    assert shown.exit_code == 0
    assert f"slipstream profile {name}" in shown.output


def test_an_unknown_one_is_said() -> None:
    shown = CliRunner().invoke(main, ["profile", "fly"])
    assert shown.exit_code == 2
    assert "No such command 'fly'" in shown.output
