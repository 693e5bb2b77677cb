"""Cells of participants.tsv as they are written: missing values, sexes, headings, decimal commas.

The standard has one spelling of each; tables have many. Every reading that is not literal is named in
a finding about its column.

References
----------
BIDS, "Tabular files" (``n/a``) and "Participants file" (the values of ``sex``),
https://bids-specification.readthedocs.io.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.quoting import shown

Row = dict[str, str | None]

# Spellings of a missing value, in any case; "None" only so, since "none" is an answer to some questions.
MISSING = ("", "n/a", "na", "n.a.", "#n/a", "nan", "null", "nil", "-", "--", "---", ".", "?", "missing")
MISSING_AS_WRITTEN = ("None",)
# Columns that m2m reads, and other headings for them, without case, spaces and underscores.
HEADINGS = {
    **{name: name for name in ("age", "sex", "site", "session_id", "family_id", "participant_id")},
    "gender": "sex",
    "ageyears": "age",
    "ageinyears": "age",
}
SEXES = {"m": "M", "male": "M", "man": "M", "boy": "M", "f": "F", "female": "F", "woman": "F", "girl": "F"}
SEXES |= {"o": "O", "other": "O", "u": "U", "unknown": "U"}
# Numbers that stand for a missing value where they lie far from all others.
SENTINELS = (-99.0, 999.0, -999.0, 9999.0, -9999.0, 99999.0, -99999.0)
_COMMA, _POINT = re.compile(r"[+-]?\d+,\d+"), re.compile(r"[+-]?\d+\.\d+")
MOST_NAMED = 8


def number(text: str | None) -> float | None:
    """Read a number from a table's cell; None where there is none (``n/a``, ``89+``, ``nan``)."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def heading(name: str) -> str:
    """Column that m2m reads by this heading: ``Age`` is age, ``Gender`` is sex; others as they are."""
    plain = re.sub(r"[\s_-]", "", name.casefold())
    known = {re.sub("_", "", other): column for other, column in HEADINGS.items()}
    return known.get(plain, name)


def cell(row: Mapping[str, str | None], column: str) -> str | None:
    """A row's cell by a column's name, or by the name that m2m reads it by."""
    return row[column] if column in row else row.get(heading(column))


def map_headings(columns: Sequence[str], path: str | Path) -> tuple[list[str], list[DataError]]:
    """Headings as m2m reads them.

    Parameters
    ----------
    columns : sequence of str
        As in the file.
    path : path
        Named in the findings.

    Returns
    -------
    columns : list of str
        A heading is only changed where no other column has the name already.
    findings : list of DataError
    """
    read = [column.strip() for column in columns]
    findings = []
    for place, column in enumerate(read):
        if (name := heading(column)) != column and name not in read:
            read[place] = name
            remedy = f"nothing to do if that is right; else rename the column, or call it {name}"
            findings.append(DataError(f"column is read as {name}", file=path, value=shown(column, path), remedy=remedy))
    return read, findings


def map_cells(rows: Sequence[Row], columns: Iterable[str], path: str | Path) -> list[DataError]:
    """Replace spellings in a table's cells, in place.

    Parameters
    ----------
    rows : sequence of dict
        Of the whole table; a missing value becomes None.
    columns : iterable of str
        Those to read; ``participant_id`` is left alone.
    path : path
        Of the table, named in the findings. Levels of codes for ``sex`` are read from the JSON beside it.

    Returns
    -------
    list of DataError
        One for each column and kind of change, with counts.
    """
    findings = []
    for column in columns:
        if column in ("participant_id", "session_id") or not column:
            continue
        for row in rows:
            row[column] = (row.get(column) or "").strip() or None
        cells = [row[column] for row in rows]
        for kind, changed, remedy in _changes(column, cells, path):
            for row in rows:
                row[column] = changed.get(row[column] or "", row[column])
            counts = Counter(text for text in cells if text in changed)
            cells = [row[column] for row in rows]
            value = shown(_described(counts, changed), path)
            findings.append(DataError(f"{column}: {kind}", file=path, value=value, remedy=remedy))
    return findings


