"""What the house promises: one lock file, short files, clean code, words that are true."""

import ast
import re
import runpy
import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest
import yaml
from checkout import PROJECT, ROOT, tracked

import m2m
from m2m import cli
from m2m.cli import COMMANDS
from m2m.io import modalities
from m2m.models import pretrained
from m2m.options import Config
from m2m.options.section import Name
from m2m.translate.packing import MOST_BYTES
from m2m.workflow import snakemake_patches

MAKEFILE = (ROOT / "Makefile").read_text()
README = (ROOT / "README.md").read_text()


def canonical(name):
    """The name of a distribution, spelt as its index does."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirement):
    """The distribution that a requirement of pyproject.toml asks for, without versions."""
    return canonical(re.match(r"[\w.-]+", requirement)[0])


# The only dependency with an upper bound: m2m changes insides of Snakemake that are its own.
BOUND = "snakemake>=9.27,<9.28"
REQUIREMENTS = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
EXTRAS = {
    extra: {named(requirement) for requirement in requirements}
    for extra, requirements in PROJECT["optional-dependencies"].items()
}
CORE = {named(requirement) for requirement in PROJECT["dependencies"]}
# Series older than the locked one that the tests of the core passed with; antspyx caps both.
OLDER = {"numpy": "2.0", "scipy": "1.15"}
# What the workflow needs from end to end.
RUNTIME = CORE.union(*(EXTRAS[extra] for extra in ("workflow", "train", "evaluate", "report")))


def lock():
    """Version of each locked distribution."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonical(n): v for n, v in (line.split("==") for line in lines)}


def test_the_lock_file_holds_names_and_versions_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!]*", line), line


def test_the_lock_file_pins_every_dependency():
    assert lock().keys() >= RUNTIME.union(*(EXTRAS[extra] for extra in ("export", "dev", "docs", "cluster")))
    assert not lock().keys() & EXTRAS["ants"]


def test_dependencies_say_what_they_are_for_and_from_which_series_on_they_do():
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in REQUIREMENTS:
        assert re.search(rf'^  "{re.escape(requirement)}", +# \S', text, re.M), requirement
        assert re.fullmatch(r"[a-z0-9-]+>=\d+\.\d+", requirement) or requirement == BOUND, requirement


def test_a_lower_bound_is_the_locked_series_or_an_older_one_that_was_tested():
    for requirement in REQUIREMENTS:
        if (name := named(requirement)) in lock():
            least = re.search(r">=(\d+\.\d+)", requirement)[1]
            locked = ".".join(lock()[name].split(".")[:2])
            assert least == OLDER.get(name, locked), name
            assert [int(n) for n in least.split(".")] <= [int(n) for n in locked.split(".")], name


def test_the_one_bound_is_of_the_snakemake_that_is_changed_and_locked():
    least, below = re.fullmatch(r"snakemake>=([\d.]+),<([\d.]+)", BOUND).groups()
    assert BOUND in PROJECT["optional-dependencies"]["workflow"]
    assert f"{least}." == snakemake_patches.WRITTEN_FOR
    assert snakemake_patches.applies(lock()["snakemake"])
    assert not snakemake_patches.applies(f"{below}.0")


def test_conda_pins_what_the_lock_file_pins():
    environment = yaml.safe_load((ROOT / "envs" / "m2m.yaml").read_text())
    (pip,) = [part["pip"] for part in environment["dependencies"] if isinstance(part, dict)]
    pins = {canonical(n): v for n, v in (line.split("==") for line in pip)}
    assert pins == {name: lock()[name] for name in RUNTIME}


def imported(folder, pattern="*.py"):
    """First names of everything imported below a folder."""
    for path in folder.rglob(pattern):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module.split(".")[0]


def distributions(names):
    """Distributions that provide these import names, the standard library left out."""
    providers = packages_distributions()
    return {
        frozenset(canonical(d) for d in providers[name])
        for name in names
        if name in providers and name not in sys.stdlib_module_names
    }


def test_everything_imported_is_declared():
    for providers in distributions(set(imported(ROOT / "m2m")) - {"m2m"}):
        assert providers & (RUNTIME | EXTRAS["export"]), providers
    declared = RUNTIME | EXTRAS["export"] | EXTRAS["dev"]
    for providers in distributions(set(imported(ROOT / "tests")) - {"m2m"}):
        assert providers & declared, providers


def test_a_missing_library_is_named_with_the_extra_that_has_it():
    found = {extra: set() for extra in cli.EXTRAS.values()}
    providers = packages_distributions()
    for library, extra in cli.EXTRAS.items():
        found[extra] |= {canonical(name) for name in providers.get(library, [library])}
    assert found == {extra: EXTRAS[extra] for extra in found}
    assert found.keys() | {"cluster", "ants", "lpips", "dev", "docs"} == EXTRAS.keys()


def test_everything_declared_is_imported():
    used = {name for providers in distributions(imported(ROOT / "m2m")) for name in providers}
    # Files that nilearn and ipyniivue ship; a back end of torch.utils.tensorboard.
    assert RUNTIME - used == {"nilearn", "ipyniivue", "tensorboard"}


