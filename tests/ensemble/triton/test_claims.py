"""The ports that a server claims for Triton before it starts."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from slipstream.ensemble.triton import claims
from slipstream.ensemble.triton.claims import PortTaken, ports_or_free, require_free


class Kernel:
    """Gives ports in a fixed order, as the kernel may: one that was given and closed may be given again.

    Attributes:
        order: what an ask finds, in turn; one that is held is passed over.
    """

    def __init__(self, *order: int) -> None:
        self.order = list(order)
        self.held: set[int] = set()

    def socket(self) -> Any:
        kernel = self

        class Socket:
            port = 0

            def __enter__(self) -> "Socket":
                return self

            def __exit__(self, *_: object) -> None:
                kernel.held.discard(self.port)

            def bind(self, _address: tuple[str, int]) -> None:
                self.port = next(port for port in kernel.order if port not in kernel.held)
                kernel.held.add(self.port)

            def getsockname(self) -> tuple[str, int]:
                return "127.0.0.1", self.port

        return Socket()


def test_free_ports_are_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(40001, 40002, 40003)
    monkeypatch.setattr(claims, "socket", SimpleNamespace(socket=kernel.socket))
    assert ports_or_free((0, 0, 0)) == [40001, 40002, 40003]
    assert not kernel.held


def test_a_free_port_is_none_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "socket", SimpleNamespace(socket=Kernel(8001, 40001, 40002).socket))
    assert ports_or_free((0, 8001, 0)) == [40001, 8001, 40002]


def test_the_kernels_free_ports_can_be_had() -> None:
    ports = ports_or_free((0,) * 50)
    assert len(set(ports)) == 50
    require_free(ports)


def test_a_port_that_is_wanted_twice_is_told_before_triton_starts() -> None:
    port = ports_or_free((0,))[0]
    with pytest.raises(PortTaken, match=rf"{port} is wanted twice") as caught:
        require_free((port, 0, port))
    assert "SLIPSTREAM_TRITON_HTTP_PORT" in caught.value.remedy


def test_a_port_that_somebody_has() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(PortTaken, match="is taken"):
            require_free((other.getsockname()[1],))
