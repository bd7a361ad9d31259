"""Files that are no export, or none that holds what is needed: each says which."""

import sqlite3
from pathlib import Path

import pytest

from slipstream import InputError
from slipstream.profiling.nsys.export import NoExport, NoRanges, SchemaUnknown
from slipstream.profiling.nsys.reading import read_export
from slipstream.profiling.nsys.results import NoReadingThere, read_reading
from tests.profiling.nsys.exports import Made, tid


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    for content in (b"no database at all, only text" * 100, b""):
        path.write_bytes(content)
        with pytest.raises(NoExport, match=r"a\.sqlite"):
            read_export(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.sqlite", tmp_path):
        with pytest.raises(NoExport, match="there is no"):
            read_export(path)


def test_another_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.sqlite") as rows:
        rows.execute("CREATE TABLE orders (id INTEGER)")
    rows.close()
    with pytest.raises(NoExport, match="no table StringIds"):
        read_export(tmp_path / "a.sqlite")


def test_an_export_that_is_cut_off(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    for number in range(2000):
        made.pushed("embed", number, number + 1, payload=number)
    made.rows.close()
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NoExport, match="cannot be read"):
        read_export(made.path)


def test_a_path_with_odd_letters(tmp_path: Path) -> None:
    folder = tmp_path / "100% odd?#né"
    folder.mkdir()
    made = Made(folder / "a b.sqlite")
    made.pushed("embed", 0, 10)
    assert read_export(made.path).stages


def test_the_export_is_not_changed(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    made.request(1, 0)
    made.rows.close()
    before = made.path.read_bytes()
    read_export(made.path)
    assert made.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.sqlite"]


def test_a_column_of_another_schema_is_named(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    made.pushed("embed", 0, 10)
    made.rows.execute("ALTER TABLE NVTX_EVENTS RENAME COLUMN domainId TO domain")
    made.rows.execute("UPDATE EXPORT_META_DATA SET value = '9.1.0' WHERE name = 'EXPORT_SCHEMA_VERSION'")
    with pytest.raises(
        SchemaUnknown, match=r"NVTX_EVENTS has no column domainId; .*nsys 2022\.4\.2\.1 with schema 9\.1\.0"
    ):
        read_export(made.path)


def test_a_column_of_a_table_for_gpus_too(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    made.pushed("embed", 0, 10)
    made.kernel("gemm", 1, 0, 1)
    made.rows.execute("ALTER TABLE CUPTI_ACTIVITY_KIND_KERNEL DROP COLUMN shortName")
    with pytest.raises(SchemaUnknown, match="KERNEL has no column shortName"):
        read_export(made.path)


def test_newer_versions_name_their_facts_otherwise(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    made.pushed("embed", 0, 10)
    made.rows.execute("ALTER TABLE EXPORT_META_DATA RENAME TO META_DATA_EXPORT")
    assert read_export(made.path).schema == "3.0.0"
    made.rows.execute("DROP TABLE META_DATA_EXPORT")
    assert read_export(made.path).nsys == "unknown"


def test_a_capture_without_nvtx(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite", processes=())
    made.call("poll", 0, 1)
    with pytest.raises(NoRanges, match="nothing of the domain 'slipstream'"):
        read_export(made.path)


def test_a_capture_with_the_ranges_of_others_only(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite", domain="NCCL")
    made.pushed("embed", 0, 10)
    with pytest.raises(NoRanges, match="nothing of the domain 'slipstream'") as raised:
        read_export(made.path)
    assert "nvtx is installed" in raised.value.remedy


def test_a_domain_whose_ranges_never_arrived(tmp_path: Path) -> None:
    """What an old nsys makes of a new NVTX: the domain is announced, and no range follows."""
    made = Made(tmp_path / "a.sqlite")
    with pytest.raises(NoRanges, match=r"holds none of its ranges: nsys 2022\.4\.2\.1 did not hear") as raised:
        read_export(made.path)
    assert raised.value.exit_code == 2
    assert "another version" in raised.value.remedy


def test_a_range_without_a_name_is_one_all_the_same(tmp_path: Path) -> None:
    made = Made(tmp_path / "a.sqlite")
    made.rows.execute(
        "INSERT INTO NVTX_EVENTS (start, end, eventType, globalTid, domainId) VALUES (0, 5000, 59, ?, 1)", (tid(1, 1),)
    )
    assert [(one.stage, one.ranges) for one in read_export(made.path).stages] == [("", 1)]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"nsys": "1"}', "null"])
def test_a_file_that_is_no_reading(tmp_path: Path, text: str) -> None:
    (tmp_path / "reading.json").write_text(text)
    with pytest.raises(NoReadingThere):
        read_reading(tmp_path / "reading.json")
    assert issubclass(NoReadingThere, InputError)
