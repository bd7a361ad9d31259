"""A bundle as the server sees it: its integrity, and which one is active.

Layout of ``bundles/<id>/``::

    bundle.json          see `ensemble.manifest`
    engine/              what the target compiled
    draft/               the engine of the draft model, where there is one
    tokenizer/           tokenizer.json, chat_template.jinja, special_tokens.json (see `ensemble.tokenizer`)
    embedder/            model.onnx, tokenizer.json, embedder.json
    sbom.cdx.json        what all this was made of, in CycloneDX
    evaluation.json      what was measured of it; no part of its id
    bundle.sig           see `ensemble.signing`; comes when somebody signs it
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import ValidationError

from slipstream import GateError, InputError
from slipstream.ensemble.inventory import file_entries
from slipstream.ensemble.manifest import MANIFEST, SCHEMA_VERSION, SIDECARS, FileEntry, Manifest

_ACTIVE = "ACTIVE"


class BundleError(InputError):
    """There is no such bundle, or what is there is not one."""


class BundleCorrupt(GateError):
    """Files and manifest disagree."""


class Bundle:
    """An opened bundle: paths and manifest. Opening reads the manifest only; `verify` reads every byte."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @property
    def engine_dir(self) -> Path:
        return self.path / "engine"

    @property
    def draft_dir(self) -> Path:
        """The engine of a draft model, where the manifest has one."""
        return self.path / "draft"

    @property
    def tokenizer_dir(self) -> Path:
        return self.path / "tokenizer"

    @property
    def embedder_dir(self) -> Path:
        return self.path / "embedder"

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Read the manifest of the bundle in ``path``.

        Raises:
            BundleError: no manifest, not JSON, another schema, or fields that do not fit.
        """
        manifest_path = path / MANIFEST
        try:
            fields = json.loads(manifest_path.read_text(encoding="utf-8"))
            json.dumps(fields, ensure_ascii=False).encode()  # JSON can spell half a character, and nobody can print it
        except FileNotFoundError:
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}", "slipstream bundles") from None
        except (ValueError, OSError, RecursionError) as error:
            raise BundleError(f"{manifest_path} cannot be read: {error}", "slipstream build RECIPE") from error
        version = fields.get("schema_version") if isinstance(fields, dict) else None
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{manifest_path} has schema version {version!r}; this Slipstream reads {SCHEMA_VERSION}",
                "slipstream build RECIPE, with this version of Slipstream",
            )
        try:
            return cls(path, Manifest.model_validate(fields))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{manifest_path}: {where}: {first['msg']}", "slipstream build RECIPE") from error

    def admit(self) -> None:
        """Refuse, within milliseconds and before anything is loaded, what cannot be served on this host.

        The manifest is checked by its digest and the files by their sizes; `verify` reads every byte.

        Raises:
            BundleCorrupt: the manifest was changed, or files are missing or cut off.
            HostMismatch: the engine was compiled for another host.
        """
        from slipstream.engines.registry import target

        if self.manifest.computed_id() != self.manifest.id:
            raise self._corrupt([f"{MANIFEST} was changed (its digest is {self.manifest.computed_id()})"])
        wrong = [entry.path for entry in self.manifest.files if _size(self.path / entry.path) != entry.size_bytes]
        if wrong:
            raise self._corrupt([f"{path} is missing or has another size" for path in wrong])
        target(self.manifest.engine.target).check_host(self.manifest.engine.fingerprint)

    def verify(self, found_files: Iterable[FileEntry] | None = None) -> None:
        """Check the id and every file: size, sha256, nothing missing, nothing extra.

        Args:
            found_files: what `file_entries` found in the folder, if every byte was read already.

        Raises:
            BundleCorrupt: naming every file that is wrong.
        """
        problems = list(self.problems(found_files))
        if problems:
            raise self._corrupt(problems)

    def _corrupt(self, problems: list[str]) -> BundleCorrupt:
        message = f"{self.path}: " + "; ".join(problems)
        return BundleCorrupt(message, "slipstream build RECIPE makes it anew from the cached stages")

    def problems(self, found_files: Iterable[FileEntry] | None = None) -> Iterator[str]:
        """What `verify` finds, one line for each wrong file."""
        if self.manifest.computed_id() != self.manifest.id:
            yield f"{MANIFEST} was changed (its digest is {self.manifest.computed_id()}, it says {self.manifest.id})"
        expected = {entry.path: entry for entry in self.manifest.files}
        files = file_entries(self.path) if found_files is None else found_files
        present = {file.path: file for file in files}
        for path, entry in expected.items():
            found = present.get(path)
            if found is None:
                yield f"{path} is missing"
            elif found.size_bytes != entry.size_bytes:
                yield f"{path} has {found.size_bytes} bytes instead of {entry.size_bytes}"
            elif found.sha256 != entry.sha256:
                yield f"{path} was changed (sha256 {found.sha256[:12]}… instead of {entry.sha256[:12]}…)"
        for path in sorted(present.keys() - expected.keys() - {MANIFEST}):
            if path not in SIDECARS or (self.path / path).is_symlink() or not (self.path / path).is_file():
                yield f"{path} does not belong to the bundle"


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except (OSError, ValueError):  # a NUL is no part of a name
        return None


def list_bundles(bundles_dir: Path) -> list[Bundle]:
    """Every readable bundle, newest first."""
    return [bundle for _, bundle in survey(bundles_dir) if isinstance(bundle, Bundle)]


def survey(bundles_dir: Path) -> list[tuple[Path, "Bundle | BundleError"]]:
    """Every folder of bundles, newest first, with the bundle in it or why there is none."""
    found: list[tuple[float, Path, Bundle | BundleError]] = []
    for path in bundles_dir.glob("*"):
        if path.name.startswith(".") or not path.is_dir():
            continue
        manifest_path = path / MANIFEST
        dated = manifest_path if manifest_path.exists() else path
        try:
            bundle: Bundle | BundleError = Bundle.open(path)
        except BundleError as error:
            bundle = error
        found.append((dated.stat().st_mtime, path, bundle))
    return [(path, bundle) for _, path, bundle in sorted(found, key=lambda one: one[:2], reverse=True)]


def set_active(bundles_dir: Path, bundle_id: str) -> None:
    """Make ``bundle_id`` the one that `serve` and `index` use by default, atomically.

    Raises:
        BundleError: a folder is in the way.
    """
    marker = bundles_dir / _ACTIVE
    if marker.is_dir():
        raise BundleError(f"{marker} is a folder", f"remove {marker}, then run the same command again")
    aside = bundles_dir / f"{_ACTIVE}.{os.getpid()}"
    aside.write_text(bundle_id + "\n", encoding="utf-8")
    aside.replace(marker)


def activate(bundles_dir: Path, bundle: Bundle) -> None:
    """`set_active`, for a bundle that may come from anywhere.

    Raises:
        BundleError: it is not the one in ``bundles_dir/<id>``, where it would be looked for.
    """
    home = bundles_dir / bundle.manifest.id
    try:
        is_at_home = home.parent == bundles_dir and Bundle.open(home).manifest == bundle.manifest
    except BundleError:
        is_at_home = False
    if not is_at_home:
        raise BundleError(
            f"{bundle.path} is not in {bundles_dir} under its id {bundle.manifest.id!r}",
            f"copy it there (cp -r {bundle.path} {home}), or serve it from where it is: "
            f"slipstream serve --bundle {bundle.path}",
        )
    set_active(bundles_dir, bundle.manifest.id)


def find_bundle(bundles_dir: Path, reference: str | None = None) -> Bundle:
    """Open a bundle by path, id (or a unique beginning of one) or release name; the active one by default.

    Raises:
        BundleError: nothing matches, more than one does, or nothing was built yet.
    """
    if reference is None:
        return _active(bundles_dir)
    if not reference:
        raise BundleError("an empty name fits no bundle", "slipstream bundles lists what there is")
    if _has_manifest(reference):
        return Bundle.open(Path(reference).resolve())
    matches = [
        bundle
        for bundle in list_bundles(bundles_dir)
        if bundle.manifest.id.startswith(reference) or bundle.manifest.release_name == reference
    ]
    if not matches:
        raise BundleError(f"no bundle {reference!r} in {bundles_dir}", "slipstream bundles lists what there is")
    if len(matches) > 1 and matches[0].manifest.release_name != reference:
        names = ", ".join(bundle.manifest.id for bundle in matches)
        raise BundleError(f"{reference!r} fits more than one bundle: {names}", "give more of the id")
    return matches[0]


def _active(bundles_dir: Path) -> Bundle:
    marker, remedy = bundles_dir / _ACTIVE, "slipstream bundles --activate ID, or slipstream build RECIPE"
    try:
        bundle_id = marker.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise BundleError(f"no bundle is active in {bundles_dir}", "slipstream build default") from None
    except (OSError, UnicodeDecodeError) as error:
        remedy = f"remove {marker}, then: {remedy}" if marker.is_dir() else remedy
        raise BundleError(f"{marker} cannot be read: {error}", remedy) from error
    home = bundles_dir / bundle_id
    if home.parent != bundles_dir or not _has_manifest(home):
        raise BundleError(f"{marker} names {bundle_id[:80]!r}, which is not in {bundles_dir}", remedy)
    return Bundle.open(home)


def _has_manifest(path: str | Path) -> bool:
    try:
        return (Path(path) / MANIFEST).is_file()
    except OSError:  # a name that is too long
        return False
