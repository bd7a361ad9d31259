"""``slipstream profile``: a group whose commands are imported when they run."""

from importlib import import_module

import click

# name -> (module, attribute, one line for `--help`)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": (
        "slipstream.profiling.run.command",
        "run",
        "Load a server and say which stage its slow answers waited in.",
    ),
    "nsys": ("slipstream.profiling.nsys.command", "nsys", "Capture a load with Nsight Systems and read the capture."),
    "ncu": ("slipstream.profiling.ncu.command", "ncu", "Measure the kernels of a decode step with Nsight Compute."),
    "limit": ("slipstream.profiling.limit.command", "limit", "Say how fast this machine could be with a bundle."),
}


class LazyGroup(click.Group):
    """Its help needs none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup)
def profile() -> None:
    """Say where the time of a slow answer went, what the machine did then, and how far from its limit it is.

    \b
    Example:
      slipstream profile run
      slipstream profile run default --rate 2 --duration 60
      slipstream profile nsys --scenario smoke
      slipstream profile limit
    """


__all__ = ["COMMANDS", "profile"]
