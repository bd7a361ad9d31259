"""A scripted engine runtime: the tests decide which delta comes when. The real one is in `tests/engines`."""

from slipstream.engines.protocols import Emit, FinishReason, GenerationRequest, RuntimeMetrics, TokenDelta


class ScriptedRuntime:
    """Implements `slipstream.engines.protocols.Runtime`; nothing happens until a test calls `emit`."""

    def __init__(self) -> None:
        self.requests: dict[str, GenerationRequest] = {}
        self.cancelled: list[str] = []
        self._emits: dict[str, Emit] = {}

    def submit(self, request: GenerationRequest, emit: Emit) -> None:
        self.requests[request.generation_id] = request
        self._emits[request.generation_id] = emit

    def emit(self, generation_id: str, *token_ids: int, finish: FinishReason | None = None, error: str = "") -> None:
        self._emits[generation_id](TokenDelta(generation_id, token_ids, finish, error))

    def cancel(self, generation_id: str) -> bool:
        self.cancelled.append(generation_id)
        return generation_id in self._emits

    def metrics(self) -> RuntimeMetrics:
        return RuntimeMetrics(active=len(self._emits))

    def close(self) -> None:
        for generation_id in list(self._emits):
            self.emit(generation_id, finish="cancelled")
