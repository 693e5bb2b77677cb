"""Texts of the problems that a scan or a participant can be found to have, as the code has them.

What the code fills in is ``{}``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "m2m"
# Modules whose errors are about a scan or a participant; the others are about a call of a command.
MODULES = [
    *(PACKAGE / "cohort" / f"{name}.py" for name in ("checks", "choice", "gradients", "participants", "scans")),
    *(PACKAGE / "cohort" / f"{name}.py" for name in ("spellings", "validate")),
    *(PACKAGE / "io" / f"{name}.py" for name in ("errors", "files", "images", "masks", "volume")),
    *sorted((PACKAGE / "diffusion").rglob("*.py")),
    *sorted((PACKAGE / "structural").rglob("*.py")),
    *(PACKAGE / "models" / f"{name}.py" for name in ("inference", "validation_range")),
    PACKAGE / "translate" / "t1_checks.py",
]
# No findings: what stops the workflow, and why a deformation is not kept, which fails no participant.
OTHERS = {
    "the cohort is empty: no unit has a usable scan",
    "mutual information fell from {} to {}",
    "{} of the brain is folded, above {}",
}
# What no rule below finds, with the module that has it.
FURTHER = {
    "excluded by the user's table": "cohort/validate.py",
    "{} ended with exit status {}: {}": "io/programs.py",
}
# Calls whose argument at this place is the text, and what follows it.
CALLS = {"DataError": (0, ""), "unreadable": (1, ": {}"), "_of_slices": (0, "")}
# Functions that yield or list a text first, and what comes before it in the finding.
LISTING = {"_problems": "", "_changes": "{}: ", "_sexes": "{}: "}


def texts() -> set[str]:
    """Every text of a problem, and every reason for an exclusion."""
    return {text for path in MODULES for text in of_module(ast.parse(path.read_text()))} - OTHERS | FURTHER.keys()


def written(node: ast.expr | None) -> list[str]:
    """A text as it is written; both of a choice, none of a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
        # A text of its own is that of another place.
        return [text] if (text := "".join(parts)) != "{}: {}" else []
    return [*written(node.body), *written(node.orelse)] if isinstance(node, ast.IfExp) else []


def of_module(tree: ast.Module) -> Iterator[str]:
    """Texts of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", "")
            place, after = CALLS.get(name, (0, ""))
            if name in CALLS or ast.unparse(node.func) == "reasons.append":
                yield from (f"{text}{after}" for text in written(node.args[place]))
        elif isinstance(node, ast.Assign):
            yield from of_assignment(node)
        elif isinstance(node, ast.FunctionDef) and node.name in LISTING:
            tuples = [one for one in ast.walk(node) if isinstance(one, ast.Tuple) and len(one.elts) > 2]
            yield from (f"{LISTING[node.name]}{text}" for one in tuples for text in written(one.elts[0]))
        elif isinstance(node, ast.FunctionDef) and node.name.endswith("problem"):
            returns = [one.value for one in ast.walk(node) if isinstance(one, ast.Return)]
            yield from (text for value in returns for text in written(value))


def of_assignment(node: ast.Assign) -> Iterator[str]:
    """Texts that a name holds: a problem, a reason, the age's, those of the volumes."""
    name = ast.unparse(node.targets[0]).strip("()").split(",")[0]
    first = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
    if name in ("problem", "reason", "NO_AGE"):
        yield from written(first[0])
    elif name == "_VOLUMES":
        yield from (text for one in first if isinstance(one, ast.Tuple) for text in written(one.elts[0]))
