"""`slipstream evaluate-search` over a suite of one's own, with a real embedder and a real index."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slipstream.cli import main
from slipstream.ensemble.embedder import Embedder
from slipstream.ensemble.retrieval.evaluation.rankers import RANKERS
from slipstream.ensemble.retrieval.evaluation.steps import STEPS
from slipstream.ensemble.retrieval.evaluation.vectors import CachedEmbedder
from tests.ensemble.retrieval.evaluation.suites import write_suite


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path)


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate-search", *map(str, arguments)])


# What is refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rankers", "bm25,best"), "no ranker 'best'"),
        (("--rankers", ","), "no ranker is named"),
        (("--only", "npm"), "no corpus is left"),
        (("--split", "train"), "train"),
        (("--limit-queries", "0"), "0"),
        (("--bundle", "another"), "another"),
        (("--details", "/nowhere/found.jsonl"), "/nowhere/found.jsonl"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(
    arguments: tuple[str, ...], says: str, suite: Path, home: Path
) -> None:
    shown = evaluate(suite, *arguments)
    assert shown.exit_code == 2
    assert says in shown.stderr
    assert not (home / "cache").exists()


def test_a_folder_that_is_no_suite_is_told(home: Path, tmp_path: Path) -> None:
    shown = evaluate(tmp_path / "nothing")
    assert shown.exit_code == 2
    assert "suite.yaml" in shown.stderr


def test_a_half_written_suite_is_told_with_its_line(home: Path, suite: Path) -> None:
    (suite / "suite.yaml").write_text("corpora:\n  - {name: shop")
    shown = evaluate(suite)
    assert shown.exit_code == 2
    assert "suite.yaml:2 is no YAML" in shown.stderr
    assert "correct it" in shown.stderr


def test_a_split_without_queries_is_told(suite: Path, home: Path) -> None:
    (suite / "suite.yaml").write_text("corpora: [{name: shop, path: ../shop}]\ndocstrings: {per_corpus: 0}\n")
    (suite / "questions.jsonl").unlink()
    shown = evaluate(suite, "--rankers", "bm25")
    assert shown.exit_code == 2
    assert "has no query" in shown.stderr


# What is measured


def test_every_ranker_answers_every_query_of_the_split(suite: Path, home: Path, tmp_path: Path) -> None:
    shown = evaluate(suite, "--json", "--split", "development", "--details", tmp_path / "found.jsonl")
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert document["corpora"] == ["shop", "post"]
    groups = {(row["language"], row["kind"], row["ranker"]): row["scores"]["queries"] for row in document["scores"]}
    for ranker in ("bm25", "dense", "rrf", "product"):
        assert (groups["en", "docstring", ranker], groups["en", "question", ranker]) == (2, 1)
        assert (groups["en", "all", ranker], groups["ru", "question", ranker]) == (3, 1)
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert {line["split"] for line in lines} == {"development"}
    assert len(lines) == 4 * 4
    assert all(line["results"] for line in lines if line["ranker"] != "bm25")
    paths = {result["path"] for line in lines for result in line["results"]}
    assert paths == {"shop/cart.py", "post/send.go", "post/old.py"}


def test_the_words_of_a_definition_find_it(suite: Path, home: Path) -> None:
    document = json.loads(evaluate(suite, "--json", "--rankers", "bm25", "--split", "test").stdout)
    found = {(row["language"], row["kind"]): row["scores"]["recall_1"]["value"] for row in document["scores"]}
    assert found == {("en", "docstring"): 1.0, ("en", "question"): 1.0, ("en", "all"): 1.0}


def test_the_product_is_asked_as_a_server_asks_it(suite: Path, home: Path) -> None:
    """Without a baseline there is nothing to compare with; a single corpus is searched under its own name."""
    (suite / "suite.yaml").write_text("corpora: [{name: shop, path: ../shop}]\n")
    lines = (suite / "questions.jsonl").read_text().splitlines()[:2]
    (suite / "questions.jsonl").write_text("\n".join(lines))
    document = json.loads(evaluate(suite, "--json", "--rankers", "product").stdout)
    assert {row["ranker"] for row in document["scores"]} == {"product"}
    assert all(row["against"] is None for row in document["scores"])
    assert all(row["scores"]["file_recall_10"]["value"] == 1.0 for row in document["scores"])


def test_the_table_names_the_groups_the_rankers_and_what_was_left_out(suite: Path, home: Path) -> None:
    shown = evaluate(suite, "--rankers", "bm25,dense")
    assert shown.exit_code == 0
    assert "test · en · docstring (1)" in shown.stdout
    assert "development · ru · question (1)" in shown.stdout
    assert "development (1 pairs)" in shown.stdout
    assert "too few" in shown.stdout
    assert "left out" not in shown.stdout
    text = (suite / "suite.yaml").read_text()
    (suite / "suite.yaml").write_text(text + f"  - {{name: far, source: 'npm:far@1', sha256: '{'0' * 64}'}}\n")
    shown = evaluate(suite, "--rankers", "bm25", "--skip", "npm")
    assert "left out: far" in shown.stdout


def test_fewer_queries_are_drawn_alike_every_time(suite: Path, home: Path, tmp_path: Path) -> None:
    def drawn() -> list[str]:
        evaluate(suite, "--rankers", "bm25", "--limit-queries", 3, "--details", tmp_path / "found.jsonl")
        return [json.loads(line)["id"] for line in (tmp_path / "found.jsonl").read_text().splitlines()]

    assert len(drawn()) == 3
    assert drawn() == drawn()


# Vectors


def test_a_text_is_embedded_once_for_each_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["def add(a, b):", "", "def add(a, b):", "щука"]
    made = CachedEmbedder(folder, tmp_path).embed(texts)
    assert (made == Embedder(folder).embed(texts)).all()
    monkeypatch.setattr(Embedder, "embed", lambda self, texts: pytest.fail("it was kept"))
    kept = CachedEmbedder(folder, tmp_path).embed(["щука", *texts])
    assert (kept[1:] == made).all()
    assert (kept[0] == made[3]).all()
    assert CachedEmbedder(folder, tmp_path).embed([]).shape == (0, made.shape[1])


def test_the_last_step_finds_what_the_index_finds_and_no_other_step_does(
    suite: Path, home: Path, tmp_path: Path
) -> None:
    """The steps are computed in memory: they say something about the product only if the last of them is it."""
    file = tmp_path / "found.jsonl"
    (tmp_path / "shop" / "test_cart.py").write_text("def test_where_does_an_item_go():\n    assert Cart().push(1)\n")
    shown = evaluate(suite, "--json", "--rankers", "all", "--details", file)
    assert shown.exit_code == 0, shown.output
    found: dict[str, dict[str, list[tuple[str, int, float]]]] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        places = [(one["path"], one["line_start"], round(one["score"], 4)) for one in line["results"]]
        found.setdefault(line["ranker"], {})[line["id"]] = places
    assert found["words"] == found["adapted"]  # where both bundles are one
    assert [name for name in STEPS if found[name] == found["product"]] == ["tests"]
    assert set(found) == set(RANKERS)


def test_baselines_may_have_an_embedder_of_their_own(suite: Path, home: Path) -> None:
    """That of the bundle is adapted, and the baseline is what it was made from."""
    shown = evaluate(suite, "--plain-bundle", "another")
    assert shown.exit_code == 2
    assert "another" in shown.stderr
