"""What the design forbids, held: imports upward, heavy libraries at import time, torch in the server, pickle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("api", "build", "engines", "ensemble", "loadtest", "profiling", "model_repository")
SPANS = "slipstream.profiling.spans"  # the leaf that marks a stage; it imports no room
LIMIT = "slipstream.profiling.limit"  # what a bundle reads and computes on this machine; it imports no room either
TELEMETRY = "slipstream.profiling.telemetry"  # likewise

# DESIGN, "Arrows go one way". The facade sees the contracts, the tokenizer, the bundle and the Triton process.
ALLOWED: dict[str, tuple[str, ...]] = {
    "api": (
        "slipstream.api",
        "slipstream.ensemble.bundle",
        "slipstream.ensemble.citations",
        "slipstream.ensemble.contracts",
        "slipstream.ensemble.manifest",
        "slipstream.ensemble.retrieval.stores",  # names and versions of the collections, for /v1/metadata
        "slipstream.ensemble.signing.trust",
        "slipstream.ensemble.stage_marks",
        "slipstream.ensemble.tokenizer",
        "slipstream.ensemble.triton",
        "slipstream.engines.protocols",
        SPANS,
        TELEMETRY,
    ),
    "build": ("slipstream.build", "slipstream.ensemble", "slipstream.engines", SPANS),
    "engines": ("slipstream.engines", SPANS, f"{TELEMETRY}.nvml"),
    "ensemble": ("slipstream.ensemble", "slipstream.engines", SPANS),
    # Scenarios are written as recipes are.
    "loadtest": ("slipstream.loadtest", "slipstream.build.strict_yaml", SPANS, LIMIT, TELEMETRY),
    "profiling": ("slipstream.profiling", "slipstream.loadtest"),  # it drives loads, and draws as their reports do
    "model_repository": ("slipstream.ensemble", "slipstream.engines", SPANS),
}
ROOT_MODULES = ("slipstream.settings", "slipstream.cli")
LAZY = {
    "torch",
    "openvino",
    "openvino_genai",
    "nncf",
    "modelopt",
    "mlflow",
    "transformers",
    "optimum",
    "peft",
    "onnxruntime",
    "onnx",
    "deepeval",
}
SERVER_MUST_NOT = {"torch", "transformers", "optimum", "peft", "nncf", "modelopt", "mlflow", "deepeval"}


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def import_statements(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    """With whether each stands at the top level; every test here reads them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    return [(node, id(node) in top) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Every module that ``path`` imports, but not those behind ``if TYPE_CHECKING``."""
    for node, at_top in import_statements(path):
        if top_level_only and not at_top:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            folder = ROOT.joinpath(*node.module.split(".")[1:]) if node.module.startswith("slipstream.") else None
            modules = {alias.name for alias in node.names if folder and (folder / f"{alias.name}.py").exists()}
            yield from (f"{node.module}.{name}" for name in sorted(modules))
            if len(modules) < len(node.names):
                yield node.module


def is_within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_arrows_allow(room: str) -> None:
    for path in sources(room):
        for module in imports(path):
            if module == "slipstream" or not module.startswith("slipstream."):
                continue
            allowed = ALLOWED[room] + ROOT_MODULES[:1]
            assert is_within(module, allowed), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("leaf", [LIMIT, TELEMETRY])
def test_a_leaf_imports_no_room(leaf: str) -> None:
    for path in sources(leaf.removeprefix("slipstream.").replace(".", "/")):
        for module in imports(path):
            if module.startswith("slipstream."):
                assert is_within(module, (leaf, ROOT_MODULES[0])), f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("room", ROOMS)
def test_heavy_libraries_are_imported_by_the_function_that_needs_them(room: str) -> None:
    for path in sources(room):
        heavy = {module.split(".")[0] for module in imports(path, top_level_only=True)} & LAZY
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy} when it is imported"


@pytest.mark.parametrize("room", ["api", "engines", "ensemble", "model_repository"])
def test_nothing_a_server_runs_imports_a_training_library(room: str) -> None:
    compiling = {ROOT / "engines" / "openvino" / name for name in ("target.py", "quantization.py")}
    compiling |= set((ROOT / "engines" / "openvino" / "gptq").glob("*.py"))
    compiling.add(ROOT / "engines" / "tensorrt_llm" / "compiling" / "modelopt_export.py")
    for path in sources(room):
        if path in compiling:  # the build stage's half of an engine
            continue
        heavy = {module.split(".")[0] for module in imports(path)} & SERVER_MUST_NOT
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


def test_a_server_does_not_know_that_it_is_measured() -> None:
    evaluation = ROOT / "ensemble" / "retrieval" / "evaluation"
    for room in ROOMS:
        if room == "build":  # the embedder's training keeps away from what it is measured on
            continue
        for path in sources(room):
            inside = path.is_relative_to(evaluation)
            measuring = {
                name for name in imports(path) if is_within(name, ("slipstream.ensemble.retrieval.evaluation",))
            }
            assert inside or not measuring, f"{path.relative_to(ROOT)} imports {measuring}"


def test_no_module_uses_pickle() -> None:
    for room in ROOMS:
        for path in sources(room):
            assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} & set(imports(path)), path


def test_only_three_modules_stand_at_the_root() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "cli.py", "settings.py"}


def test_help_imports_no_room() -> None:
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from slipstream.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "print([m for m in sys.modules if m.startswith('slipstream.') and m != 'slipstream.cli'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_folder_of_tests_is_left_out(pytestconfig: pytest.Config) -> None:
    """Pytest leaves out what is called `build` unless it is told otherwise, and says nothing."""
    patterns: list[str] = pytestconfig.getini("norecursedirs")
    for folder in {path.parent for path in (ROOT / "tests").rglob("test_*.py")}:
        names = folder.relative_to(ROOT).parts
        assert not [(name, pattern) for name in names for pattern in patterns if fnmatch(name, pattern)], folder
