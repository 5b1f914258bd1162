"""Which part may import which, read from the source."""

import ast
import fnmatch
import itertools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("valuelearn", "envs", "agents")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
SIBLINGS = {"valuelearn": set(), "envs": {"valuelearn"}, "agents": {"valuelearn", "envs"}}
# Where a package may be imported. `files` are patterns of paths from the root.
KEPT_IN = {
    "flax": "valuelearn/networks/*.py",
    "gymnax": "envs/*.py",
    "gymnasium": "envs/*.py",
    "ale_py": "envs/*.py",
    "yaml": "valuelearn/config.py",
    "omegaconf": "valuelearn/config.py",
    "orbax": "valuelearn/checkpoint.py valuelearn/hosts.py",
    "typer": "valuelearn/cli.py",
}
# Each may import those before it, never those after. `heads` needs the type that `backups` names.
LAYERS = (
    "errors", "checks", "determinism", "devices", "random_keys", "hosts", "fingerprint", "types",
    "guard", "stocks", "moments", "policies", "supports", "support_doctor", "projections", "backups",
    "heads", "ensembles", "objectives", "dp", "networks", "dynamics", "model_report", "replay",
    "return_scale", "loop", "evaluate", "config", "checkpoint", "signals", "logs", "progress", "stats",
    "plots", "cli",
)  # fmt: skip


def imports(path):
    """Dotted names of all that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def test_the_source_is_found():
    found = {top for path in FILES for top in (name.partition(".")[0] for name in imports(path))}
    assert len(FILES) > 20 and {"jax", "flax", "gymnasium", "yaml", "ale_py", *FOLDERS} <= found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down(path):
    folder = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        top = name.partition(".")[0]
        allowed = {*SIBLINGS[folder], folder}
        # The command line is the front door: it alone reaches the sibling folders.
        assert (
            top not in {*FOLDERS, "benchmarks", "tests"} - allowed or name_of(path) == "valuelearn/cli.py"
        ), name
        if folder == "envs" and top == "valuelearn":
            assert name.split(".")[1] in ("types", "errors", "stocks"), name
        if top in KEPT_IN:
            assert any(fnmatch.fnmatch(name_of(path), kept) for kept in KEPT_IN[top].split()), name


@pytest.mark.parametrize("path", [path for path in FILES if ROOT / "valuelearn" in path.parents], ids=name_of)
def test_the_library_is_layered(path):
    layer = path.relative_to(ROOT / "valuelearn").with_suffix("").parts[0]  # A module, or a folder of them.
    if layer in ("__init__", "__main__"):
        return
    assert layer in LAYERS, f"{path.name} has no place in LAYERS"
    reach = LAYERS[: LAYERS.index(layer) + (layer != path.stem)]
    for name in imports(path):
        if name.startswith("valuelearn."):
            assert name.split(".")[1] in reach, f"{path.name} imports {name}"


def test_no_folder_of_odds_and_ends():
    assert not {"utils", "util", "helpers", "common", "misc"} & set(
        itertools.chain.from_iterable(path.relative_to(ROOT).with_suffix("").parts for path in FILES)
    )