def _changes(
    column: str, cells: Sequence[str | None], path: str | Path
) -> Iterator[tuple[str, dict[str, str | None], str]]:
    """Kind, values to replace, and remedy of each change of a column; each follows those before it."""
    texts = dict.fromkeys(text for text in cells if text)
    changes: list[tuple[str, dict[str, str | None], str]] = []
    missing: dict[str, str | None] = {text: None for text in texts if _is_missing(text, texts)}
    if missing:
        changes.append(("read as missing", missing, "write n/a for a missing value, as BIDS does"))
    left = [text for text in cells if text and text not in missing]
    if column == "sex":
        changes += _sexes(left, path)
    elif points := _decimal_commas(left):
        changes.append(("decimal commas are read as points", points, "write numbers with a decimal point"))
        left = [str(points.get(text, text)) for text in left]
    if column not in ("sex", "age") and (sentinels := _sentinels(left)):
        remedy = "write n/a for a missing value; a true value so far from all others has to be left out"
        changes.append(("read as missing, being far from all other values", sentinels, remedy))
    yield from changes


def _is_missing(text: str, texts: Iterable[str]) -> bool:
    """Whether a cell is a spelling of a missing value; ``-`` is not where the column has ``+``."""
    if text == "-" and "+" in texts:
        return False
    return text.casefold() in MISSING or text in MISSING_AS_WRITTEN


def _sexes(texts: Sequence[str], path: str | Path) -> Iterator[tuple[str, dict[str, str | None], str]]:
    """Spellings of sexes, and codes that the table's JSON explains; others stay, and are named."""
    levels = _levels(path)
    read = {text: SEXES.get(levels.get(text, text).casefold(), text) for text in texts}
    changed: dict[str, str | None] = {text: sex for text, sex in read.items() if sex != text}
    if changed:
        yield "spellings are read as one", changed, "write F, M or O, as BIDS does"
    codes: dict[str, str | None] = {text: text for text in read.values() if text not in SEXES.values()}
    if codes:
        name = Path(path).with_suffix(".json").name
        yield "values are not known, and kept as they are", codes, f"write F, M or O, or explain them in {name}, Levels"


def _levels(path: str | Path) -> dict[str, str]:
    """Meaning of the codes for sex, from the JSON beside a table: ``{"1": "male"}``."""
    try:
        about = read_json(Path(path).with_suffix(".json"))
        by_column = {heading(str(name)): column for name, column in about.items()}
        levels = by_column["sex"]["Levels"]
        return {
            str(code): str(text.get("Description", code) if isinstance(text, dict) else text).strip()
            for code, text in levels.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _decimal_commas(texts: Sequence[str]) -> dict[str, str | None]:
    """Numbers with a decimal comma, with a point instead; none where a point or a thousand's comma occurs."""
    commas = [text for text in texts if _COMMA.fullmatch(text)]
    thousands = all(len(text.split(",")[1]) == 3 for text in commas)
    others = [text for text in texts if text not in commas]
    if not commas or thousands or any(_POINT.fullmatch(text) or number(text) is None for text in others):
        return {}
    return {text: text.replace(",", ".") for text in commas}


def _sentinels(texts: Sequence[str]) -> dict[str, str | None]:
    """Numbers such as -999 that are further from all others than these are from each other."""
    numbers = {text: value for text in texts if (value := number(text)) is not None}
    others = [value for value in numbers.values() if value not in SENTINELS]
    if len(set(others)) < 2 or len(numbers) < len(set(texts)) / 2:
        return {}
    low, high = min(others), max(others)
    far = (high - low) or 1.0
    return {
        text: None for text, value in numbers.items() if value in SENTINELS and not low - far <= value <= high + far
    }


def _described(counts: Counter, changed: Mapping[str, str | None]) -> str:
    """Spellings with their number of cells and what they are read as: ``m (20) as M``."""
    named = [
        f"{text} ({n})" + (f" as {changed[text]}" if changed[text] not in (None, text) else "")
        for text, n in counts.most_common(MOST_NAMED)
    ]
    rest = len(counts) - MOST_NAMED
    return ", ".join(named + [f"{rest} more"] * (rest > 0))