def test_no_source_file_is_longer_than_400_lines():
    sources = [p for p in tracked() if p.suffix in {".py", ".smk"} or p.name == "Snakefile"]
    long = {p.name: n for p in sources if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_no_function_is_longer_than_60_lines_beside_its_docstring():
    long = {}
    for path in (ROOT / "m2m").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (length := body[-1].end_lineno - body[0].lineno + 1) > 60:
                    long[f"{path.name}:{node.name}"] = length
    assert not long


def test_no_file_is_over_a_megabyte_but_for_the_four_of_the_weights_of_a_task():
    sizes = Counter()
    for path in tracked():
        sizes[path.parent if pretrained.FOLDER in path.parents else path] += path.stat().st_size
    most = {place: MOST_BYTES if place.parent == pretrained.FOLDER else 1_000_000 for place in sizes}
    assert not [place.name for place, size in sizes.items() if size > most[place]]


def test_no_file_names_a_place_on_somebodys_machine():
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|work|tmp|root)/\w")
    found = {
        path.name
        for path in tracked()
        if path.suffix in {".py", ".smk", ".yaml", ".md", ".toml", ".txt", ".cff"}
        and path != Path(__file__)
        and pattern.search(path.read_text())
    }
    assert not found


def targets():
    """Targets of the Makefile that a participant calls."""
    return set(re.search(r"^\.PHONY:(.*)$", MAKEFILE, re.M)[1].split())


@pytest.mark.parametrize("command", re.findall(r"^\t\$\(BIN\)/((?:ruff|snakefmt) .*)$", MAKEFILE, re.M))
def test_lint_finds_nothing(command):
    program, *arguments = command.split()
    result = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_names_commands_that_exist():
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z]+)\b", README)) <= targets()
    stages = set(re.findall(r"\bm2m ([a-z]+)\b(?! =)", "\n".join(code_blocks(README))))
    assert stages <= set(COMMANDS)


def code_blocks(text):
    """Indented and fenced blocks of a Markdown text."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)
    return [*fenced, *re.findall(r"(?:^    .*\n)+", text, re.M)]


def rules():
    """Text of all rule files and of the Snakefile."""
    return "\n".join(path.read_text() for path in [*ROOT.glob("rules/*.smk"), ROOT / "Snakefile"])


def test_the_map_lists_every_rule_with_its_command():
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\w+)(?: \([\w ]+\))? \| (`m2m .+?`) \|", architecture, re.M)
    parts = re.split(r"^ *(?:rule|checkpoint) ?(\w*):", rules(), flags=re.M)[1:]
    calls = {
        name: commands
        for name, text in zip(parts[::2], parts[1::2], strict=True)
        if name and (commands := re.findall(r"\bm2m ([a-z-]+) (?=[-{])", text))
    }
    assert {name: re.findall(r"m2m ([\w-]+)", cell) for name, cell in rows} == calls


def test_no_rule_says_how_often_it_is_tried_again():
    assert not re.findall(r"^ +retries:", rules(), re.M)


def test_what_a_shell_reads_is_quoted_or_cannot_hold_what_it_would_run():
    blocks = re.findall(r"^( +)shell:\n((?:\1 .*\n)+)", rules(), re.M)
    assert len(blocks) == len(re.findall(r"^ +shell:", rules(), re.M)) > 30
    (section,) = re.findall(r"^wildcard_constraints:\n((?: .*\n)+)", rules(), re.M)
    patterns = dict(re.findall(r"^ +(\w+)=(.+),$", section, re.M))
    read = {name for _, text in blocks for name in re.findall(r"{([^{}]+)}", text)}
    bare = {name for name in read if not name.endswith(":q")} - {"threads"}
    for name in bare:
        pattern = patterns.get(name.removeprefix("wildcards."), "")
        if keys := re.fullmatch(r'"\|"\.join\(CONFIG\.(\w+)\)(?: or NOTHING)?', pattern):
            assert get_args(Config.model_fields[keys[1]].annotation)[0] == Name, name
            pattern = f'"{get_args(Name)[1].metadata[0].pattern[1:-1]}"'
        if pattern == '"|".join(modalities.targets())':
            pattern = f'"{"|".join(modalities.targets())}"'
        # Letters, digits, - _ / and what repeats or chooses them: no dot, no negated set.
        assert re.fullmatch(r'r?"[\w\[\]()?*+/|-]+"', pattern), f"{name}: {pattern}"


def test_links_between_documents_lead_somewhere():
    for path in tracked():
        if path.suffix == ".md":
            for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
                assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == m2m.__version__
    assert f"## [{m2m.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_has_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys()
    assert citation["license"] == "Apache-2.0"
    # The weights have their own.
    assert PROJECT["license"] == "Apache-2.0 AND CC-BY-SA-4.0"
    weights = [path for path in (ROOT / "m2m/weights").iterdir() if path.is_dir()]
    assert weights and all("CC BY-SA 4.0" in (folder / "LICENSE").read_text() for folder in weights)
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports(path, monkeypatch):
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path))
