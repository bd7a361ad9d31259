"""Training the embedder's adapter: what it may learn from, that it learns, and that a killed run loses nothing."""

import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from time import monotonic, sleep

import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from slipstream import InputError
from slipstream.build.embedder_adapter import resolve_embedder_adapter
from slipstream.build.references import ResolvedModel, resolve_model
from slipstream.build.training.embedder.checkpoints import OtherTraining
from slipstream.build.training.embedder.held_out import HeldOut, SourceHeldOut, suite_packages
from slipstream.build.training.embedder.pairs import NothingToLearnFrom, PairOptions, Pairs, collect_pairs
from slipstream.build.training.embedder.questions import code_of, question_of
from slipstream.build.training.embedder.run import RunOptions, TrainedEmbedder, train_embedder
from slipstream.build.training.embedder.train import TrainOptions
from slipstream.build.training.run import OutputTaken
from slipstream.cli import main
from slipstream.ensemble.retrieval.roots import resolve_root
from tests.build.library import PACKAGES, source
from tests.tiny_bert import write_tiny_encoder

THINGS = ("ledger", "barge", "sluice", "basket")
TINY = TrainOptions(steps=6, rank=4, batch=16, learning_rate=1e-2, checkpoint_every=2)
SUITE = Path(__file__).parents[1] / "retrieval"


