"""The retriever in Triton's Python backend."""

from typing import Any

import numpy as np
import structlog
from pydantic import ValidationError

from slipstream import InputError, SlipstreamError
from slipstream.ensemble.contracts import SearchRequest
from slipstream.ensemble.stage_marks import RETRIEVE_NS
from slipstream.ensemble.triton import tensors
from slipstream.ensemble.triton.parent import exit_with_parent
from slipstream.profiling.spans import now_ns

log = structlog.get_logger(__name__)


class RetrieverModel:
    """One instance; it owns the index's shards for as long as it lives."""

    def initialize(self, args: dict[str, str]) -> None:
        from slipstream.ensemble.retrieval.search import Searcher
        from slipstream.ensemble.retrieval.stores import open_store
        from slipstream.ensemble.retriever import Retriever
        from slipstream.ensemble.tokenizer import ChatTokenizer
        from slipstream.ensemble.triton.admission import admitted_bundle
        from slipstream.settings import Settings

        exit_with_parent()
        settings = Settings()
        bundle = admitted_bundle(args)
        searcher = Searcher(open_store(settings), bundle.manifest.embedder.digest)
        tokenizer = ChatTokenizer(bundle.tokenizer_dir)
        serving = bundle.manifest.serving
        least = serving.min_confidence if settings.min_confidence is None else settings.min_confidence
        self._retriever = Retriever(searcher.search, tokenizer, serving.context_tokens, serving.context_margin, least)
        self._warm_up(settings.collection, bundle.manifest.embedder.dimension)

    def _warm_up(self, collection: str, dimension: int) -> None:
        """Open the default collection's shard and build a prompt before the model is called ready."""
        request = SearchRequest(query="def main", collection=collection)
        try:
            self._retriever.retrieve([dimension**-0.5] * dimension, [{"role": "user", "content": "main"}], request, 1)
        except SlipstreamError as error:  # not indexed yet: the server starts, questions are told
            log.warning("retriever.no_collection", collection=collection, reason=error.message, remedy=error.remedy)

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        from slipstream.ensemble.retriever import error_code

        try:
            return self._retrieve(request)
        except SlipstreamError as error:
            code, param = error_code(error)
            message = f"{error.message} ({error.remedy})" if error.remedy else error.message
            return tensors.error(code, message, param)
        except Exception:
            log.exception("retriever.failed")
            return tensors.error("engine_error", "Retrieval failed; the reason is in the log of Triton.")

    def _retrieve(self, request: Any) -> Any:
        import triton_python_backend_utils as pb_utils

        from slipstream.ensemble.retriever import parse_messages

        began_ns = now_ns()
        try:
            search = SearchRequest.model_validate_json(tensors.text(request, "search"))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"search: {where}: {first['msg']}") from error
        embedding = tensors.array(request, "embedding")[0].tolist()
        max_tokens = int(tensors.array(request, "max_tokens")[0])
        messages = parse_messages(tensors.text(request, "messages"))
        found = self._retriever.retrieve(embedding, messages, search, max_tokens, request.request_id())
        outputs = [
            tensors.bytes_tensor("hits", found.result.model_dump_json()),
            pb_utils.Tensor("prompt_ids", np.array(found.prompt_ids, np.int32)),
        ]
        times = np.array([began_ns, *found.search_ns, now_ns()], np.int64)
        return pb_utils.InferenceResponse([*outputs, pb_utils.Tensor(RETRIEVE_NS, times)])
