"""The house of house.md: arrows point one way, every library has its home, names say what is inside."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("geometry", "finetune", "analyses")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
MAY_IMPORT = {
    "geometry": {"geometry"},
    "finetune": {"finetune", "geometry"},
    "analyses": {"analyses", "finetune", "geometry"},
}
EVERYWHERE = {"numpy"}
HOMES = {
    "geometry": {"scipy", "sklearn", "numba", "pyarrow"},
    "geometry.live": {"torch", "transformers", "safetensors", "transformer_lens", "sae_lens", "huggingface_hub"},
    "finetune": {
        "torch", "transformers", "safetensors", "peft", "tokenizers", "scipy", "sklearn", "sacrebleu", "bm25s",
        "pydantic", "yaml",
    },
    "analyses": {"matplotlib", "jinja2", "markupsafe", "typer", "rich", "safetensors", "pydantic", "yaml"},
}  # fmt: skip
SLOW_TO_IMPORT = {"peft", "transformer_lens", "sae_lens"}
EMPTY_NAMES = {"utils", "util", "misc", "helpers", "helper", "common", "base", "core"}


def imports(path, walk=ast.walk):
    """Names of all modules that a file imports, in the parts of it that are walked."""
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                assert level == 0, f"{path}: relative import; write the whole name"
                yield from (f"{module}.{alias.name}" for alias in names)


def ran(node):
    """What may run: all but what is there for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")):
            yield child
            yield from ran(child)


def ran_at_import(node):
    """What runs when a file is imported itself."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from ran_at_import(child)


def home(module):
    return "geometry.live" if module.startswith("geometry.live") else module.split(".")[0]


def our_module(name):
    """The module that ``import name`` or ``from package import thing`` reaches; None if it is not ours."""
    while name and name.split(".")[0] in PACKAGES:
        for known in (name, f"{name}.__init__"):
            if known in MODULES:
                return known
        name = name.rpartition(".")[0]
    return None


def test_there_is_something_to_walk():
    assert {module.split(".")[0] for module in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module):
    ours = {name.split(".")[0] for name in imports(MODULES[module])} & {*PACKAGES, "tests", "benchmarks"}
    assert ours <= MAY_IMPORT[module.split(".")[0]]


@pytest.mark.parametrize("module", [m for m in MODULES if home(m) == "geometry"])
def test_the_maths_half_of_geometry_does_not_know_the_live_half(module):
    assert not [name for name in imports(MODULES[module]) if name.startswith("geometry.live")]


def test_no_circle():
    graph = {
        module: {our_module(name) for name in imports(path, ran_at_import)} - {None, module}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_every_library_has_its_home(module):
    third = (
        {name.split(".")[0] for name in imports(MODULES[module], ran)} - sys.stdlib_module_names - {*PACKAGES}
    )
    assert third - EVERYWHERE <= HOMES[home(module)]


@pytest.mark.parametrize("module", MODULES)
def test_slow_libraries_are_imported_inside_functions(module):
    assert not {name.split(".")[0] for name in imports(MODULES[module], ran_at_import)} & SLOW_TO_IMPORT


@pytest.mark.parametrize("module", MODULES)
def test_names_say_what_is_inside(module):
    assert MODULES[module].stem.strip("_") not in EMPTY_NAMES


def loaded_by(statement):
    code = f"import sys; {statement}; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_geometry_loads_no_torch():
    maths = [m for m in MODULES if home(m) == "geometry" and not m.endswith("__init__")]
    loaded = loaded_by(f"import geometry, {', '.join(maths)}")
    assert "numpy" in loaded
    assert not loaded & {"torch", "transformers", "peft", "matplotlib", "typer"}


def test_the_walls_would_stop_a_bad_import(tmp_path):
    """The walk sees imports of both forms, inside functions too, and tells those of import time apart."""
    path = tmp_path / "bad.py"
    path.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import jinja2\n"
        "try:\n    import analyses.cli\nexcept ImportError:\n    pass\n"
        "def late():\n    from peft import LoraConfig\n"
    )
    assert {"jinja2", "analyses.cli", "peft.LoraConfig"} <= set(imports(path))
    assert set(imports(path, ran_at_import)) == {"typing.TYPE_CHECKING", "analyses.cli"}
