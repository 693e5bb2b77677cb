"""Write a page for each command of `m2m` to docs/stages/<phase>/, from the code: `make docs`.

A page is made of the command's own help, the table of stages in architecture.md, the docstrings of
its rules, the models of `m2m.options` (as their JSON schema), and the References sections of the
modules that do the work. The table of metrics in docs/data.md is made of their records, docs/findings.md of
m2m/cohort/findings.toml.
"""

import ast
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import TypeAdapter

from m2m import cli
from m2m.cohort.finding_codes import explanations
from m2m.evaluate.metric_records import METRICS
from m2m.options import Config
from m2m.options.imaging_options import MAPPERS
from m2m.options.preprocess_backends import PREPROCESS_BACKENDS
from m2m.options.trackers import TRACKERS

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "stages"
DATA = ROOT / "docs" / "data.md"
FINDINGS = ROOT / "docs" / "findings.md"
WRITTEN = "<!-- Written by docs/stages.py: change the code, then `make docs`. -->\n"
TYPES = {"integer": "whole number", "string": "text", "boolean": "true or false"}
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}"}
LIMITS |= {"exclusiveMaximum": "< {}", "multipleOf": "multiple of {}", "pattern": "`{}`"}
# What is looked up by a model's family, further away than one import.
BY_FAMILY = {"train": ("models", "objectives", "networks")}
# Rooms of several stages that share little: a page cites what its own module asks for.
APART = ("diffusion", "structural", "models")
# What a stage looks up by the name of a backend.
BY_BACKEND = {"preprocess": PREPROCESS_BACKENDS, "tractography": TRACKERS, "grid": MAPPERS}

# Sections of commands that take them from the whole configuration alone.
FROM_FILE = {
    "evaluate": ("evaluation",),
    "translate-pairs": ("real", "dti", "tractography", "grid", "deformation"),
    "export": ("install",),
    "compare-pairs": ("real", "evaluation"),
    "draw-pairs": ("real",),
    "features": ("evaluation", "slices"),
    "predict-phenotype-cnn": ("downstream", "slices"),
    "downstream": ("downstream",),
    "draw-fields": ("render",),
    "tables": ("published",),
    "report": ("report", "published"),
    "report-downstream": ("report",),
    "report-fields": ("report",),
}


def table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a Markdown table."""
    cells = [[cell.replace("|", r"\|").replace("<", r"\<") for cell in row] for row in rows]
    lines = [heading, ("---",) * len(heading), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def kind(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].split("/")[-1]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(map(kind, choices))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema.get("enum", [schema.get("const")]))
    if "prefixItems" in schema:
        return f"{len(schema['prefixItems'])} × {kind(schema['prefixItems'][0])}"
    if "items" in schema:
        return f"list of {kind(schema['items'])}"
    named = schema.get("patternProperties", {"": schema.get("additionalProperties")})
    if entry := next(iter(named.values())):
        one = kind(entry)
        return f"by name: ({one})" if " or " in one else f"by name: {one}"
    return TYPES.get(schema["type"], schema["type"])


def limits(schema: Mapping[str, Any]) -> str:
    """Bounds of a value, or of each value in a list."""
    found = [text.format(schema[key]) for key, text in LIMITS.items() if key in schema]
    parts = [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    parts += [schema["items"]] if "items" in schema else []
    return "; ".join(dict.fromkeys([*found, *filter(None, map(limits, parts))]))


def fields(schema: Mapping[str, Any]) -> str:
    """Write the table of a section's options."""
    rows = []
    for name, field in schema["properties"].items():
        default = field.get("default", "needed")  # a section inside has its own
        text = "" if isinstance(default, dict) else json.dumps(default).replace('"', "")
        what = field.get("description", "")
        rows.append((f"`{name}`", kind(field), text and f"`{text}`", limits(field), what))
    return table(("option", "value", "default", "limits", "what"), rows)


