"""`slipstream build` as a user sees it: its words, its documents, and processes that are killed, crowded or cramped."""

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from slipstream.ensemble.bundle import find_bundle, list_bundles
from tests.build.conftest import TinyRecipe
from tests.conftest import slipstream

HEAVY = {"torch", "transformers", "openvino", "nncf", "optimum", "mlflow", "onnxruntime", "peft"}


@pytest.fixture
def recipe(tmp_path: Path, tiny_recipe: TinyRecipe) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_recipe(quantization__method="none"), encoding="utf-8")
    return str(path)


def start(recipe: str, home: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "slipstream.cli", "build", recipe, "--json", *options],
        env={**os.environ, "SLIPSTREAM_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


Ended = tuple[int, str, str]
"""Exit code, standard output and standard error."""


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: TinyRecipe) -> tuple[Path, str, list[Ended]]:
    """A home in which two builds of one recipe ran at once, the recipe, and what each of them ended with."""
    home = tmp_path_factory.mktemp("built")
    recipe = home / "tiny.yaml"
    recipe.write_text(tiny_recipe(quantization__method="none"), encoding="utf-8")
    both = [start(str(recipe), home) for _ in range(2)]
    with ThreadPoolExecutor(len(both)) as readers:  # neither waits for room in a pipe that nobody reads
        told = list(readers.map(lambda process: process.communicate(), both))
    ended = [(process.returncode, *said) for process, said in zip(both, told, strict=True)]
    return home, str(recipe), ended


@pytest.fixture
def built(twice: tuple[Path, str, list[Ended]]) -> tuple[Path, str]:
    """A home with a finished build, and its recipe."""
    home, recipe, ended = twice
    assert 0 in [code for code, _, _ in ended], [stderr for _, _, stderr in ended]
    return home, recipe


