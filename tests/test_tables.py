"""Tables for a paper: the numbers of the TSV, and marks that follow intervals."""

import re

import pytest

from m2m.evaluate.metric_records import METRICS
from m2m.evaluate.metric_tables import COMPARISON_COLUMNS, FLOW, SUMMARY_COLUMNS
from m2m.io.tables import read_table, write_table
from m2m.report.paper_tables import unbeaten, write_tables

MODELS = ("macro2micro", "pix2pix_2", "mean")
COUNTS = dict(zip(FLOW, (9, 1, 1, 1, 6), strict=True))


def mean(model, value, metric="ssim", region="brain", **columns):
    row = {"task": "t1-fa", "model": model, "region": region, "metric": metric, "mean": value,
           "low": value - 0.01, "high": value + 0.02, "n_subjects": 4}  # fmt: skip
    return row | COUNTS | columns


def pair(model, baseline, low, high, metric="ssim", region="brain"):
    return {"model": model, "baseline": baseline, "region": region, "metric": metric,
            "difference": 0.01, "low": low, "high": high, "n_subjects": 4}  # fmt: skip


def write(folder):
    """Write both tables in both forms beside their sources."""
    sources = folder / "summary.tsv", folder / "comparison.tsv"
    outs = [path.with_suffix(suffix) for path in sources for suffix in (".md", ".tex")]
    write_tables(*sources, list(MODELS), outs)


@pytest.fixture
def tables(tmp_path):
    """Highest is pix2pix_2, but macro2micro cannot be told apart from it; mean is worse."""
    summary = [mean("macro2micro", 0.91), mean("pix2pix_2", 0.92), mean("mean", 0.8)]
    summary += [mean(m, 0.05, "mae", "wm") for m in MODELS[:2]]
    summary += [mean(m, 1.1, "sharpness_ratio", low=None, high=None) for m in MODELS]
    comparison = [
        pair("macro2micro", "pix2pix_2", -0.03, 0.01), pair("macro2micro", "mean", 0.05, 0.2),
        pair("pix2pix_2", "mean", 0.06, 0.2),
        pair("macro2micro", "pix2pix_2", -0.02, -0.01, "mae", "wm"),  # lower is better
        *(pair(a, b, 0.1, 0.2, "sharpness_ratio") for a, b in (MODELS[:2], MODELS[1:])),
    ]  # fmt: skip
    write_table(tmp_path / "summary.tsv", summary, SUMMARY_COLUMNS)
    write_table(tmp_path / "comparison.tsv", comparison, COMPARISON_COLUMNS)
    write(tmp_path)
    return tmp_path


def cells(line):
    return [cell.strip() for cell in line.strip(" |").split("|")]


def test_every_mean_stands_with_its_interval_under_its_model(tables):
    heading, _, *lines = (tables / "summary.md").read_text().split("\n\n")[0].splitlines()
    assert cells(heading) == ["region", "metric", *MODELS]
    shown = {
        (row[0], row[1].partition(",")[0], model): re.findall(r"[\d.]+", cell)
        for row in map(cells, lines)
        for model, cell in zip(MODELS, row[2:], strict=True)
    }
    names = {"brain": "brain", "wm": "white matter"}
    for row in read_table(tables / "summary.tsv"):
        name, digits = METRICS[row["metric"]].title, METRICS[row["metric"]].digits
        expected = [f"{float(row[k]):.{digits}f}" for k in ("mean", "low", "high") if row[k]]
        assert shown.pop((names[row["region"]], name, row["model"])) == expected
    assert shown == {("white matter", "mean absolute error", "mean"): []}  # n/a


def test_bold_is_who_is_not_beaten_by_interval_and_not_who_has_the_highest_value(tables):
    lines = (tables / "summary.md").read_text().splitlines()
    bold = {
        tuple(cells(line)[:2]): [cell.startswith("**") for cell in cells(line)[2:]]
        for line in lines[2:5]
    }
    assert bold == {
        ("brain", "SSIM, higher"): [True, True, False],
        ("white matter", "mean absolute error, lower"): [True, False, False],
        ("brain", "sharpness ratio, nearer 1"): [False, False, False],
    }
    latex = (tables / "summary.tex").read_text()
    assert latex.count(r"\textbf{") == 3 and r"\textbf{0.910 [0.900, 0.930]}" in latex


def test_where_nothing_can_be_told_apart_or_intervals_lack_nothing_is_marked():
    same = [pair("a", "b", -1, 1), pair("a", "c", -1, 1), pair("b", "c", -1, 1)]
    same = [{**row, "low": str(row["low"]), "high": str(row["high"])} for row in same]
    assert unbeaten(same, "abc") == {}
    worse = [*same[:2], same[2] | {"low": "-3", "high": "-2"}]
    assert unbeaten(worse, "abc") == {("brain", "ssim"): {"a", "c"}}
    assert unbeaten([worse[0] | {"low": None, "high": None}, *worse[1:]], "abc") == {}


def test_latex_is_a_booktabs_table_with_escaped_names(tables):
    for name in ("summary", "comparison"):
        lines = (tables / f"{name}.tex").read_text().splitlines()
        assert lines[0].startswith("% ")
        for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
            assert lines.count(command) == 1
        body = [line for line in lines[1:] if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1
        text = "\n".join(lines[1:])
        assert r"pix2pix\_2" in text
        assert not re.search(r"(?<!\\)[_%#]", text.replace("%\n", ""))
        assert text.isascii()


def test_the_counts_of_the_cohort_stand_below_the_means(tables):
    words = (tables / "summary.md").read_text().split("\n\n")[1]
    assert "over 4 test people" in words
    assert all(f"{key} {COUNTS[key]}" in words for key in FLOW)


def test_a_comparison_shows_each_pair_with_its_verdict(tables):
    lines = (tables / "comparison.md").read_text().split("\n\n")[0].splitlines()[2:]
    rows = [cells(line) for line in lines]
    assert len(rows) == 6
    verdicts = {(row[0], row[2]): row[-1] for row in rows}
    assert verdicts["macro2micro − mean", "SSIM"] == "better"
    assert verdicts["macro2micro − pix2pix_2", "SSIM"] == "not told apart"
    assert verdicts["macro2micro − pix2pix_2", "mean absolute error"] == "better"


def test_nobody_tested_gives_tables_without_rows(tmp_path):
    write_table(tmp_path / "summary.tsv", [], SUMMARY_COLUMNS)
    write_table(tmp_path / "comparison.tsv", [], COMPARISON_COLUMNS)
    write(tmp_path)
    assert "No test person was evaluated" in (tmp_path / "summary.md").read_text()
    assert r"\bottomrule" in (tmp_path / "comparison.tex").read_text()