def options(section: str) -> str:
    """Options of a section of the configuration, with the sections inside it."""
    annotation = Config
    for name in section.split("."):
        annotation = annotation.model_fields[name].annotation
    schema = TypeAdapter(annotation).json_schema()
    inside = schema.pop("$defs", {})
    text = f"## Options: `{section}` in config.yaml\n\n"
    if "properties" in schema:
        text += f"{schema['description']}\n\n{fields(schema)}"
    else:
        text += f"Sections {kind(schema)}.\n\n"
    waiting, written = [schema], set()
    while waiting:
        for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(waiting.pop(0))):
            if name not in written:
                written.add(name)
                text += f"### {name}\n\n{inside[name]['description']}\n\n"
                text += fields(inside[name])
                waiting.append(inside[name])
    return text


@functools.cache
def methods() -> dict[str, str]:
    """The docstring of each rule, by its name."""
    rule = r'^ *(?:rule|checkpoint) ?(\w*):\n +"""(.+?)"""(?:\n +name:\s+f?"(.+?)")?'
    texts = [path.read_text() for path in sorted((ROOT / "rules").glob("*.smk"))]
    found = re.findall(rule, "\n".join(texts), re.M | re.S)
    return {name or computed.lower(): " ".join(text.split()) for name, text, computed in found}


def source(module: str) -> Path:
    """Path of a module."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def imported(module: str) -> set[str]:
    """The project's own modules that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(source(module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "m2m":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if source(name).exists() else node.module for name in names}
    return found


@functools.cache
def references(path: Path) -> list[tuple[str, str]]:
    """What a module and its functions and classes cite, each with its name."""
    nodes = ast.walk(ast.parse(path.read_text()))
    documented = [n for n in nodes if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef)]
    parts = [(n, (ast.get_docstring(n) or "").partition("\nReferences\n")) for n in documented]
    return [(getattr(n, "name", "m2m"), " ".join(p[2].split())) for n, p in parts if p[2]]


def citations(command: str, module: str) -> str:
    """References of a stage's modules, and of the functions of others whose names stand there."""
    records = BY_BACKEND.get(command, {}).values()
    depth = 3 if cli.phase(command) in APART else 2
    own, waiting = set(), {module, *(one.module for one in records if one.function)}
    while waiting:
        own.add(name := waiting.pop())
        waiting |= {m for m in imported(name) if m.split(".")[:depth] == module.split(".")[:depth]}
        waiting -= own
    text = "".join(source(name).read_text() for name in own)
    families = {path for part in BY_FAMILY.get(command, ()) for path in ROOT.glob(f"m2m/{part}*")}
    families |= {path for folder in families for path in folder.rglob("*.py")}
    found = {}
    for path in sorted({source(name) for name in own.union(*map(imported, own))} | families):
        for name, cited in references(path) if path.is_file() else ():
            if path in families or re.search(rf"\b{name}\b", text):
                found.setdefault(cited.lstrip("- "), path.relative_to(ROOT).as_posix())
    return "".join(f"- {cited} ([`{path}`](../../../{path}))\n" for cited, path in found.items())


