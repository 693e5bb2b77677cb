"""Imports point down, as the table in docs/architecture.md says, and heavy libraries stay put."""

import ast
import graphlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from m2m.cli import EXTRAS, PHASES
from m2m.options import FAMILIES

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "m2m").rglob("*.py"))
}
# The name that a library is imported by, and its name in the table.
HEAVY = {
    "bids": "pybids",
    "dipy": "dipy",
    "fsl": "fslpy",
    "jinja2": "jinja2",
    "lightning_fabric": "Lightning Fabric",
    "monai": "MONAI",
    "matplotlib": "matplotlib",
    "nilearn": "nilearn",
    "onnx": "onnx",
    "onnxruntime": "ONNX Runtime",
    "pandas": "pandas",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "torch": "torch",
}


def layer_table():
    """Layer number and libraries of each module or package named in the table."""
    layers, libraries = {}, {}
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (.+?) \| .+? \| (.+?) \|$", text, re.M)
    for number, names, heavy in rows:
        for name in names.split(","):
            layers[name.strip().rstrip("/")] = int(number)
            libraries[name.strip().rstrip("/")] = {h.strip() for h in re.split("[,;]", heavy)}
    return layers, libraries


LAYERS, LIBRARIES = layer_table()


def part(module):
    """`m2m.phantom.simulate` belongs to the row of `phantom`; the package itself to none."""
    return module.split(".")[1] if "." in module else None


def imports(module):
    """Names of everything that a module imports, at its top or inside a function."""
    path = MODULES[module]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide where they point"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def own(module):
    """The project's modules that a module imports."""
    return [name for name in imports(module) if name.split(".")[0] == "m2m"]


@pytest.mark.parametrize("module", [name for name in MODULES if part(name)])
def test_a_module_imports_only_from_lower_layers(module):
    assert part(module) in LAYERS, f"{module} has no row in docs/architecture.md"
    for name in own(module):
        if part(name) not in (None, part(module)):
            assert LAYERS[part(name)] < LAYERS[part(module)], f"{module} imports {name}"


def test_every_row_of_the_table_exists():
    assert set(LAYERS) == {part(name) for name in MODULES if part(name)}


def test_no_module_stands_loose_in_the_root():
    loose = {name for name, path in MODULES.items() if name.count(".") == 1 and path.stem == part(name)}
    assert loose == {"m2m.cli"}


def test_no_two_modules_share_a_name():
    names = Counter(path.stem for path in MODULES.values() if path.stem != "__init__")
    assert not [name for name, n in names.items() if n > 1]


def test_rules_go_by_the_names_of_the_rooms():
    rules = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    assert rules - {"common"} == set(PHASES)
    assert set(PHASES) < set(LAYERS)


def test_modules_never_import_in_a_circle():
    graph = {module: set(own(module)) - {module} for module in MODULES}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if part(name)])
def test_a_heavy_library_stays_inside_its_layer(module):
    for name in imports(module):
        if library := HEAVY.get(name.split(".")[0]):
            assert library in LIBRARIES[part(module)], f"{module} imports {name}"


def test_a_translation_needs_no_extra():
    """`pip install .` is enough for it: nothing on the way imports what an extra installs."""
    # Imported only where PyTorch runs the network.
    by_pytorch = {"m2m.models.building", "m2m.models.torch_engine"}
    found, waiting = set(), {"m2m.translate", "m2m.translate.folder", "m2m.translate.subject", "m2m.models.catalogue"}
    # Imported by the name that a family's section gives.
    waiting |= {module.SECTION.implementation for module in FAMILIES.values() if not module.SECTION.trained}
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= set(own(module)) - found - by_pytorch
    assert {"m2m.structural.anat", "m2m.models.inference", "m2m.models.onnx_engine"} <= found
    for module in found:
        assert not {name.split(".")[0] for name in imports(module)} & set(EXTRAS), module


def test_the_workflow_parses_without_heavy_libraries():
    workflow = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    text = "\n".join(path.read_text() for path in workflow)
    lines = re.findall(r"^(?:from m2m[\w.]* import (?:\([^)]*\)|.+)|import m2m.*)$", text, re.M)
    assert lines
    code = "\n".join([*lines, "import sys", "print(*sys.modules)"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "m2m" in loaded
    assert not loaded & {*HEAVY, "numpy", "scipy", "nibabel", "sklearn", "typer"}
