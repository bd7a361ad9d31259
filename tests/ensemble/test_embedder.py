"""The sentence embedder as serving and indexing use it."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from slipstream.ensemble.embedder import Embedder, EmbedderUnusable
from tests.tiny_bert import DIMENSION, TEXTS


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "embedder.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_folder_is_refused_with_its_name(copy: Path, name: str, damage: str) -> None:
    file = copy / name
    whole = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "garbage": b"\x93" * 4096}[damage])
    with pytest.raises(EmbedderUnusable, match=str(copy)) as raised:
        Embedder(copy)
    assert "verify" in raised.value.remedy


def test_a_graph_with_another_contract_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "embedder.json").read_text())
    (copy / "embedder.json").write_text(json.dumps(facts | {"dimension": 384}))
    with pytest.raises(EmbedderUnusable, match="no embedder of ours"):
        Embedder(copy)


def test_no_text_gives_no_vectors(folder: Path) -> None:
    assert Embedder(folder).embed([]).shape == (0, DIMENSION)


def test_vectors_come_in_the_order_of_the_texts_whatever_their_lengths(folder: Path) -> None:
    embedder = Embedder(folder, threads=2)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert len(np.unique(alone.round(3), axis=0)) == len(TEXTS)
    np.testing.assert_array_equal(embedder.embed(TEXTS), alone)
    np.testing.assert_array_equal(embedder.embed(TEXTS[::-1]), alone[::-1])


def test_a_padded_batch_gives_the_vectors_of_each_text_alone(folder: Path) -> None:
    """Bit for bit: a question served in a batch finds what an index made one by one."""
    embedder = Embedder(folder, threads=1)
    ids = [embedder.tokenizer.encode([text])[0] for text in TEXTS]
    padded = np.zeros((len(ids), max(map(len, ids))), dtype=np.int64)
    mask = np.zeros_like(padded)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    vectors = embedder.run(padded, mask)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, embedder.embed(TEXTS))


def test_vectors_have_unit_length(folder: Path) -> None:
    np.testing.assert_allclose(np.linalg.norm(Embedder(folder).embed(TEXTS), axis=1), 1, atol=1e-5)


def test_threads_may_share_it(folder: Path) -> None:
    embedder = Embedder(folder, threads=2)
    expected = embedder.embed(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(embedder.embed, [TEXTS] * 16):
            np.testing.assert_array_equal(vectors, expected)
