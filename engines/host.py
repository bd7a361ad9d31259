"""What this host offers, and whether an engine's fingerprint fits it. Reads files and versions; loads nothing."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slipstream.engines.protocols import HostMismatch

# What decides by which products an engine computes, and in what it keeps keys and values: where one of these differs,
# so may a token and every time. Virtual machines have one name for many CPUs.
_MULTIPLYING = frozenset({
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_int8", "amx_bf16", "amx_fp16", "asimddp", "i8mm", "bf16", "sve",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host. ``os`` and ``arch`` are lower case (``linux``, ``x86_64``); ``isa`` holds the kernel's feature names.

    ``openvino`` is the installed version, empty if there is none.
    """

    os: str
    arch: str
    cpu_model: str
    isa: frozenset[str]
    openvino: str

    @property
    def multiplies_with(self) -> list[str]:
        """The features of `isa` that an engine's results and times depend on, sorted."""
        return sorted(self.isa & _MULTIPLYING)


def probe_host() -> HostFacts:
    """The facts of this host."""
    cpu = _first_cpu()
    return HostFacts(
        os=platform.system().lower(),
        arch={"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower()),
        cpu_model=cpu.get("model name", platform.processor()),
        isa=frozenset(cpu.get("flags", cpu.get("Features", "")).split()),
        openvino=_installed("openvino"),
    )


def major_minor(release: str) -> str:
    """``2026.4.1`` → ``2026.4``."""
    return ".".join(release.split(".")[:2])


def require_host(fingerprint: Mapping[str, Any], host: HostFacts) -> None:
    """Refuse a ``host`` that an engine with ``fingerprint`` was not compiled for.

    ``os`` and ``arch`` must be equal, ``isa`` must be offered in full, and ``openvino`` (major.minor) must be at least
    the one that compiled the engine: a newer runtime reads what an older one wrote, and not the other way round. More
    features than the compiling host had never hurt. A field this version does not know is refused, because it was put
    there to be obeyed.

    Raises:
        HostMismatch: the first field that does not fit, with one line of remedy.
    """
    for field, needed in fingerprint.items():
        if field in ("os", "arch"):
            _require_equal(field, str(needed), getattr(host, field))
        elif field == "isa":
            _require_isa(needed, host)
        elif field == "openvino":
            _require_openvino(str(needed), host.openvino)
        else:
            raise HostMismatch(
                f"the engine demands {field}={needed!r}, which this version of Slipstream does not know",
                "serve it with the version of Slipstream that built it, or build it anew: slipstream build RECIPE",
            )


def _require_equal(field: str, needed: str, offered: str) -> None:
    if needed != offered:
        raise HostMismatch(
            f"the engine was compiled for {field} {needed}; this host is {offered}",
            "slipstream build RECIPE, on a host like this one",
        )


def _require_isa(needed: Any, host: HostFacts) -> None:
    if not isinstance(needed, list | tuple) or not all(isinstance(feature, str) for feature in needed):
        raise HostMismatch(
            f"the engine's fingerprint has no list of CPU features: isa={needed!r}", "slipstream build RECIPE"
        )
    missing = sorted(set(needed) - host.isa)
    if missing and not host.isa:
        raise HostMismatch(
            f"the engine needs the CPU features {', '.join(missing)}; the kernel does not tell which this CPU has",
            "see that /proc/cpuinfo can be read",
        )
    if missing:
        raise HostMismatch(
            f"the engine needs the CPU features {', '.join(missing)}; {host.cpu_model or 'this CPU'} lacks them",
            f"serve it on a CPU with {', '.join(missing)}; in a virtual machine, pass the host CPU through",
        )


def _require_openvino(needed: str, installed: str) -> None:
    if not installed:
        raise HostMismatch(
            f"the engine needs OpenVINO {needed} or newer; none is installed", "pip install 'slipstream[serve]'"
        )
    if _release_tuple(installed) < _release_tuple(needed):
        raise HostMismatch(
            f"the engine was compiled with OpenVINO {needed}; {installed} is installed and older",
            f"pip install 'openvino>={needed}' 'openvino-genai>={needed}', or build it anew: slipstream build RECIPE",
        )


def _release_tuple(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in major_minor(release).split(".") if part.isdigit())


def _first_cpu() -> dict[str, str]:
    """The first block of ``/proc/cpuinfo``; empty where there is none."""
    try:
        block = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
