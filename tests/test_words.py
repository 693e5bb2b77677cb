"""Old words are gone: from names, options, flags, messages and pages, as the glossary lists them."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from m2m.options import Config

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs/glossary.md"
# The glossary and the changelog name what was; here the words are looked for.
FREE = {"docs/glossary.md", "CHANGELOG.md", "tests/test_words.py"}
# Names of the standard library and of other packages, which are theirs.
THEIRS = {"chain"}
TEXTS = {".py", ".smk", ".md", ".yaml", ".j2", ".js", ".toml", ".cff", ".ipynb"}


def table(title):
    """Old words of one of the glossary's tables."""
    (section,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", GLOSSARY.read_text(), re.M | re.S)
    return [old for old, _ in re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.M)][1:]


UNUSED, UNNAMED = table("Words that are not used"), table("Words that are no names")


def tracked():
    """Text files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.split("\0")[:-1] if name not in FREE and (ROOT / name).is_file()]
    names = [name for name in names if not name.startswith("m2m/weights/")]  # as stated with a model
    return [name for name in names if Path(name).suffix in TEXTS or name == "Snakefile"]


def without_old_options(text):
    """Text of a module without the tables of options with new names."""
    return re.sub(r"renamed: ClassVar\[.*?\] = \{.*?\}", "", text, flags=re.S)


def found_in(text, words):
    """Old words in a text, also as parts of names such as ``n_people``."""
    pattern = "|".join(re.escape(word) for word in words)
    return sorted({m[0].lower() for m in re.finditer(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z-])", text, re.I)})


def names_of(tree):
    """Names that a module defines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def parts(name):
    """Words of a name in snake case or camel case."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def old_names(text):
    """Names of a module that have an old word in them."""
    old = {*UNUSED, *UNNAMED}
    # The name of a test is a sentence.
    names = {name for name in names_of(ast.parse(text)) if not name.startswith("test_")}
    return sorted(name for name in names - THEIRS if old & set(parts(name)))


def test_no_text_has_an_old_word():
    found = {name: found_in(without_old_options((ROOT / name).read_text()), UNUSED) for name in tracked()}
    assert {name: words for name, words in found.items() if words} == {}


def test_no_name_has_an_old_word():
    found = {name: old_names((ROOT / name).read_text()) for name in tracked() if name.endswith(".py")}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        "n_people = 3",
        "Nobody was left",
        "--people",
        "the judges' loss",
        "m2m cnn --root",
        "  image-judge-off:",
        "a True map",
    ],
)
def test_a_planted_old_word_is_found(text):
    assert found_in(text, UNUSED)


@pytest.mark.parametrize(
    "text", ["def carry(x): pass", "class PatchJudge: pass", "def f(words): pass", "self.chains = 1", "in_words = 2"]
)
def test_a_planted_old_name_is_found(text):
    assert old_names(text)


def test_words_that_only_look_alike_are_let_be():
    assert found_in("in filming a purchase, saidi, retold", UNUSED) == []
    assert old_names("from itertools import chain\nhomeless = chain()\ndef test_a_chain(): pass") == []


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ({"tasks": {"a": {"chain": ["x", "y"]}}}, "chain", "cascade"),
        ({"tasks": {"a": {"low_res": {"ratio": 2}}}}, "ratio", "factor"),
        ({"models": {"m": {"family": "macro2micro", "losses": {"squared": 1}}}}, "squared", "mse"),
        ({"models": {"m": {"family": "fgdl-sr", "losses": {"image": 1}}}}, "image", "l1"),
        ({"preprocess": {"chain": "fsl"}}, "chain", "backend"),
        ({"held_out": {"people": 2}}, "people", "subjects"),
        ({"downstream": {"min_people": 2}}, "min_people", "min_subjects"),
        ({"downstream": {"cnn": {"min_people": 2}}}, "min_people", "min_subjects"),
    ],
)
def test_an_option_by_its_old_name_is_refused_with_the_new_one(section, old, new):
    with pytest.raises(ValidationError, match=f"{old} is now called {new}"):
        Config.model_validate(section)
