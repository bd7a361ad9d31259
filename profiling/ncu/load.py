"""Questions that keep an engine decoding while it is measured; nobody looks at how long they take."""

from threading import Event, Thread
from types import TracebackType
from typing import Self

import httpx

from slipstream.loadtest.credentials import API_KEY, authorization
from slipstream.profiling.ncu.faults import QuestionsRefused

_TOKENS = 64
_AFTER_A_FAULT_S = 0.5
_PASSING = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
"""What a server says that is busy, and under the tool it is; any other refusal would be repeated for ever."""
_REFUSALS = 5
_FIRST_CHARACTERS = 300


class Load:
    """``streams`` requests at any time, each followed by the next, until it is left.

    Raises:
        KeyInvalid: the key for the server can be in no header.
    """

    def __init__(self, url: str, streams: int) -> None:
        self._url = url
        self._headers = authorization()
        self._over = Event()
        self._threads = [Thread(target=self._ask_on, args=(number,), daemon=True) for number in range(streams)]
        self.answered = 0
        self._refusals = 0
        self._refusal = ""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()  # a thread in the middle of a request ends with its server

    def check(self) -> None:
        """
        Raises:
            QuestionsRefused: nothing was answered, and several questions were refused.
        """
        if not self.answered and self._refusals >= _REFUSALS:
            raise QuestionsRefused(
                f"the server refuses every question: {self._refusal}",
                f"if it wants a key, give one in {API_KEY}; else see its log beside the report",
            )

    def _ask_on(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=None, headers=self._headers, trust_env=False) as client:  # noqa: S113
            asked = 0
            while not self._over.is_set():
                asked += 1
                try:
                    answer = client.post("/v1/chat/completions", json=question(f"{number}.{asked}"))
                    is_answered = self._is_answered(answer)
                except httpx.HTTPError:
                    is_answered = False
                if not is_answered:
                    self._over.wait(_AFTER_A_FAULT_S)

    def _is_answered(self, answer: httpx.Response) -> bool:
        if answer.status_code == httpx.codes.OK:
            self.answered += 1
            return True
        if answer.status_code not in _PASSING:
            self._refusal = f"{answer.status_code} {answer.text[:_FIRST_CHARACTERS]}"
            self._refusals += 1
        return False


def question(number: str) -> dict[str, object]:
    """Each another one, so that none is answered from a cache; every answer has all its tokens."""
    return {
        "model": "slipstream-base",
        "messages": [{"role": "user", "content": f"{number}: write a function that merges two sorted lists."}],
        "max_tokens": _TOKENS,
        "ignore_eos": True,
    }


__all__ = ["Load", "question"]
