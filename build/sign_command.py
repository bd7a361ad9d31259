"""``slipstream sign``: vouch for a bundle, and make the keys for it."""

import json
import sys
from pathlib import Path

import click

from slipstream.ensemble.bundle import find_bundle
from slipstream.settings import Settings


@click.command()
@click.argument("bundle", required=False)
@click.option("--key", metavar="KEY.pem", type=click.Path(path_type=Path), help="Private key to sign with.")
@click.option("--new-key", metavar="KEY.pem", type=click.Path(path_type=Path), help="Make a pair of keys and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sign(bundle: str | None, key: Path | None, new_key: Path | None, as_json: bool) -> None:
    """Sign BUNDLE, so that a server can tell that its files are those that you vouched for.

    BUNDLE is a path, an id or a release name; the active one by default. The signature covers every file of it and
    lies beside them as bundle.sig. It needs no network. Servers check it with the public key in SLIPSTREAM_VERIFY_KEY,
    and refuse what is not signed where SLIPSTREAM_REQUIRE_SIGNATURE is true. Keys are elliptic curves (P-256, P-384,
    P-521) in PEM, as OpenSSL writes them; the password of an encrypted one is read from SLIPSTREAM_KEY_PASSWORD, or
    asked for.

    \b
    Example:
      slipstream sign --new-key release.pem
      slipstream sign --key release.pem
      SLIPSTREAM_VERIFY_KEY=release.pub slipstream verify
    """
    if (key is None) == (new_key is None) or (new_key is not None and bundle is not None):
        raise click.UsageError("give --key KEY.pem to sign a bundle, or --new-key KEY.pem alone to make a key")
    settings = Settings()
    if new_key is not None:
        _make_pair(new_key, settings, as_json=as_json)
    elif key is not None:
        _sign(bundle, key, settings, as_json=as_json)


def _make_pair(path: Path, settings: Settings, *, as_json: bool) -> None:
    from slipstream.ensemble.signing.keys import write_pair

    public = write_pair(path, _password(settings, "Password for the new key (empty for none)", confirm=True))
    if as_json:
        document = {"private_key": str(path), "public_key": str(public.path), "fingerprint": public.fingerprint}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    click.echo(f"made {path} (keep it secret) and {public.path}, fingerprint {public.fingerprint}")
    click.echo(f"  servers check with it: export SLIPSTREAM_VERIFY_KEY={public.path} SLIPSTREAM_REQUIRE_SIGNATURE=true")


def _sign(reference: str | None, key: Path, settings: Settings, *, as_json: bool) -> None:
    from slipstream.ensemble.manifest import SIGNATURE
    from slipstream.ensemble.signing import signature
    from slipstream.ensemble.signing.keys import private_key

    bundle = find_bundle(settings.bundles_dir, reference)
    signer = private_key(key, lambda: _password(settings, f"Password of {key}"))
    if signer.readable_by_others:
        click.secho(f"warning: others may read {signer.path}: chmod 600 {signer.path}", fg="yellow", err=True)
    covered = signature.sign(bundle, signer)
    manifest, place = bundle.manifest, bundle.path / SIGNATURE
    if as_json:
        document = {"bundle": manifest.id, "signature": str(place), "files": covered, "key": signer.fingerprint}
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    click.echo(f"signed {manifest.release_name} ({manifest.id}): {covered} files, key {signer.fingerprint}")
    click.echo(f"  {place}")


def _password(settings: Settings, prompt: str, *, confirm: bool = False) -> str | None:
    """From the environment, or from who sits at the terminal; never from the command line, which others can read."""
    if settings.key_password is not None:
        return settings.key_password.get_secret_value()
    if not sys.stdin.isatty():
        return None
    answer: str = click.prompt(
        prompt, default="", hide_input=True, show_default=False, confirmation_prompt=confirm, err=True
    )
    return answer or None


__all__ = ["sign"]
