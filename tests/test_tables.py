"""Tables for a paper: the numbers of the TSV files, and marks based on intervals."""

import re

import pytest

from m2m.evaluate.metric_records import METRICS
from m2m.evaluate.metric_tables import COMPARISON_COLUMNS, FLOW, SUMMARY_COLUMNS
from m2m.io.tables import read_table, write_table
from m2m.options import Published
from m2m.report.paper_tables import unbeaten, write_tables

MODELS = ("macro2micro", "pix2pix_2", "mean")
INPUTS = {"macro2micro": "3 slices, mean map; mirrored", "pix2pix_2": "1 slice; mirrored", "mean": "no network"}
COUNTS = dict(zip(FLOW, (9, 1, 1, 1, 6), strict=True))


def mean(model, value, metric="ssim", region="brain", **columns):
    row = {
        "task": "t1-fa",
        "model": model,
        "region": region,
        "metric": metric,
        "mean": value,
        "low": value - 0.01,
        "high": value + 0.02,
        "n_subjects": 4,
    }
    return row | COUNTS | columns


def pair(model, baseline, low, high, metric="ssim", region="brain", p_holm="0.01"):
    return {
        "model": model,
        "baseline": baseline,
        "region": region,
        "metric": metric,
        "difference": 0.01,
        "low": low,
        "high": high,
        "p_holm": p_holm,
        "n_subjects": 4,
    }


PUBLISHED = Published(
    source="Doe (2020)",
    data="d",
    access="a",
    preprocessing="p",
    split="s",
    definitions={"ssim": "8 x 8 windows"},
    differences="50 % background",
    values={
        "t1-fa": {
            "brain": {"ssim": {"U-Net": ".907", "DDIM": "> 0.8"}, "mmd": {"U-Net": "0.1"}},
            "slice": {"psnr": {"DDIM": "25"}},
        }
    },
)


def write(folder, *published):
    """Write both tables in both formats next to their sources."""
    sources = folder / "summary.tsv", folder / "comparison.tsv"
    outs = [path.with_suffix(suffix) for path in sources for suffix in (".md", ".tex")]
    write_tables(*sources, INPUTS, outs, *published)


@pytest.fixture
def tables(tmp_path):
    """pix2pix_2 has the highest value but is not significantly different from macro2micro; mean is worse."""
    summary = [mean("macro2micro", 0.91), mean("pix2pix_2", 0.92), mean("mean", 0.8)]
    summary += [mean(m, 0.05, "mae", "wm") for m in MODELS[:2]]
    summary += [mean(m, 1.1, "sharpness_ratio", low=None, high=None) for m in MODELS]
    comparison = [
        pair("macro2micro", "pix2pix_2", -0.03, 0.01),
        pair("macro2micro", "mean", 0.05, 0.2),
        pair("pix2pix_2", "mean", 0.06, 0.2),
        pair("macro2micro", "pix2pix_2", -0.02, -0.01, "mae", "wm"),  # lower is better
        *(pair(a, b, 0.1, 0.2, "sharpness_ratio") for a, b in (MODELS[:2], MODELS[1:])),
    ]
    write_table(tmp_path / "summary.tsv", summary, SUMMARY_COLUMNS)
    write_table(tmp_path / "comparison.tsv", comparison, COMPARISON_COLUMNS)
    write(tmp_path)
    return tmp_path


def cells(line):
    return [cell.strip() for cell in line.strip(" |").split("|")]


def test_published_values_stand_beside_the_models_with_what_must_be_known_of_them(tables):
    alone = (tables / "summary.md").read_text()
    write(tables, PUBLISHED, "t1-fa")
    text = (tables / "summary.md").read_text()
    assert text.startswith(alone) and (tables / "comparison.md").read_text().count("published") == 0
    heading, _, *rows = (cells(line) for line in text[len(alone) :].splitlines() if line.startswith("|"))
    assert heading == ["region", "metric", "U-Net (published)", "DDIM (published)", *MODELS]
    assert [row[:4] for row in rows] == [
        ["brain", "SSIM, higher", ".907", "> 0.8"],
        ["brain", "mmd", "0.1", ""],
        ["whole slices", "PSNR (dB), higher", "", "25"],
    ]
    assert rows[0][4] == "0.910 [0.900, 0.930]" and rows[1][4:] == rows[2][4:] == ["n/a"] * 3
    assert "- Source: Doe (2020)\n" in text and "- Metrics: ssim: 8 x 8 windows\n" in text
    tex = (tables / "summary.tex").read_text()
    assert "% Differences: 50 % background\n" in tex and tex.count("begin{tabular}") == 2
    write(tables, PUBLISHED, "t1-md")
    assert (tables / "summary.md").read_text() == alone


