"""A tiny bundle with real tokenizers, and apps in front of a closed port or of a scripted ensemble."""

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from slipstream.api.app import create_app
from slipstream.api.triton import Limits, TritonClient
from slipstream.ensemble.bundle import Bundle
from slipstream.ensemble.manifest import EmbedderEntry, EngineEntry, Lineage, Manifest, ServingOptions
from slipstream.settings import Settings
from tests.api.scripted import ScriptedTriton

CONTEXT_LENGTH = 256
EMBEDDER_TOKENS = 32
PATIENT = Limits(probe_s=20, unary_s=20, first_s=20, next_s=20, cancel_s=20)
IMPATIENT = Limits(probe_s=20, unary_s=20, first_s=0.5, next_s=0.5, cancel_s=20)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["def retry(budget): return budget - 1"], trainer)
    return tokenizer


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundle")
    (path / "tokenizer").mkdir()
    _byte_level(["<|im_start|>", "<|im_end|>"]).save(str(path / "tokenizer" / "tokenizer.json"))
    (path / "tokenizer" / "chat_template.jinja").write_text(CHATML)
    special = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "eos_token_ids": [1],
        "context_length": CONTEXT_LENGTH,
    }
    (path / "tokenizer" / "special_tokens.json").write_text(json.dumps(special))
    (path / "embedder").mkdir()
    embedder = _byte_level(["[PAD]", "[CLS]", "[SEP]"])
    embedder.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    embedder.save(str(path / "embedder" / "tokenizer.json"))
    facts = {"dimension": 4, "max_tokens": EMBEDDER_TOKENS, "pad_token_id": 0, "digest": "d"}
    (path / "embedder" / "embedder.json").write_text(json.dumps(facts))
    (path / "bundle.json").write_text(_manifest().model_dump_json())
    return Bundle.open(path)


def _manifest() -> Manifest:
    return Manifest(
        id="0123456789abcdef",
        release_name="test-v0-tiny-none-p1",
        recipe={},
        lineage=Lineage(
            base_model="tiny",
            base_model_sha256="0",
            adapter=None,
            calibration_sha256=None,
            prompt_id="p1",
            prompt_sha256="0",
        ),
        quantization={"method": "none"},
        engine=EngineEntry(target="openvino", versions={}, fingerprint={}),
        embedder=EmbedderEntry(model="tiny", digest="d", dimension=4, max_tokens=EMBEDDER_TOKENS),
        serving=ServingOptions(max_output_tokens=64, max_concurrency=2, max_waiting=1),
        tokenizer_sha256="0",
        chat_template_sha256="0",
        context_length=CONTEXT_LENGTH,
        files=[],
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@asynccontextmanager
async def serving(
    bundle: Bundle, settings: Settings, address: str, limits: Limits = PATIENT
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of an app whose Triton is at ``address``. Transport errors of the app are raised."""
    triton = TritonClient(address, limits)
    app = create_app(bundle, settings, triton)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", timeout=60) as client:
            yield client
    finally:
        await triton.close()


@pytest.fixture
async def client(bundle: Bundle, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """In front of a port where nobody listens: what passes validation ends as a 503."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        async with serving(bundle, settings, f"127.0.0.1:{reserved.getsockname()[1]}") as client:
            yield client


@pytest.fixture
async def triton() -> AsyncIterator[ScriptedTriton]:
    async with ScriptedTriton() as triton:
        yield triton


@pytest.fixture
async def scripted(bundle: Bundle, settings: Settings, triton: ScriptedTriton) -> AsyncIterator[httpx.AsyncClient]:
    """In front of ``triton``, whose answers the test writes."""
    async with serving(bundle, settings, triton.address) as client:
        yield client


@pytest.fixture
async def impatient(bundle: Bundle, settings: Settings, triton: ScriptedTriton) -> AsyncIterator[httpx.AsyncClient]:
    """The same, but it takes half a second without a word for a failure."""
    async with serving(bundle, settings, triton.address, IMPATIENT) as client:
        yield client
