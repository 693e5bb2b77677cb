"""Codes of findings, each explained: in docs/findings.md, in the report, and by name in `m2m status`.

A code follows from the text of a problem, so that results of any version have one, wherever they hold a problem:
tables, status files, reasons for an exclusion. `findings.toml` has the texts of each code.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("findings.toml")
# Where each code has a heading.
PAGE = "docs/findings.md"
# What stands before a problem, where a later stage or the choice of scans passes it on.
PASSED_ON = re.compile(r"(stage \S+ failed|T1w|DWI): ")
BY_THE_USER = "exclusion-table"


@dataclass(frozen=True)
class Explanation:
    """What a code means.

    Attributes
    ----------
    problems : tuple of str
        Texts of the problems, ``{}`` for what is filled in.
    what, why, mend, without : str
        What it is, why it counts, how to mend it, and how to go on without; in Markdown, code in backticks only.
    """

    problems: tuple[str, ...]
    what: str
    why: str
    mend: str
    without: str


@cache
def explanations() -> dict[str, Explanation]:
    """Every code with its explanation, in the order of the table."""
    content = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return {
        code: Explanation(tuple(entry.pop("problems")), **{key: " ".join(text.split()) for key, text in entry.items()})
        for code, entry in content.items()
    }


@cache
def _patterns() -> list[tuple[re.Pattern, str]]:
    """Pattern of each problem with its code; those with most letters of their own first."""
    found = [(problem, code) for code, one in explanations().items() for problem in one.problems]
    found.sort(key=lambda pair: len(pair[0].replace("{}", "")), reverse=True)
    return [(re.compile(re.escape(problem).replace(r"\{\}", ".+")), code) for problem, code in found]


@cache
def code_of(problem: str) -> str:
    """Code of a problem; empty for a text of the user's, or of a version that had other texts.

    Parameters
    ----------
    problem : str
        As in a finding, also where a later stage passes it on.
    """
    while found := PASSED_ON.match(problem):
        problem = problem[found.end() :]
    return next((code for pattern, code in _patterns() if pattern.fullmatch(problem)), "")


def codes_of(reason: str) -> list[str]:
    """Codes of a problem, or of several that are joined by semicolons, each once."""
    codes = list(dict.fromkeys(filter(None, map(code_of, reason.split("; ")))))
    return codes or [*filter(None, [code_of(reason)])]


def codes_of_unit(row: Mapping[str, str | None]) -> list[str]:
    """Codes of why a unit is not used: a row of quality.tsv, with ``state``, ``stage`` and ``reason``."""
    by_the_user = (row["state"], row["stage"]) == ("excluded", "validate")
    return [BY_THE_USER] if by_the_user else codes_of(row["reason"] or "")
