"""Names of files and cells of tables that would be taken for something else, by tables, figures or the plan."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from bad_scans import t1
from cohort_tree import dataset, index_and_validate
from matplotlib.figure import Figure

from m2m.figures import style
from m2m.io.bids import unusual_characters
from m2m.io.errors import DataError, Finding, printable
from m2m.io.tables import parse_table, read_table, write_table
from m2m.options import Config
from m2m.report.paper_tables import latex, markdown
from m2m.workflow.cohort_tables import Cohort
from m2m.workflow.results_layout import Layout

HOSTILE = ["a\nb", "a\r\nb", "a\tb", "a\x00b", "\x1b[31mred", "a\u2028b", "a\x85b", "\udcff"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_breaks_a_row_or_the_encoding(tmp_path, text):
    write_table(tmp_path / "t.tsv", [{"unit": text, "x": 1}, {"unit": "sub-02", "x": 2}], ("unit", "x"))
    lines = (tmp_path / "t.tsv").read_text(encoding="utf-8").splitlines()
    assert lines == ["unit\tx", f"{printable(text)}\t1", "sub-02\t2"]
    assert str(DataError("p", file=text, value=text)).isprintable()
    assert Finding(text, "s", "p", text).file.isprintable()


@pytest.mark.parametrize("text", ["sub-01", "café 你好 ±5", '"quoted"', "50 % & $x$"])
def test_other_texts_stay_as_they_are(tmp_path, text):
    assert printable(text) == text
    write_table(tmp_path / "t.tsv", [{"x": text}], ("x",))
    assert read_table(tmp_path / "t.tsv") == [{"x": text}]


@pytest.mark.parametrize(
    "path, found", [("a b'c$&*", ""), ("{x}", "a brace"), ("a\\b", "a backslash"), ("\n", "control")]
)
def test_characters_that_the_plan_or_tables_misread_are_named(path, found):
    assert found in unusual_characters(path) and bool(unusual_characters(path)) == bool(found)


def test_a_line_break_in_a_name_replaces_no_other_participants_row(tmp_path):
    """Jobs on a cluster read the table by lines: a name that held a row would be another participant's."""
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    forged = "sub-02\nsub-01\tsub-01\tsub-01\tx"
    t1(root / "sub-02").rename(root / "sub-02" / "anat" / f"{forged}_T1w.nii.gz")
    (root / "sub-x\nsub-01\tsub-01").mkdir()
    units, findings = index_and_validate(root, tmp_path)
    assert (units["sub-01"]["state"], units["sub-02"]["state"]) == ("paired", "dwi-only")
    assert {f["unit"] for f in findings} == {"sub-02"}
    config = {"dataset": "few", "results": tmp_path, "models": {}, "tasks": {}}
    files = Layout(Config.model_validate(config))
    files.units = str(tmp_path / "units.tsv")

    class Ran:
        split = type("Split", (), {"get": staticmethod(lambda: None)})

    assert Cohort(files, Ran).row("sub-01") == units["sub-01"]
    assert len((tmp_path / "units.tsv").read_text().splitlines()) == 3


@pytest.mark.parametrize("character", ["\n", "\\", "\x1b"])
def test_a_folder_with_a_control_character_stops_the_configuration_by_name(character):
    with pytest.raises(ValueError, match="results"):
        Config.model_validate({"dataset": "x", "results": f"a{character}b", "models": {}, "tasks": {}})


@pytest.mark.parametrize("text", ["$^^$", "$", "$$", r"\alpha $x_{$", "a $5 to $9", "%", "_", "^", "{", "#&"])
def test_a_cell_is_drawn_as_it_is_written(tmp_path, text):
    with style.paper_style():
        figure = style.new_figure(style.SINGLE_MM, 40)
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], label=f"x{text}")
        axes.set_title(text)
        axes.set_xlabel(text)
        axes.text(1, 1, text)
        axes.set_xticks([1, 2], [text, text])
        axes.legend()
        style.save(figure, [{"x": text}], ("x",), tmp_path / "figure", text)
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert read_table(tmp_path / "figure.tsv") == [{"x": text}]


def labels(figure: Figure, name: str):
    figure.draw_without_rendering()
    axis = getattr(figure.axes[0], f"{name}axis")
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("scale, wanted", [("log", "10⁻²"), ("symlog", "10²")])
def test_powers_of_logarithmic_axes_are_plain_text(tmp_path, scale, wanted):
    with mpl.rc_context(style.RC):
        figure = style.new_figure(style.SINGLE_MM, 40)
        axes = figure.subplots()
        axes.plot([1, 2, 3], [1e-2, 1, 1e3])
        axes.set_yscale(scale)
        style.save(figure, [], ("x",), tmp_path / "figure", "")
        found = labels(figure, "y")
    assert wanted in found
    assert not any(set(label) & set("${}\\^") for label in found), found


def test_cells_of_markdown_and_latex_are_no_markup():
    cell = "a|b <script> $x$ 5 % & _y_ #1 ^ ~ \\z {q}"
    table = pd.DataFrame([[cell]], columns=["n_1 | <b>"])
    text = markdown(table)
    assert len(text.splitlines()) == 3 and "<script>" not in text and "<b>" not in text
    body = latex(table)
    assert r"\$x\$ 5 \% \& \_y\_ \#1" in body and r"\textbackslash" in body
    assert np.all([line.count("&") == line.count(r"\&") for line in body.splitlines()])
    assert parse_table(["x", "1"]) == [{"x": "1"}]
