"""`slipstream serve` and `slipstream ask`."""

import click

from slipstream.settings import Settings


@click.command()
@click.option("--bundle", "reference", metavar="BUNDLE", help="Id, release name or path; the active bundle by default.")
@click.option("--host", help="Address to bind (SLIPSTREAM_HOST; 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to bind, 0 for a free one (SLIPSTREAM_PORT; 8080).")
@click.option("--ask", "question", metavar="QUESTION", help="Ask this once when ready, then keep serving.")
@click.option("--json", "as_json", is_flag=True, help="Print what became ready (and the answer) as JSON lines.")
def serve(reference: str | None, host: str | None, port: int | None, question: str | None, as_json: bool) -> None:
    """Serve a bundle on Triton behind the HTTP facade, until Ctrl-C.

    The facade answers at once; GET /health/ready is 200 when the first question can be answered. Ctrl-C lets running
    answers finish for a few seconds and stops every child; a second Ctrl-C ends at once.

    \b
    Example:
      slipstream serve
      slipstream serve --port 9000 --ask "Where is the retry budget enforced?"
    """
    from slipstream.api.listener import address_of, bind
    from slipstream.api.logs import configure_logging
    from slipstream.api.startup import announce, warn_if_open
    from slipstream.ensemble.bundle import find_bundle
    from slipstream.ensemble.signing.trust import admit as admit_signed

    configure_logging()
    given = {"host": host, "port": port}
    settings = Settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    bundle = find_bundle(settings.bundles_dir, reference)
    bundle.admit()
    seal = admit_signed(bundle.path, settings)
    with bind(settings.host, settings.port) as listener:
        from slipstream.api.server import Appliance

        warn_if_open(settings.host)
        base_url = address_of(listener)

        def on_ready(ready_s: float) -> None:
            announce(base_url, bundle, settings, ready_s, as_json=as_json)
            if question is not None:
                _ask_once(base_url, question, as_json=as_json)

        Appliance(bundle, settings, listener, on_ready, seal).run()


def _ask_once(base_url: str, question: str, *, as_json: bool) -> None:
    from slipstream.api.logs import hold_events
    from slipstream.api.terminal import show

    with hold_events():
        show(base_url, question, {"model": "slipstream", "messages": _conversation(question)}, as_json=as_json)


def _conversation(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@click.command()
@click.argument("question")
@click.option("--url", metavar="URL", help="Where the server is (by default, where `slipstream serve` listens).")
@click.option("--model", default="slipstream", show_default=True, help="slipstream, or slipstream-base for no search.")
@click.option("--collection", help="The indexed code base that answers; the server's default if not given.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="The longest answer, in tokens.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: answer, citations, usage, timings.")
def ask(
    question: str, url: str | None, model: str, collection: str | None, max_tokens: int | None, as_json: bool
) -> None:
    """Ask a running server QUESTION and stream the answer, with its sources beneath.

    \b
    Example:
      slipstream ask "Where is the retry budget enforced?"
      slipstream ask --collection shop --json "What does Cart.total round?"
    """
    from slipstream.api.terminal import show, url_of

    settings = Settings()
    base_url = (url or url_of(settings.host, settings.port)).rstrip("/").removesuffix("/v1")
    given = {"collection": collection, "max_tokens": max_tokens}
    body = {"model": model, "messages": _conversation(question)}
    show(base_url, question, body | {name: value for name, value in given.items() if value}, as_json=as_json)