def test_every_mean_is_shown_with_its_interval_in_the_column_of_its_model(tables):
    heading, _, *lines = (tables / "summary.md").read_text().split("\n\n")[0].splitlines()
    assert cells(heading) == ["region", "metric", *MODELS]
    shown = {
        (row[0], row[1].partition(",")[0], model): re.findall(r"[\d.]+", cell)
        for row in map(cells, lines)
        for model, cell in zip(MODELS, row[2:], strict=True)
    }
    assert [cells(line)[2:] for line in lines if cells(line)[0] == "inputs"] == [list(INPUTS.values())]
    shown = {key: found for key, found in shown.items() if key[0] != "inputs"}
    names = {"brain": "brain", "wm": "white matter"}
    for row in read_table(tables / "summary.tsv"):
        name, digits = METRICS[row["metric"]].title, METRICS[row["metric"]].digits
        expected = [f"{float(row[k]):.{digits}f}" for k in ("mean", "low", "high") if row[k]]
        assert shown.pop((names[row["region"]], name, row["model"])) == expected
    assert shown == {("white matter", "mean absolute error", "mean"): []}  # n/a


def test_bold_marks_models_that_no_other_is_better_than_and_not_the_highest_value(tables):
    lines = (tables / "summary.md").read_text().splitlines()
    bold = {tuple(cells(line)[:2]): [cell.startswith("**") for cell in cells(line)[2:]] for line in lines[2:5]}
    assert bold == {
        ("brain", "SSIM, higher"): [True, True, False],
        ("white matter", "mean absolute error, lower"): [True, False, False],
        ("brain", "sharpness ratio, nearer 1"): [False, False, False],
    }
    latex = (tables / "summary.tex").read_text()
    assert latex.count(r"\textbf{") == 3 and r"\textbf{0.910 [0.900, 0.930]}" in latex


def test_without_a_significant_difference_or_with_missing_intervals_nothing_is_marked():
    same = [pair("a", "b", -1, 1), pair("a", "c", -1, 1), pair("b", "c", -1, 1)]
    same = [{**row, "low": str(row["low"]), "high": str(row["high"])} for row in same]
    assert unbeaten(same, "abc") == {}
    worse = [*same[:2], same[2] | {"low": "-3", "high": "-2"}]
    assert unbeaten(worse, "abc") == {("brain", "ssim"): {"a", "c"}}
    # An interval without 0 is not enough: p is corrected for the number of baselines.
    assert unbeaten([*worse[:2], worse[2] | {"p_holm": "0.06"}], "abc") == {}
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


def test_the_counts_of_the_cohort_are_below_the_means(tables):
    text = (tables / "summary.md").read_text().split("\n\n")[1]
    assert "over 4 test participants" in text
    assert all(f"{key} {COUNTS[key]}" in text for key in FLOW)


def test_a_comparison_shows_each_pair_with_its_verdict(tables):
    lines = (tables / "comparison.md").read_text().split("\n\n")[0].splitlines()[2:]
    rows = [cells(line) for line in lines]
    assert len(rows) == 6
    verdicts = {(row[0], row[2]): row[-1] for row in rows}
    assert verdicts["macro2micro − mean", "SSIM"] == "better"
    assert verdicts["macro2micro − pix2pix_2", "SSIM"] == "not significantly different"
    assert verdicts["macro2micro − pix2pix_2", "mean absolute error"] == "better"


def test_no_participant_tested_gives_tables_without_rows(tmp_path):
    write_table(tmp_path / "summary.tsv", [], SUMMARY_COLUMNS)
    write_table(tmp_path / "comparison.tsv", [], COMPARISON_COLUMNS)
    write(tmp_path)
    assert "No test participant was evaluated" in (tmp_path / "summary.md").read_text()
    assert r"\bottomrule" in (tmp_path / "comparison.tex").read_text()
