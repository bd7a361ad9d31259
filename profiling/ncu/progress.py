"""How far a capture is: a bar on a terminal, nothing elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipstream.profiling.ncu.capture import Watch


@contextmanager
def shown(launches: int) -> "Iterator[Watch]":
    """What is told of a capture of ``launches``, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda measured, doing: None
        return
    columns = (TextColumn("launches"), BarColumn(32), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[doing]}"), console=console) as progress:
        task = progress.add_task("ncu", total=launches, doing="")
        yield lambda measured, doing: progress.update(task, completed=min(measured, launches), doing=doing)


__all__ = ["shown"]
