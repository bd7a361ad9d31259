"""What A and B may be called, and which two cannot be compared."""

import json
from pathlib import Path

import pytest

from slipstream.loadtest.comparison.sides import SideInvalid, check_pair, resolve, same_server


def bundle(bundles: Path, name: str, release: str = "production-v1", embedder: str = "e1") -> Path:
    folder = bundles / name
    folder.mkdir(parents=True)
    manifest = {"id": name, "release_name": release, "embedder": {"digest": embedder}}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    bundle(folder, "aaaa1111", "one")
    bundle(folder, "aabb2222", "two")
    bundle(folder, "cccc3333", "two", embedder="e2")
    bundle(folder, ".aside", "hidden")
    return folder


@pytest.mark.parametrize("given", ["cccc3333", "cc", "aaaa", "one"])
def test_a_bundle_goes_by_its_id_a_unique_beginning_or_its_release(bundles: Path, given: str) -> None:
    side = resolve("A", given, bundles)
    assert side.bundle_id in ("cccc3333", "aaaa1111")
    assert Path(side.bundle) == bundles / side.bundle_id
    assert (side.url, side.name) == ("", side.bundle_id)


def test_a_bundle_goes_by_any_path(bundles: Path, tmp_path: Path) -> None:
    elsewhere = bundle(tmp_path / "elsewhere", "dddd4444")
    assert resolve("B", str(elsewhere), bundles).bundle_id == "dddd4444"


def test_what_the_build_measured_is_known(bundles: Path) -> None:
    measured = {"golden": {"report": {"pass_rate": 0.6}}}
    (bundles / "aaaa1111" / "evaluation.json").write_text(json.dumps(measured))
    assert resolve("A", "aaaa", bundles).golden_at_build == 0.6
    assert resolve("A", "cccc", bundles).golden_at_build is None


@pytest.mark.parametrize("given", ["aa", "two"])
def test_what_fits_two_bundles_names_them_and_chooses_none(bundles: Path, given: str) -> None:
    with pytest.raises(SideInvalid, match="fits more than one bundle") as raised:
        resolve("A", given, bundles)
    assert "aabb2222 (two)" in raised.value.message
    assert "one)" not in raised.value.message or given == "aa"


def test_an_unknown_bundle_is_told_with_those_that_are_there(bundles: Path) -> None:
    with pytest.raises(SideInvalid, match="B: there is no bundle 'zzzz'") as raised:
        resolve("B", "zzzz", bundles)
    assert all(name in raised.value.message for name in ("aaaa1111 (one)", "aabb2222 (two)", "cccc3333 (two)"))
    assert ".aside" not in raised.value.message


def test_where_nothing_was_built_the_remedy_builds(tmp_path: Path) -> None:
    with pytest.raises(SideInvalid, match="none at all") as raised:
        resolve("A", "default", tmp_path)
    assert "slipstream build" in (raised.value.remedy or "")


def test_an_address_without_its_scheme_is_recognised(bundles: Path) -> None:
    with pytest.raises(SideInvalid) as raised:
        resolve("A", "127.0.0.1:8080", bundles)
    assert "http://127.0.0.1:8080" in (raised.value.remedy or "")


@pytest.mark.parametrize("given", ["ftp://host", "http://", "http://host:99999", "http://[::1", "http://host:x"])
def test_what_is_no_address_is_said(bundles: Path, given: str) -> None:
    with pytest.raises(SideInvalid, match="is no address"):
        resolve("A", given, bundles)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"id": 3}'])
def test_a_damaged_manifest_is_said(bundles: Path, content: str) -> None:
    (bundles / "aaaa1111" / "bundle.json").write_text(content)
    with pytest.raises(SideInvalid, match="no manifest"):
        resolve("A", "aaaa1111", bundles)


@pytest.mark.parametrize("given", ["", "  "])
def test_nothing_is_no_side(bundles: Path, given: str) -> None:
    with pytest.raises(SideInvalid, match="A is empty"):
        resolve("A", given, bundles)


def test_an_address_is_that_of_the_server_whatever_path_clients_use(bundles: Path) -> None:
    assert resolve("A", "http://host:8080/v1/", bundles).url == "http://host:8080"
    assert resolve("A", "http://host:8080/v1/", bundles).name == "host:8080"


def test_bundles_that_embed_differently_share_no_collection(bundles: Path) -> None:
    a, b = resolve("A", "aaaa", bundles), resolve("B", "cccc", bundles)
    with pytest.raises(SideInvalid, match="embed differently") as raised:
        check_pair(a, b, "slipstream")
    assert "--model slipstream-base" in (raised.value.remedy or "")
    assert check_pair(a, b, "slipstream-base") == ()


def test_one_server_under_two_names_is_recognised(bundles: Path) -> None:
    a, b = resolve("A", "http://localhost:8080", bundles), resolve("B", "http://127.0.0.1:8080/v1", bundles)
    assert same_server(a, b)
    assert "one server" in check_pair(a, b, "slipstream")[0]
    assert not same_server(a, resolve("B", "http://127.0.0.1:8081", bundles))


def test_a_bundle_against_itself_is_allowed_and_said(bundles: Path) -> None:
    a, b = resolve("A", "aaaa", bundles), resolve("B", "one", bundles)
    assert not same_server(a, b)  # each run starts a server of its own
    assert "one bundle" in check_pair(a, b, "slipstream")[0]


def test_other_tokenizers_count_other_tokens_and_that_is_said(bundles: Path) -> None:
    for name, words in (("aaaa1111", "{}"), ("aabb2222", "[]")):
        (bundles / name / "tokenizer").mkdir()
        (bundles / name / "tokenizer" / "tokenizer.json").write_text(words)
    (said,) = check_pair(resolve("A", "aaaa", bundles), resolve("B", "aabb", bundles), "slipstream")
    assert "different tokenizers" in said
