"""The `slipstream` command: one lazy table, so that `--help` answers without importing any room."""

import errno
import json
import sys
import traceback
from importlib import import_module
from typing import Any

import click

from slipstream import EnvironmentFault, InputError, SlipstreamError, __version__

# name -> (module, attribute, one line for `--help`); a room is imported when its command runs.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "build": ("slipstream.build.commands", "build", "Build an engine bundle from a recipe."),
    "bundles": (
        "slipstream.build.bundle_commands",
        "bundles",
        "List the bundles that were built; choose one.",
    ),
    "verify": ("slipstream.build.bundle_commands", "verify", "Check every file of a bundle against its manifest."),
    "sign": ("slipstream.build.sign_command", "sign", "Sign a bundle, so that a server can tell whose it is."),
    "train": ("slipstream.build.training.commands", "train", "Train a LoRA adapter on an indexed code base."),
    "train-embedder": (
        "slipstream.build.training.embedder.commands",
        "train_embedder",
        "Train a LoRA that makes the embedder find code.",
    ),
    "register": ("slipstream.build.training.commands", "register", "Register a LoRA adapter in MLflow."),
    "promote": ("slipstream.build.promotion.commands", "promote", "Put an adapter into production if it is better."),
    "rollback": ("slipstream.build.promotion.commands", "rollback", "Undo the last promotion."),
    "index": ("slipstream.ensemble.retrieval.index_command", "index", "Index source trees into a collection."),
    "search": ("slipstream.ensemble.retrieval.search_command", "search", "Search a collection from the shell."),
    "evaluate-search": (
        "slipstream.ensemble.retrieval.evaluation.commands",
        "evaluate_search",
        "Measure the search on a suite.",
    ),
    "serve": ("slipstream.api.commands", "serve", "Serve the active bundle on Triton behind the HTTP facade."),
    "loadtest": ("slipstream.loadtest.commands", "loadtest", "Load a server and say whether it holds its SLOs."),
    "compare": ("slipstream.loadtest.comparison.commands", "compare", "Say whether one bundle is worse than another."),
    "profile": ("slipstream.profiling.commands", "profile", "Say where the time of a slow answer went."),
    "doctor": ("slipstream.ensemble.doctor.commands", "doctor", "Say what stands between this machine and an answer."),
    "ask": ("slipstream.api.commands", "ask", "Ask a running server a question and stream the answer."),
}

_INTERRUPTED = 128 + 2  # as a shell reports SIGINT


class LazyGroup(click.Group):
    """A group whose commands live in their rooms and are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever ends it becomes a message, a remedy and an exit code that says what it was."""
        as_json = "--json" in sys.argv
        try:
            return super().invoke(ctx)
        except SlipstreamError as error:
            report(error, as_json=as_json)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            report(SlipstreamError("stopped by Ctrl-C", "run it again: what was finished is kept"), as_json=as_json)
            ctx.exit(_INTERRUPTED)
        except click.UsageError as error:
            if not as_json:
                raise
            hint = f"{error.ctx.command_path} --help" if error.ctx else "slipstream --help"
            report(InputError(error.format_message(), hint), as_json=True)
            ctx.exit(error.exit_code)
        except (click.exceptions.Exit, click.Abort, click.ClickException):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # whoever read our output has gone: no news
                raise
            report(_unforeseen(error), as_json=as_json)
            ctx.exit(SlipstreamError.exit_code)


def _unforeseen(error: Exception) -> SlipstreamError:
    """What nobody explained: the system's word on a file, or a defect, with its traceback on stderr."""
    if isinstance(error, OSError) and error.filename is not None:
        return EnvironmentFault(f"{error.filename}: {error.strerror}", "check that it is there and may be used")
    traceback.print_exception(error)
    return SlipstreamError(
        f"{type(error).__name__}: {error}", "this is a defect of Slipstream: report it with the lines above"
    )


def report(error: SlipstreamError, *, as_json: bool) -> None:
    """Print ``error`` to stderr, for people or (one JSON object) for machines."""
    if as_json:
        body = {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}
        click.echo(json.dumps({"error": body}, ensure_ascii=False), err=True)
        return
    click.secho(f"error: {_plain(error.message)}", fg="red", err=True)
    if error.remedy:
        click.echo(f"  try: {_plain(error.remedy)}", err=True)


def _plain(text: str) -> str:
    """``text`` with what would steer the terminal spelled out: names of files and words of servers are anybody's."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1] for letter in text)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slipstream")
def main() -> None:
    """Slipstream builds, serves and measures a self-hosted code assistant.

    A promoted LoRA becomes a verified engine bundle; the bundle is served on Triton behind an OpenAI-compatible API
    that cites `file:line`.

    \b
    Exit codes: 0 fine · 1 the work says no · 2 cannot run · 3 inconclusive · 130 stopped by Ctrl-C.

    \b
    Example:
      slipstream build default
      slipstream index ./src --collection code
      slipstream serve
      slipstream ask "Where is the retry budget enforced?"
    """


if __name__ == "__main__":
    main()
