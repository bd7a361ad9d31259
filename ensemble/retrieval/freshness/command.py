"""Running the git binary."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from slipstream import EnvironmentFault

_TIMEOUT_S = 60.0
# What names another repository than the one we point at: set while a hook runs, for example.
_LOCAL = frozenset(
    f"GIT_{name}"
    for name in (
        "ALTERNATE_OBJECT_DIRECTORIES", "COMMON_DIR", "CONFIG", "CONFIG_COUNT", "CONFIG_PARAMETERS", "DIR",
        "GRAFT_FILE", "IMPLICIT_WORK_TREE", "INDEX_FILE", "NAMESPACE", "OBJECT_DIRECTORY", "PREFIX", "REPLACE_REF_BASE",
        "SHALLOW_FILE", "WORK_TREE",
    )
)  # fmt: skip


class GitMissing(EnvironmentFault):
    """There is no git on this machine."""


class GitFailed(EnvironmentFault):
    """git could not answer: no commit yet, objects that are gone, a repository that was removed."""


def git(folder: Path, *arguments: str, given: str = "", settings: Mapping[str, str] | None = None) -> bytes:
    """What git prints when it is ``given`` that to read, under ``settings`` of its configuration.

    Raises:
        GitFailed: with its own words.
        GitMissing: there is no git.
    """
    try:
        done = subprocess.run(
            command(folder, *arguments),
            input=given.encode(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            env=environment() | _as_environment(settings or {}),
            check=False,
        )
    except FileNotFoundError as error:
        raise GitMissing("git is not installed", "install git, or leave --watch out") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitFailed(f"git {arguments[0]} in {folder}: {error}", "look at the repository with git") from error
    if done.returncode != 0:
        why = " ".join(done.stderr.decode("utf-8", "replace").split())[:300]
        raise GitFailed(f"{folder}: {why or f'git {arguments[0]} failed'}", "look at the repository with git")
    return done.stdout


def command(folder: Path, *arguments: str) -> list[str]:
    return ["git", "-C", str(folder), "--no-optional-locks", *arguments]


def environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if name not in _LOCAL}
    return mine | {"LC_ALL": "C", "GIT_LITERAL_PATHSPECS": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}


def _as_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """``-c NAME=VALUE`` would end a name at its first ``=``."""
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


__all__ = ["GitFailed", "GitMissing", "command", "environment", "git"]
