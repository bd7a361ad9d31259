"""From a bundle's folder to the work of its engine. Reads the manifest's plain JSON: a leaf knows no other room."""

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipstream.profiling.limit.cards import card_roof
from slipstream.profiling.limit.openvino import openvino_work
from slipstream.profiling.limit.probe import cpu_features
from slipstream.profiling.limit.roof import Roof
from slipstream.profiling.limit.tensorrt_llm import tensorrt_llm_work
from slipstream.profiling.limit.work import LimitUnknown, Work

_ID = re.compile(r"[0-9a-f]{4,64}")  # what becomes a path is the name of a bundle


@dataclass(frozen=True, slots=True)
class BundleWork:
    """What a bundle's engine reads and computes, for ``slots`` sequences at once at most.

    ``roof`` is its card's; None for an engine that runs on the CPU.
    """

    bundle_id: str
    target: str
    slots: int
    work: Work
    roof: Roof | None = None


def find_folder(bundles_dir: Path, reference: str | None) -> Path:
    """The folder of the bundle whose id begins with ``reference``, of that path, or of the active one.

    Raises:
        LimitUnknown: none, or more than one fits.
    """
    if reference is None:
        try:
            reference = (bundles_dir / "ACTIVE").read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise LimitUnknown(f"{bundles_dir} has no active bundle", "slipstream build default") from error
    if "/" in reference and Path(reference, "bundle.json").is_file():
        return Path(reference)
    found = [path for path in bundles_dir.glob(f"{reference}*") if path.is_dir()] if _ID.fullmatch(reference) else []
    if len(found) != 1:
        said = "no bundle" if not found else "more than one bundle"
        raise LimitUnknown(f"{said} in {bundles_dir} is {reference!r}", "slipstream bundles lists what there is")
    return found[0]


def read_work(folder: Path, isa: Set[str] | None = None) -> BundleWork:
    """The work of the engine in the bundle at ``folder``, served by a CPU that can ``isa`` (None: this one).

    Raises:
        LimitUnknown: the folder is no bundle, or its engine cannot be counted.
    """
    manifest = _manifest(folder)
    try:
        bundle_id, target = str(manifest["id"]), manifest["engine"]["target"]
        serving, quantization = dict(manifest["serving"]), dict(manifest["quantization"])
        draft = manifest.get("draft")
        proposed = int(draft["tokens"]) if draft else 0
        slots = int(serving["max_concurrency"])
    except (KeyError, TypeError, ValueError) as error:
        raise LimitUnknown(f"{folder} has a manifest without {error}", "slipstream build RECIPE") from error
    if target == "openvino":
        work = openvino_work(folder / "engine", serving, proposed, cpu_features() if isa is None else isa)
        return BundleWork(bundle_id, target, slots, work)
    if target == "tensorrt_llm":
        work, planned = tensorrt_llm_work(folder / "engine", quantization)
        return BundleWork(bundle_id, target, slots, work, card_roof(planned.gpu, planned.gpus))
    raise LimitUnknown(f"{folder} has an engine for {target!r}, which is not counted here", "build it for openvino")


def _manifest(folder: Path) -> Mapping[str, Any]:
    path = folder / "bundle.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LimitUnknown(f"{path} cannot be read: {error}", "slipstream bundles lists what there is") from error
    if not isinstance(manifest, dict):
        raise LimitUnknown(f"{path} is no manifest", "slipstream build RECIPE")
    return manifest


__all__ = ["BundleWork", "find_folder", "read_work"]