def silent(share: float, doing: str) -> None: ...


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three packages, each with 4 modules of 8 documented functions and one that is not."""
    home = tmp_path_factory.mktemp("library")
    for package, thing in product(PACKAGES, THINGS):
        (home / package).mkdir(exist_ok=True)
        (home / package / f"{thing}.py").write_text(source(package, thing))
    return [str(home / package) for package in PACKAGES]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    return resolve_model(str(write_tiny_encoder(tmp_path_factory.mktemp("tiny")).path), Path("/nowhere"))


def collect(sources: list[str], **options: object) -> Pairs:
    return collect_pairs(list(map(resolve_root, sources)), PairOptions(**options), silent)  # type: ignore[arg-type]


def trained(
    sources: list[str], model: ResolvedModel, out: Path, training: TrainOptions = TINY, **more: object
) -> TrainedEmbedder:
    options = RunOptions(tuple(sources), out, str(model.path), training=training, **more)  # type: ignore[arg-type]
    return train_embedder(options, Path("/nowhere"), silent)


# What must not be learned


def test_a_source_that_is_held_out_is_refused(library: list[str]) -> None:
    with pytest.raises(SourceHeldOut, match="harbor is held out"):
        collect(library, held_out=frozenset({"Harbor"}))


def test_copies_of_a_held_out_package_are_left_out(library: list[str], tmp_path: Path) -> None:
    host = tmp_path / "host"
    for place in ("_copies/My_Sluice", "lib/my-sluice-2.1.3", "plain"):
        (host / place).mkdir(parents=True)
        (host / place / "code.py").write_text(source("host", place.replace("/", "_").replace("-", "_")[-9:-4] or "x"))
    (host / "my_sluice.py").write_text(source("host", "single"))
    pairs = collect([*library, str(host)], held_out=frozenset({"my.sluice"}))
    assert {pair.path for pair in (*pairs.train, *pairs.held_back) if pair.package == "host"} == {"plain/code.py"}
    assert pairs.left_out == 3


@pytest.mark.parametrize(
    ("path", "is_out"),
    [
        ("pip/_internal/requests/api.py", True),
        ("vendor/github.com/gorilla/mux/router.go", True),
        ("regex-1.7.1/src/lib.rs", True),
        ("src/regexes/lib.rs", False),
        ("tornado_like/web.py", False),
    ],
)
def test_the_benchmarks_packages_are_known_by_name(path: str, is_out: bool) -> None:
    assert HeldOut(suite_packages(SUITE)).has(path) is is_out


def test_every_package_of_the_benchmark_is_held_out() -> None:
    names = suite_packages(SUITE)
    assert {"flask", "tornado", "zod", "rxjs", "mux", "golang-github-gorilla-mux-dev", "librust-regex-dev"} <= names


# What is learned from


def test_sources_without_documentation_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "broken.py").write_text('def f(:\n    """Add the two numbers that it gets."""\n')
    with pytest.raises(NothingToLearnFrom, match="document 0 definitions") as refused:
        collect([str(tmp_path)])
    assert "larger sources" in refused.value.remedy


def test_the_sentence_is_not_in_the_code_that_it_documents(library: list[str]) -> None:
    pairs = collect(library)
    assert len(pairs.train) + len(pairs.held_back) == 3 * 4 * 8
    for pair in pairs.train:
        assert pair.query not in pair.text
        assert "def " in pair.text
        assert "Waits for its turn" not in pair.text


def test_documentation_in_comments_counts_too(library: list[str], tmp_path: Path) -> None:
    (tmp_path / "pump.go").write_text(
        "package pump\n\n// Drain empties the tank before the ship leaves.\nfunc Drain(t *Tank) error {\n"
        "\tt.level = 0\n\treturn t.close()\n}\n"
    )
    pairs = collect([*library, str(tmp_path)], held_back=1)
    (pair,) = [pair for pair in (*pairs.train, *pairs.held_back) if pair.language == "go"]
    assert (pair.query, pair.symbol) == ("empties the tank before the ship leaves", "Drain")
    assert pair.text.split("\n", 1)[0] == "package pump"
    assert "func Drain" in pair.text


def test_what_is_held_back_is_of_other_packages(library: list[str]) -> None:
    pairs = collect(library)
    assert {pair.package for pair in pairs.train}.isdisjoint(pair.package for pair in pairs.held_back)
    alone = collect(library[:1])
    assert {pair.path for pair in alone.train}.isdisjoint(pair.path for pair in alone.held_back)


def test_no_package_and_no_file_takes_more_than_its_share(library: list[str]) -> None:
    pairs = collect(library, per_package=10, per_file=3)
    taken = [*pairs.train, *pairs.held_back]
    assert [sum(pair.package == package for pair in taken) for package in PACKAGES] == [10, 10, 10]
    assert max(sum(pair.path == path for pair in taken) for path in {pair.path for pair in taken}) <= 3 * len(PACKAGES)


def test_a_sentence_that_comes_twice_is_taken_once(library: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "other.py").write_text(Path(library[0], "barge.py").read_text())
    assert len(collect([*library, str(copy)]).train) == len(collect(library).train)


def test_equal_sources_give_equal_pairs_in_any_order(library: list[str], tmp_path: Path) -> None:
    """Also where two packages say the same, and only one of them is taken."""
    (tmp_path / "copy.py").write_text(Path(library[0], "barge.py").read_text())
    sources = [*library, str(tmp_path)]
    assert collect(sources).digest == collect(sources[::-1]).digest
    assert collect(library).digest != collect(library, seed=8).digest


def test_both_sides_are_put_as_the_index_puts_them(library: list[str]) -> None:
    pair = next(pair for pair in collect(library).train if pair.symbol == "open_harbor_barge" or pair.symbol)
    assert question_of(pair) == pair.query
    assert code_of(pair).split()[:3] == pair.symbol.split("_")
    assert "(" not in code_of(pair)


# The run


def test_it_learns_and_writes_an_adapter_that_fits(library: list[str], model: ResolvedModel, tmp_path: Path) -> None:
    training = TrainOptions(steps=40, rank=8, batch=16, learning_rate=1e-2, checkpoint_every=10)
    done = trained(library, model, tmp_path / "lora", training, held_out=SUITE)
    assert sum(done.losses[-5:]) < 0.8 * sum(done.losses[:5])
    assert done.scores["adapter"].mrr_10 > done.scores["base"].mrr_10
    adapter = resolve_embedder_adapter(str(done.path), model)
    assert sorted(path.name for path in adapter.path.iterdir()) == [
        "CARD.md", "adapter_config.json", "adapter_model.safetensors", "slipstream.json",
    ]  # fmt: skip
    weights = load_file(adapter.path / "adapter_model.safetensors")
    assert {str(matrix.dtype) for matrix in weights.values()} == {"float16"}
    assert not [name for name in weights if "pooler" in name]
    told = json.loads((adapter.path / "slipstream.json").read_text())
    assert told == {"base_model": model.reference, "base_model_sha256": model.sha256}
    card = (adapter.path / "CARD.md").read_text()
    for fact in (
        done.pairs.digest,
        "--held-out",
        f"| adapter | {done.scores['adapter'].mrr_10:.3f}",
        "python",
        "flask",
    ):
        assert fact in card
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_is_stopped_ends_in_the_same_weights(
    library: list[str], model: ResolvedModel, tmp_path: Path
) -> None:
    whole = trained(library, model, tmp_path / "whole")
    steps = []

    def stop_after_four(share: float, doing: str) -> None:
        if doing.startswith("step"):
            steps.append(doing)
        if doing.startswith("step 5/"):
            raise KeyboardInterrupt

    options = RunOptions(tuple(library), tmp_path / "stopped", str(model.path), training=TINY)
    with pytest.raises(KeyboardInterrupt):
        train_embedder(options, Path("/nowhere"), stop_after_four)
    assert not (tmp_path / "stopped").exists()
    steps.clear()
    resumed = train_embedder(options, Path("/nowhere"), lambda share, doing: steps.append(doing))
    assert [doing.split(",")[0] for doing in steps if doing.startswith("step")] == ["step 5/6", "step 6/6"]
    assert resumed.losses == whole.losses
    weights = [load_file(done.path / "adapter_model.safetensors") for done in (whole, resumed)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_checkpoint_of_another_run_is_refused(library: list[str], model: ResolvedModel, tmp_path: Path) -> None:
    state = tmp_path / ".lora.training" / "state.safetensors"
    state.parent.mkdir()
    state.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(OtherTraining, match="damaged"):
        trained(library, model, tmp_path / "lora")
    state.unlink()

    def stop(share: float, doing: str) -> None:
        if doing.startswith("step 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_embedder(
            RunOptions(tuple(library), tmp_path / "lora", str(model.path), training=TINY), Path("/nowhere"), stop
        )
    with pytest.raises(OtherTraining, match="other options"):
        trained(library[:2], model, tmp_path / "lora")


def test_a_folder_that_is_there_is_not_overwritten(library: list[str], model: ResolvedModel, tmp_path: Path) -> None:
    with pytest.raises(OutputTaken):
        trained(library, model, tmp_path)


def test_a_model_that_is_no_encoder_is_refused(library: list[str], model: ResolvedModel, tmp_path: Path) -> None:
    unfit = TrainOptions(steps=1, batch=4, target_modules=("q_proj",))
    with pytest.raises(InputError, match="cannot be adapted"):
        trained(library, model, tmp_path / "lora", unfit)


@pytest.mark.integration
def test_a_killed_command_goes_on(library: list[str], model: ResolvedModel, tmp_path: Path) -> None:
    words = ["train-embedder", *library, "--base-model", str(model.path), "--steps", "80", "--batch", "4", "--json"]
    run = [sys.executable, "-m", "slipstream.cli", *words, "--out", str(tmp_path / "lora")]
    environment = {**os.environ, "SLIPSTREAM_HOME": str(tmp_path / "home")}
    state = tmp_path / ".lora.training" / "state.safetensors"
    with subprocess.Popen(run, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        waited = monotonic()
        while not state.exists() and process.poll() is None and monotonic() - waited < 300:
            sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert state.exists()
    assert not (tmp_path / "lora").exists()
    again = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "lora")], env={"SLIPSTREAM_HOME": str(tmp_path)})
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["pairs"]["train"] > 0
    assert (tmp_path / "lora" / "CARD.md").exists()
    assert not state.parent.exists()
