"""A host that an engine was not compiled for is refused by name, before anything is loaded."""

import dataclasses
import subprocess
import sys
from typing import Any

import pytest

from slipstream.engines.host import HostFacts, major_minor, probe_host, require_host
from slipstream.engines.openvino.target import OpenVinoTarget
from slipstream.engines.protocols import HostMismatch

HOST = HostFacts(
    os="linux",
    arch="x86_64",
    cpu_model="Test CPU",
    isa=frozenset({"sse4_2", "avx2", "fma"}),
    openvino="2026.4.1",
)
FINGERPRINT = {"os": "linux", "arch": "x86_64", "isa": ["avx2", "fma"], "openvino": "2026.4"}


@pytest.mark.parametrize(
    ("fingerprint", "host", "says", "remedy"),
    [
        ({"arch": "aarch64"}, {}, "compiled for arch aarch64; this host is x86_64", "on a host like this one"),
        ({"os": "windows"}, {}, "compiled for os windows; this host is linux", "on a host like this one"),
        ({"isa": ["avx2", "amx_int8", "avx512f"]}, {}, "amx_int8, avx512f; Test CPU lacks them", "pass the host CPU"),
        ({}, {"isa": frozenset()}, "avx2, fma; the kernel does not tell which this CPU has", "/proc/cpuinfo"),
        ({"openvino": "2026.10"}, {}, "compiled with OpenVINO 2026.10; 2026.4.1 is installed", "openvino>=2026.10"),
        ({"openvino": "2027.0"}, {}, "compiled with OpenVINO 2027.0", "build it anew"),
        ({}, {"openvino": ""}, "none is installed", "pip install 'slipstream[serve]'"),
        ({"isa": 5}, {}, "no list of CPU features: isa=5", "slipstream build"),
        ({"isa": "avx2"}, {}, "no list of CPU features", "slipstream build"),
        ({"cuda": "13"}, {}, "demands cuda='13', which this version of Slipstream does not know", "build it anew"),
    ],
)
def test_a_host_that_does_not_fit_is_refused_with_a_remedy(
    fingerprint: dict[str, Any], host: dict[str, Any], says: str, remedy: str
) -> None:
    with pytest.raises(HostMismatch) as refused:
        require_host({**FINGERPRINT, **fingerprint}, dataclasses.replace(HOST, **host))
    assert says in refused.value.message
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    ("fingerprint", "host"),
    [
        ({}, {}),
        ({"openvino": "2026.3"}, {}),
        ({}, {"openvino": "2026.10.0"}),
        ({}, {"openvino": "2026.4.1-20999-abc"}),
        ({}, {"isa": HOST.isa | {"avx512f"}}),
        ({"isa": []}, {"isa": frozenset()}),
    ],
)
def test_a_newer_openvino_and_a_richer_cpu_are_welcome(fingerprint: dict[str, Any], host: dict[str, Any]) -> None:
    require_host({**FINGERPRINT, **fingerprint}, dataclasses.replace(HOST, **host))


def test_what_decides_how_a_cpu_multiplies_is_told_apart_from_the_rest() -> None:
    assert dataclasses.replace(HOST, isa=frozenset({"sse4_2", "avx512_bf16", "avx2", "aes"})).multiplies_with == [
        "avx2",
        "avx512_bf16",
    ]


def test_this_host_is_probed() -> None:
    host = probe_host()
    assert host.openvino
    if host.arch == "x86_64":
        assert host.isa
        assert host.cpu_model
    require_host({"os": host.os, "arch": host.arch, "isa": sorted(host.isa), "openvino": host.openvino}, host)


def test_no_program_is_started_to_look_at_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that hangs would hold up every start of the server."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError(f"{args} was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    probe_host()


def test_nothing_is_loaded_to_refuse() -> None:
    script = (
        "import sys\n"
        "from slipstream.engines.registry import target\n"
        "try: target('openvino').check_host({'arch': 'sparc'})\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print([name for name in ('openvino', 'openvino_genai', 'nncf', 'torch', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["HostMismatch", "[]"]


def test_the_target_asks_this_host() -> None:
    with pytest.raises(HostMismatch, match="amx_imaginary"):
        OpenVinoTarget().check_host({"isa": ["amx_imaginary"]})


def test_a_release_is_compared_by_its_first_two_numbers() -> None:
    assert major_minor("2026.4.1-20999-abc") == "2026.4"
