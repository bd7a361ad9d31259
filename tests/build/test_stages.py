"""The stage cache: whole outputs or none, whatever kills, fills or shares the disk."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipstream.build.durable import DiskFull, Shelf, explaining_full_disk
from slipstream.build.stages import Outputs, Stage, StageCache, changes, code_digests, library_versions
from slipstream.engines.protocols import Progress

Work = Callable[[Outputs, Path, Progress], dict[str, Any]]


def silent(share: float, doing: str) -> None:
    pass


def stage(name: str = "merge", work: Work | None = None, *, after: tuple[str, ...] = (), **inputs: Any) -> Stage:
    def write(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        (out / "weights").mkdir()
        (out / "weights" / "a.bin").write_bytes(repr(sorted(inputs.items())).encode())
        return {"layers": 2}

    return Stage(name, inputs, work or write, after)


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "stages")


def leftovers(cache: StageCache) -> list[Path]:
    return list(cache.root.glob("*/.aside/*"))


def refuse(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
    raise AssertionError("the stage ran again")


def test_equal_inputs_are_not_worked_on_twice(cache: StageCache) -> None:
    made, status = cache.run(stage(base="one"), {}, silent)
    assert (status, made.facts) == ("ran", {"layers": 2})
    again, status = cache.run(stage(work=refuse, base="one"), {}, silent)
    assert (status, again) == ("cached", made)


def test_any_input_that_changed_makes_another_output(cache: StageCache) -> None:
    made = {cache.run(stage(base=base, libraries={"torch": torch}), {}, silent)[0].folder
            for base in "ab" for torch in ("2.13.0", "2.14.0")}  # fmt: skip
    assert len(made) == 4


def test_a_stage_is_keyed_by_the_bytes_it_reads_and_not_by_what_made_them(cache: StageCache) -> None:
    def same_bytes(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        (out / "weights").write_bytes(b"equal")
        return {}

    for base in "ab":
        merged, status = cache.run(stage("merge", same_bytes, base=base), {}, silent)
        assert status == "ran"
        _, status = cache.run(stage("quantize", after=("merge",)), {"merge": merged}, silent)
    assert status == "cached"


def cut(folder: Path) -> None:
    (folder / "weights" / "a.bin").chmod(0o644)
    (folder / "weights" / "a.bin").write_bytes(b"")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((folder / "stage.json").read_text())
    change(fields)
    (folder / "stage.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        lambda folder: (folder / "weights" / "a.bin").unlink(),
        lambda folder: (folder / "weights" / "extra").touch(),
        lambda folder: (folder / "stage.json").unlink(),
        lambda folder: (folder / "stage.json").replace(folder / "stage.json.old"),
        lambda folder: rewrite(folder, lambda fields: fields.update(facts={})),
        lambda folder: rewrite(folder, lambda fields: fields["inputs"].clear()),
        lambda folder: rewrite(folder, lambda fields: fields.update(digest="0" * 32)),
        lambda folder: rewrite(folder, lambda fields: fields.pop("sha256")),
        lambda folder: (folder / "stage.json").write_text("[" * 200_000),
    ],
    ids=["cut", "missing", "extra", "no marker", "renamed marker", "facts", "inputs", "key", "no digest", "deep"],
)
def test_a_damaged_output_is_made_anew(cache: StageCache, damage: Callable[[Path], None]) -> None:
    made, _ = cache.run(stage(base="one"), {}, silent)
    (made.folder / "stage.json").chmod(0o644)
    damage(made.folder)
    assert reasons(cache, stage(base="one")) == {"merge": ("its cached output is damaged",)}
    again, status = cache.run(stage(base="one"), {}, silent)
    assert (status, again.facts) == ("ran", {"layers": 2})
    assert again.is_sound()
    assert not leftovers(cache)


def test_an_output_is_no_other_stage_s_and_no_other_key_s(cache: StageCache) -> None:
    made, _ = cache.run(stage(base="one"), {}, silent)
    for place in ("merge/" + "0" * 32, f"quantize/{made.digest}"):
        shutil.copytree(made.folder, cache.root / place)
        assert cache.find(*place.split("/")) is None
    assert cache.find("merge", made.digest) == made


def test_a_discarded_output_is_gone_also_where_nothing_was_ever_made_aside(cache: StageCache) -> None:
    made, _ = cache.run(stage(), {}, silent)
    (made.folder.parent / ".aside").rmdir()
    cache.discard(made)
    assert not made.folder.exists()
    made.folder.symlink_to("/nowhere")
    cache.discard(made)
    assert not made.folder.is_symlink()
    assert not leftovers(cache)


def test_a_flipped_byte_is_seen_by_whoever_reads_the_output(cache: StageCache) -> None:
    made, _ = cache.run(stage(), {}, silent)
    assert made.is_sound()
    file = made.folder / "weights" / "a.bin"
    file.chmod(0o644)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    assert made.is_whole()
    assert not made.is_sound()


def test_outputs_are_read_only(cache: StageCache) -> None:
    made, _ = cache.run(stage(), {}, silent)
    assert {path.stat().st_mode & 0o777 for path in made.folder.rglob("*") if path.is_file()} == {0o444}


def test_everything_is_synced_before_it_gets_its_name(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        os, "fsync", lambda file: (synced.append(Path(f"/proc/self/fd/{file}").readlink().name), fsync(file))[1]
    )
    at_rename: list[list[str]] = []
    monkeypatch.setattr(Path, "rename", lambda self, to: (at_rename.append(list(synced)), rename(self, to))[1])
    made, _ = cache.run(stage(), {}, silent)
    assert {"a.bin", "weights", "stage.json"} <= set(at_rename[-1])
    assert synced[-1] == made.folder.parent.name  # and the name itself


def test_a_stage_that_fails_leaves_nothing(cache: StageCache) -> None:
    def fail(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        (out / "half").write_bytes(b"x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.run(stage(work=fail), {}, silent)
    assert not leftovers(cache)
    assert cache.run(stage(), {}, silent)[1] == "ran"


# --- a full disk -----------------------------------------------------------------------------------------------------


def full_by_errno(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
    (out / "half").write_bytes(b"x")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_by_words(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
    """As safetensors says it, wrapped by somebody who keeps the cause."""
    try:
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    except RuntimeError as error:
        raise ValueError("saving failed") from error


@pytest.mark.parametrize("work", [full_by_errno, full_by_words])
def test_a_disk_that_fills_up_names_folder_and_sizes_and_leaves_nothing(cache: StageCache, work: Work) -> None:
    with pytest.raises(DiskFull) as caught:
        cache.run(Stage("quantize", {}, work), {}, silent)
    folder = re.escape(str(cache.root / "quantize"))
    assert re.fullmatch(rf"no room in {folder}: quantize needs more than (\d+) MB, \1 MB are free", str(caught.value))
    assert "SLIPSTREAM_HOME" in caught.value.remedy
    assert not leftovers(cache)


def test_a_library_that_does_not_say_what_failed_is_asked_with_the_disk(
    cache: StageCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's words for a full disk, on a disk that is full until what is half made goes."""

    def full(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        (out / "half").write_bytes(b"x")
        raise RuntimeError("basic_ios::clear: iostream error")

    def free_bytes(folder: Path) -> int:
        return 4096 if leftovers(cache) else 2_000_000

    monkeypatch.setattr("slipstream.build.durable.free_bytes", free_bytes)
    with pytest.raises(DiskFull, match="merge needs more than 2 MB, 2 MB are free"):
        cache.run(stage(work=full), {}, silent)
    assert not leftovers(cache)


def test_a_disk_that_is_full_when_syncing_leaves_nothing(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems that allocate late admit it only then."""

    def fsync(file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(DiskFull):
            cache.run(stage(), {}, silent)
    assert not leftovers(cache)
    assert cache.run(stage(), {}, silent)[1] == "ran"


def test_what_will_not_fit_is_refused_before_the_work(cache: StageCache) -> None:
    with pytest.raises(DiskFull, match=r"merge needs about 1152921504607 MB, \d+ MB are free"):
        cache.run(Stage("merge", {}, refuse, needed_bytes=1 << 60), {}, silent)


def test_a_full_disk_whose_need_is_not_known_still_says_what_is_free(tmp_path: Path) -> None:
    told = pytest.raises(DiskFull, match=r"the build needs more than \d+ MB, \d+ MB are free")
    with told, explaining_full_disk(tmp_path / "not" / "there", "the build"):
        raise OSError(errno.ENOSPC, "while locking")


def test_another_error_on_a_full_disk_is_not_blamed_on_it(cache: StageCache) -> None:
    def fail(outputs: Outputs, out: Path, progress: Progress) -> dict[str, Any]:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError):
        cache.run(stage(work=fail), {}, silent)


# --- other processes -------------------------------------------------------------------------------------------------

SLOW = """
    import sys, time
    from pathlib import Path
    from slipstream.build.stages import Stage, StageCache

    def work(outputs, out, progress):
        (out / "half").write_bytes(b"x")
        with open(sys.argv[2], "a") as count:
            count.write("worked\\n")
        time.sleep(float(sys.argv[3]))
        return {}

    record, status = StageCache(Path(sys.argv[1])).run(Stage("merge", {"base": "one"}, work), {}, lambda *_: None)
    print(status)
"""


def start(cache: StageCache, count: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", textwrap.dedent(SLOW), str(cache.root), str(count), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_killed_process_left_is_never_used_and_is_cleaned(cache: StageCache, tmp_path: Path) -> None:
    process = start(cache, tmp_path / "count", 60)
    wait_for(tmp_path / "count")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert leftovers(cache)
    assert cache.find("merge", next((cache.root / "merge" / ".locks").iterdir()).name) is None
    cache.sweep()
    assert not leftovers(cache)
    assert cache.run(stage(base="one"), {}, silent)[1] == "ran"


def test_what_a_living_process_is_making_is_left_alone(cache: StageCache, tmp_path: Path) -> None:
    process = start(cache, tmp_path / "count", 1.0)
    wait_for(tmp_path / "count")
    cache.sweep()
    assert leftovers(cache)
    assert process.communicate()[0] == "ran\n"
    assert not leftovers(cache)


def test_two_processes_that_want_the_same_make_it_once(cache: StageCache, tmp_path: Path) -> None:
    both = [start(cache, tmp_path / "count", 1.0) for _ in range(2)]
    assert sorted(process.communicate()[0] for process in both) == ["cached\n", "ran\n"]
    assert (tmp_path / "count").read_text() == "worked\n"


def test_whoever_waits_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    shelf, other = Shelf(tmp_path), Shelf(tmp_path)
    with shelf.locked("key"):
        script = "import sys; from pathlib import Path; from slipstream.build.durable import Shelf\n"
        script += "with Shelf(Path(sys.argv[1])).locked('key', lambda: print('waiting', flush=True)): print('in')"
        process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
    assert process.communicate()[0] == "in\n"
    with other.locked("key", lambda: told.append("waiting")):
        assert not told


# --- the plan --------------------------------------------------------------------------------------------------------


def reasons(cache: StageCache, *stages: Stage) -> dict[str, tuple[str, ...]]:
    return {planned.stage.name: planned.reasons for planned in cache.plan(stages)}


def test_a_plan_says_which_input_changed_against_the_newest_run(cache: StageCache) -> None:
    def chain(method: str, sha256: str = "a" * 64) -> list[Stage]:
        return [stage("merge", base=sha256), stage("quantize", after=("merge",), quantization={"method": method})]

    assert reasons(cache, *chain("awq")) == {"merge": ("it never ran here",), "quantize": ("it never ran here",)}
    outputs: dict[str, Any] = {}
    for each in chain("awq"):
        outputs[each.name] = cache.run(each, outputs, silent)[0]
    assert reasons(cache, *chain("awq")) == {"merge": (), "quantize": ()}
    assert reasons(cache, *chain("gptq")) == {"merge": (), "quantize": ("quantization.method: awq → gptq",)}
    other = reasons(cache, *chain("awq", "b" * 64))
    assert other["merge"] == ("base: aaaaaaaaaaaa… → bbbbbbbbbbbb…",)
    assert other["quantize"] == (f"merge: {outputs['merge'].output_sha256[:12]}… → made anew",)


def test_a_plan_says_that_an_output_is_damaged(cache: StageCache) -> None:
    made, _ = cache.run(stage(), {}, silent)
    cut(made.folder)
    assert reasons(cache, stage()) == {"merge": ("its cached output is damaged",)}


def test_a_plan_writes_nothing(cache: StageCache) -> None:
    list(cache.plan([stage()]))
    assert not cache.root.exists()


def test_changes_tell_what_came_and_what_went() -> None:
    before = {"libraries": {"torch": "2.13.0", "peft": "0.18"}, "adapter": None, "sources": ["a"]}
    now = {"libraries": {"torch": "2.14.0"}, "adapter": "x", "sources": ["a", "b"]}
    assert changes(before, now) == [
        "libraries.torch: 2.13.0 → 2.14.0",
        "adapter: none → x",
        'sources: ["a"] → ["a", "b"]',
        "libraries.peft: 0.18 → none",
    ]


def test_versions_and_code_are_known_without_an_import() -> None:
    assert library_versions("torch")["torch"].startswith("2.")
    assert set(code_digests("build.merge")) == {"build.merge"}
    script = (
        "import sys; from slipstream.build.stages import *; library_versions('torch', 'transformers');"
        "code_digests('build.merge', 'engines.openvino.target');"
        "print(sorted({'torch', 'transformers', 'openvino', 'mlflow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
