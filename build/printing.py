"""How a command of the build says what it found."""

import json
from collections.abc import Iterator
from typing import Any

import click


def show(document: Any, lines: Iterator[str], *, as_json: bool) -> None:
    """``document`` for machines, or ``lines`` for people, on stdout."""
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line)


__all__ = ["show"]