def wait_for(home: Path, pattern: str, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not list(home.glob(pattern)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def statuses(stdout: str) -> dict[str, str]:
    return {stage["stage"]: stage["status"] for stage in json.loads(stdout)["stages"]}


STAGES = ("merge", "reference", "quantize", "compile", "embedder", "quality", "speed", "bundle")


def test_a_second_build_says_that_nothing_changed_and_imports_nothing_heavy(built: tuple[Path, str]) -> None:
    home, recipe = built
    script = (
        "import sys; from slipstream.cli import main\n"
        "try: main(['build', sys.argv[1]])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, recipe],
        env={**os.environ, "SLIPSTREAM_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("nothing changed: test-v1.0-llama-fp16-p1"), done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (home / "reports").exists()  # nobody asked for a profile


def test_the_final_document_is_all_that_stdout_gets(built: tuple[Path, str]) -> None:
    home, recipe = built
    done = slipstream("build", recipe, "--json", home=home)
    document = json.loads(done.stdout)
    assert document["unchanged"]
    assert document["bundle"] == find_bundle(home / "bundles").manifest.id
    assert [stage["stage"] for stage in document["stages"]] == [
        "resolve", *STAGES,
    ]  # fmt: skip
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["stage"] for event in events if event["event"] == "stage_finished"] == list(statuses(done.stdout))


def test_a_terminal_gets_a_bar_for_each_stage(built: tuple[Path, str]) -> None:
    home, recipe = built
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "slipstream.cli", "build", recipe],
        env={**os.environ, "SLIPSTREAM_HOME": str(home), "TERM": "xterm", "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert done.communicate()[0].startswith("nothing changed")
    for stage in ("resolve", *STAGES):
        assert re.search(rf"{stage} .*━".encode(), shown), stage
    assert b"cached" in shown
    assert b'"event"' not in shown


def test_a_plan_for_people_and_for_machines(built: tuple[Path, str], tmp_path: Path, tiny_recipe: TinyRecipe) -> None:
    home, recipe = built
    other = tmp_path / "gptq.yaml"
    other.write_text(tiny_recipe(quantization__method="gptq"), encoding="utf-8")
    lines = [line.strip() for line in slipstream("build", recipe, "--plan", home=home).stdout.splitlines()]
    assert lines[1:] == ["resolve  always runs", *(f"{stage}  cached" for stage in STAGES)]
    lines = [line.strip() for line in slipstream("build", str(other), "--plan", home=home).stdout.splitlines()]
    assert lines[lines.index("quantize  would run") + 1] == "quantization.method: none → gptq"
    document = json.loads(slipstream("build", str(other), "--plan", "--json", home=home).stdout)
    assert {stage["stage"]: stage["cached"] for stage in document["stages"]} == {
        stage: stage in ("merge", "reference", "embedder") for stage in STAGES
    }
    assert len(list_bundles(home / "bundles")) == 1


def test_an_unknown_key_ends_with_2_and_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text('version: "1"\nadapter: null\nquantization: {metod: awq}\n')
    done = slipstream("build", str(tmp_path / "r.yaml"), home=tmp_path)
    assert done.returncode == 2
    assert "unknown key 'quantization.metod'" in done.stderr
    assert "try: write quantization.method" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_home_that_cannot_be_written_to_is_told(tmp_path: Path, recipe: str) -> None:
    done = slipstream("build", recipe, home=Path(recipe) / "home")
    assert done.returncode == 2
    assert "cannot be written to: Not a directory" in done.stderr
    assert "SLIPSTREAM_HOME" in done.stderr


KILLED_IN = ("merge", "reference", "compile", "embedder", "speed")


def test_a_build_killed_in_one_stage_after_the_other_resumes_with_that_stage(tmp_path: Path, recipe: str) -> None:
    """Each build is killed further on than the one before; the last one is left alone."""
    resumed_with = "merge"
    for stage in KILLED_IN:
        process = start(recipe, tmp_path)
        shelf = "quantize" if stage == "reference" else stage  # an engine that is not quantized is the reference
        wait_for(tmp_path, f"cache/stages/{shelf}/.aside/*", process)
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
        assert list(tmp_path.glob(f"cache/stages/{shelf}/.aside/*"))
        assert not list_bundles(tmp_path / "bundles")
        assert finished(stderr) == resuming_with(resumed_with, until=stage)
        resumed_with = stage
    done = slipstream("build", recipe, "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert finished(done.stderr) == statuses(done.stdout) == resuming_with(resumed_with)
    assert not list(tmp_path.glob("cache/stages/*/.aside/*"))
    assert slipstream("verify", home=tmp_path).returncode == 0


def finished(stderr: str) -> dict[str, str]:
    """The stages that a build told of, and what became of them."""
    events = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    return {event["stage"]: event["status"] for event in events if event["event"] == "stage_finished"}


def resuming_with(stage: str, until: str | None = None) -> dict[str, str]:
    """What becomes of the stages before ``until`` in a build that finds those before ``stage`` made."""
    made = {*STAGES[: STAGES.index(stage)], "quantize"}  # it is made with the reference
    ended = STAGES[: None if until is None else STAGES.index(until)]
    return {"resolve": "asked", **{each: "cached" if each in made else "ran" for each in ended}}


def test_two_builds_at_once_make_each_stage_once_and_one_bundle(twice: tuple[Path, str, list[Ended]]) -> None:
    home, _, ended = twice
    assert [code for code, _, _ in ended] == [0, 0], [stderr for _, _, stderr in ended]
    one, other = (statuses(stdout) for _, stdout, _ in ended)
    for stage in STAGES:
        if stage == "quantize":  # the reference it is; whoever waited for that finds both
            continue
        assert sorted((one[stage], other[stage])) == ["cached", "ran"], stage
    assert len(list_bundles(home / "bundles")) == 1
    assert slipstream("verify", home=home).returncode == 0


CRAMPED = """
import shutil, sys
from pathlib import Path
from slipstream.build import durable, pipeline
from slipstream.cli import main

home, stage, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
put = durable.Shelf.put

def put_when_cramped(shelf, key, fill, needed_bytes, doing):
    if doing == stage:
        (home / "ballast").write_bytes(bytes(shutil.disk_usage(home).free - left))
    return put(shelf, key, fill, 0, doing)

durable.Shelf.put = put_when_cramped  # the estimate knows nothing of somebody who writes meanwhile
pipeline.free_bytes = lambda folder: 1 << 40
main(["build", sys.argv[4]])
"""


@pytest.mark.parametrize(("stage", "left_bytes"), [("merge", 150_000), ("reference", 300_000)])
def test_a_disk_that_is_full_says_so_and_leaves_no_half_stage(
    tmp_path: Path, recipe: str, stage: str, left_bytes: int
) -> None:
    """On a real file system of a few megabytes, in a mount namespace of its own, with what the libraries really say."""
    room = tmp_path / "room"
    room.mkdir()
    script = """
        mount -t tmpfs -o size=40m none "$2" || exit 99
        "$0" -c "$1" "$2" "$3" "$4" "$5"
        status=$?
        find "$2" -path '*.aside/*'
        exit $status
    """
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(
        [*command, sys.executable, CRAMPED, str(room), stage, str(left_bytes), recipe],
        env={**os.environ, "SLIPSTREAM_HOME": str(room)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (1, 99) and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("this system lets nobody mount a small file system")
    assert done.returncode == 2, done.stderr
    shelf = "quantize" if stage == "reference" else stage
    assert f"no room in {room}/cache/stages/{shelf}: {stage} needs " in done.stderr
    assert "SLIPSTREAM_HOME" in done.stderr
    assert done.stdout == ""


@pytest.mark.integration
def test_the_default_build_unchanged_takes_at_most_3_seconds(home: Path) -> None:
    """Of processor time, which a busy machine does not stretch; it waits for nothing else, so an idle one agrees."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = slipstream("build", "default", home=home)
    after, elapsed_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    assert done.stdout.startswith("nothing changed"), done.stdout + done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime <= 3.0
    assert elapsed_s <= 60.0  # no lock, no retry, no network that times out
    assert slipstream("verify", home=home).returncode == 0
