"""The glossary: in order, one line for each term, and linked where its concepts first occur."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
CONCEPTS = ("base", "cascade", "family", "low resolution", "prior", "session unit", "task")


def section(title):
    """Text below a heading of the second level."""
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", GLOSSARY, re.M | re.S)
    return text


def not_used():
    """Rows of the table of words that are not used."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section("Words that are not used"), re.M)
    assert rows[0] == ("old", "new")
    return rows[1:]


def test_the_seven_concepts_come_first_each_with_one_line():
    found = re.findall(r"^### (.+)\n\n(.+)\n(?:\n|\Z)", section("Seven concepts"), re.M)
    assert tuple(name for name, _ in found) == CONCEPTS
    assert all(line.endswith(".") for _, line in found)


def test_further_terms_are_in_alphabetical_order_one_line_each():
    lines = section("Further terms").strip().splitlines()
    terms = [re.fullmatch(r"- \*\*(.+?)\*\*: .+\.", line)[1] for line in lines]
    assert terms == sorted(set(terms), key=str.lower) and len(terms) > 30
    assert not set(terms) & set(CONCEPTS)


def test_no_word_is_advised_that_is_not_used():
    old = [word for word, _ in not_used()]
    assert len(old) == len(set(old)) > 30
    assert not set(old) & {word for _, word in not_used()}


def test_a_term_that_is_explained_is_not_one_that_is_not_used():
    terms = re.findall(r"^(?:### |- \*\*)(.+?)(?:\*\*:.*)?$", GLOSSARY, re.M)
    assert len(terms) > 40 and not set(terms) & {word for word, _ in not_used()}


def test_pages_link_the_concepts_that_they_use():
    linked = {
        name: set(re.findall(r"glossary\.md#([\w-]+)\)", (ROOT / name).read_text()))
        for name in ("README.md", "docs/tutorial.md", "docs/architecture.md")
    }
    anchors = {name.replace(" ", "-") for name in CONCEPTS}
    assert all(links and links <= anchors for links in linked.values())
    assert linked["docs/architecture.md"] == anchors
