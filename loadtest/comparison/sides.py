"""What A and B are: bundles of this machine, or servers that run already."""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from slipstream import InputError

Letter = Literal["A", "B"]
_MANIFEST = "bundle.json"
_GROUNDED_MODEL = "slipstream"


class SideInvalid(InputError):
    """No bundle and no address, more than one bundle, or two that cannot be compared; names what there is."""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        given: as it was typed.
        url: of a server that runs already; empty for a bundle, which is served for each run.
        bundle: the bundle's folder; empty for a URL, as are the others.
        embedder: digest of what a collection has to be made with.
        golden_at_build: the share of golden questions that passed when it was built, by other limits (`quality`).
    """

    letter: Letter
    given: str
    url: str = ""
    bundle: str = ""
    bundle_id: str = ""
    release: str = ""
    embedder: str = ""
    golden_at_build: float | None = None

    @property
    def name(self) -> str:
        """Short: the bundle's id or the server's host and port."""
        return self.bundle_id or urlsplit(self.url).netloc

    @property
    def tokenizer(self) -> Path | None:
        """Of a bundle; a server's is found by what it says of itself."""
        path = Path(self.bundle) / "tokenizer"
        return path if self.bundle and (path / "tokenizer.json").is_file() else None


def resolve(letter: Letter, given: str, bundles_dir: Path) -> Side:
    """The side that ``given`` names: a URL, a bundle's path, id, unique beginning of an id, or release name.

    Raises:
        SideInvalid: see there.
    """
    if "://" in given:
        return _server(letter, given)
    if not given.strip():
        raise SideInvalid(f"{letter} is empty", "give a bundle (slipstream bundles lists them) or a URL")
    for path in (Path(given), bundles_dir / given):
        if (path / _MANIFEST).is_file():
            return _bundle(letter, given, path.resolve())
    known = dict(_known(bundles_dir))
    fitting = [path for path, (name, release) in known.items() if name.startswith(given) or release == given]
    if len(fitting) == 1:
        return _bundle(letter, given, fitting[0])
    shown = fitting or list(known)
    listed = "; ".join(f"{known[path][0]} ({known[path][1]})" for path in shown)
    if fitting:
        raise SideInvalid(f"{letter}: {given!r} fits more than one bundle: {listed}", "give more of the id")
    address = f", or if it is a server: http://{given}" if ":" in given else ""
    raise SideInvalid(
        f"{letter}: there is no bundle {given!r} in {bundles_dir}; there "
        + (f"are: {listed}" if listed else "is none at all"),
        f"give one of them{address}" if listed else f"slipstream build default{address}",
    )


def _server(letter: Letter, given: str) -> Side:
    try:
        parts = urlsplit(given)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        raise SideInvalid(f"{letter}: {given!r} is no address", "give http://HOST:PORT")
    return Side(letter, given, url=given.rstrip("/").removesuffix("/v1"))


def _bundle(letter: Letter, given: str, path: Path) -> Side:
    manifest = _read(path / _MANIFEST)
    embedder, golden = manifest.get("embedder"), _read(path / "evaluation.json").get("golden")
    report = golden.get("report") if isinstance(golden, dict) else None
    rate = report.get("pass_rate") if isinstance(report, dict) else None
    if not isinstance(manifest.get("id"), str):
        raise SideInvalid(f"{letter}: {path / _MANIFEST} is no manifest of a bundle", "slipstream build RECIPE")
    return Side(
        letter,
        given,
        bundle=str(path),
        bundle_id=manifest["id"],
        release=str(manifest.get("release_name", "")),
        embedder=str(embedder.get("digest", "")) if isinstance(embedder, dict) else "",
        golden_at_build=float(rate) if isinstance(rate, int | float) else None,
    )


def _known(bundles_dir: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Id and release name of every bundle, by its folder."""
    for path in sorted(bundles_dir.glob(f"*/{_MANIFEST}")):
        manifest = _read(path)
        if not path.parent.name.startswith(".") and isinstance(manifest.get("id"), str):
            yield path.parent, (manifest["id"], str(manifest.get("release_name", "")))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tokens(tokenizer: Path) -> bytes:
    return (tokenizer / "tokenizer.json").read_bytes()


def same_server(a: Side, b: Side) -> bool:
    """Whether both are one running server, which keeps what it cached of A's run for B's."""
    return bool(a.url and b.url) and _address(a.url) == _address(b.url)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        return socket.gethostbyname(host), port
    except OSError:
        return host, port


def check_pair(a: Side, b: Side, model: str) -> tuple[str, ...]:
    """What a reader has to know of the pair.

    Raises:
        SideInvalid: no one collection can answer for both.
    """
    if a.bundle and b.bundle and a.embedder != b.embedder and model == _GROUNDED_MODEL:
        raise SideInvalid(
            f"{a.name} and {b.name} embed differently, so no one collection answers for both",
            f"compare their engines alone (--model {_GROUNDED_MODEL}-base), or serve each on its own home and "
            "give the URLs",
        )
    notes = []
    if a.tokenizer and b.tokenizer and _tokens(a.tokenizer) != _tokens(b.tokenizer):
        notes.append(
            "A and B have different tokenizers, so TPOT, tokens/s and output lengths are in each one's own tokens"
        )
    if same_server(a, b):
        notes.append(
            "A and B are one server: this compares it with itself. Each run draws a seed of its own, because it would "
            "have cached the other run's prompts; what several runs ask all the same stays cached"
        )
    elif a.bundle and a.bundle == b.bundle:
        notes.append(
            "A and B are one bundle: what differs is this machine's noise, and a regression would be a mistake"
        )
    elif a.url or b.url:
        notes.append("A server that runs already keeps its caches from round to round; a bundle begins each run anew")
    return tuple(notes)


__all__ = ["Letter", "Side", "SideInvalid", "check_pair", "resolve", "same_server"]