def page(name: str, command: Any) -> str:
    """Write the page of one command."""
    module = cli.COMMANDS[name][0].split(":")[0]
    code = source(module).relative_to(ROOT).as_posix()
    text = f"{WRITTEN}\n# m2m {name}\n\n{command.help.strip()}\n\n"
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    row = rf"^\| (.+?) \| .*?`m2m {name}`.*? \| (.+?) \| (.+?) \| (.+?) \|$"
    if rows := re.findall(row, architecture, re.M):
        text += table(("rule", "a job per", "from", "to"), rows)
        docstrings = {row[0].split()[0]: methods()[row[0].split()[0]] for row in rows}
        text += "".join(f"- `{rule}`: {text}\n" for rule, text in docstrings.items()) + "\n"
    text += f"Code: [`{code}`](../../../{code}). [All stages](../README.md).\n\n## Flags\n\n"
    rows = []
    for one in command.params:
        argument = one.param_type_name == "argument"
        names = [one.name.upper()] if argument else [*one.opts, *one.secondary_opts]
        default = "" if one.default in (None, "", False, "{}") else f" Default: {one.default}."
        flag, needed = " ".join(names), "yes" if one.required else ""
        rows.append((f"`{flag}`", needed, f"{one.help}{default}"))
    text += table(("flag", "needed", "what"), rows)
    for one in command.params:
        if one.name.endswith("options"):
            text += options(re.search(r"section `?([a-z._]+[a-z])", one.help, re.I)[1])
    text += "".join(map(options, FROM_FILE.get(name, ())))
    if cited := citations(name, module):
        text += f"## Citations\n\n{cited}"
    return text.rstrip() + "\n"


def path_of(name: str) -> str:
    """Path of a command's page below docs/stages/."""
    return f"{cli.phase(name)}/{name}.md"


def pages() -> dict[str, str]:
    """Every page by its path: one for each command, by phase, and README.md, which lists them."""
    group = typer.main.get_command(cli.app)
    written = {path_of(name): page(name, group.get_command(None, name)) for name in cli.COMMANDS}
    text = (
        f"{WRITTEN}\n# A page for each stage\n\nWhat goes in and comes out, its options, and what "
        "to cite. [architecture.md](../architecture.md) shows them in order,\n"
        "[methods.md](../methods.md) says why they do what they do.\n\n"
    )
    for phase, names in {"called by users": cli.USER_COMMANDS, **cli.PHASES}.items():
        rows = [(f"[m2m {name}]({path_of(name)})", cli.COMMANDS[name][1]) for name in names]
        text += f"## {phase.capitalize()}\n\n{table(('command', 'what'), rows)}"
    text += "## Exit codes\n\nOf every command.\n\n"
    text += table(("code", "meaning"), [(str(code), meaning) for code, meaning in cli.EXIT_CODES.items()])
    return written | {"README.md": text.rstrip() + "\n"}


def metrics() -> str:
    """Table of every metric, from the records."""
    rows = [
        (
            f"`{name}`",
            ", ".join(metric.regions),
            ", ".join(metric.natures) or "every",
            metric.unit,
            metric.better,
            metric.description,
        )
        for name, metric in METRICS.items()
    ]
    return table(("metric", "regions", "targets", "unit", "better", "what"), rows)


def data_page(text: str) -> str:
    """docs/data.md with the table of metrics as the records have it."""
    pattern = r"(<!-- metrics: .*? -->\n\n).*?(<!-- end of metrics -->)"
    return re.sub(pattern, lambda m: m[1] + metrics() + m[2], text, flags=re.S)


def findings_page() -> str:
    """docs/findings.md: a section for each code of a finding."""
    text = (
        f"{WRITTEN}\n# Findings\n\nWhat a scan or a participant was found to have, by its code, which "
        "`cohort/cohort_status.tsv`, the report and `m2m status` show.\nAn error costs a unit a file, a note nothing. "
        "A file that was mended in its place is read again by `snakemake ... cohort --forcerun index`.\n"
        "To leave a participant out, name it in the table `cohort.exclude`.\n\n"
    )
    for code, one in explanations().items():
        found = "".join(f"- {problem.replace('{}', '…')}\n" for problem in one.problems)
        text += f"## {code}\n\n{one.what} {one.why}\n\n{found}\n*To mend it:* {one.mend}\n\n"
        text += f"*To go on without:* {one.without}\n\n"
    return text.rstrip() + "\n"


if __name__ == "__main__":
    for old in PAGES.rglob("*.md"):
        old.unlink()
    for name, content in pages().items():
        (PAGES / name).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / name).write_text(content)
    DATA.write_text(data_page(DATA.read_text()))
    FINDINGS.write_text(findings_page())
