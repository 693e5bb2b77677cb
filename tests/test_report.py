"""The page: its numbers are those of the tables, it makes no requests, and it is accessible."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
import report_tree as tree
import yaml
from PIL import Image

from m2m.cohort.finding_codes import explanations
from m2m.evaluate.metric_records import METRICS, REGIONS, headlines
from m2m.figures.figure_records import of_target
from m2m.io.bids import unit_path
from m2m.io.files import read_json, write_text
from m2m.io.tables import read_table
from m2m.options import Config, Published, Task, load_config
from m2m.report import page_figures, summary_text
from m2m.report.page import SUBJECT_METRICS, training_course


class Page(HTMLParser):
    """Elements with their attributes, and tables as rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.texts, self._cell = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag == "table":
            self.rows = []
            if name := attributes.get("id"):
                self.tables[name] = self.rows
            else:
                self.tables.setdefault(None, []).append(self.rows)
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = tag

    def handle_endtag(self, tag):
        if tag == self._cell:
            self._cell = None

    def handle_data(self, data):
        self.texts.append(data)
        if self._cell:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tree.study(tmp_path_factory.mktemp("results") / "ds")
    tree.write_page(root)
    return root


@pytest.fixture(scope="module")
def text(root):
    return (root / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_published_values_stand_beside_those_of_the_task_they_are_of(root):
    about = dict.fromkeys(("source", "data", "access", "preprocessing", "split"), "from <a paper>")
    published = Published(**about, differences="d", values={tree.TASK: {"brain": {"ssim": {"U-Net": ".907"}}}})
    try:
        shown = Page(tree.write_page(root, published=published))
    finally:
        tree.write_page(root)
    heading, row = shown.tables[f"published-table-{tree.TASK}"]
    assert heading[:3] == ["region", "metric", "U-Net (published)"] and row[:3] == ["brain", "SSIM, higher", ".907"]
    (model, *_), summary = heading[3:], shown.tables[f"summary-{tree.TASK}"]
    (mean,) = (line[summary[0].index(model)] for line in summary if line[:2] == ["brain", "SSIM"])
    assert numbers(row[3]) == numbers(mean)
    assert "from <a paper>" in shown.text and not [name for name in shown.tables if "published-table-fa" in str(name)]


def numbers(cell):
    return [float(n.replace("−", "-")) for n in re.findall(r"[−-]?\d+\.\d+", cell)]


@pytest.mark.parametrize("task", tree.TASKS)
def test_every_number_of_the_summary_is_the_number_of_the_table(root, page, task):
    table = {(r["region"], r["metric"], r["model"]): r for r in read_table(root / f"evaluate/{task}/summary.tsv")}
    regions = {name: key for key, name in REGIONS.items()}
    metrics = {metric.title: key for key, metric in METRICS.items()}
    header, *rows, inputs = page.tables[f"summary-{task}"]
    models, checked = header[3:], 0
    known = {"macro2micro": "5 slices, mean map; mirrored"}
    assert inputs == ["inputs", "", "", *(known.get(model, "no network") for model in models)]
    for region, metric, _, *cells in rows:
        for model, cell in zip(models, cells, strict=True):
            row = table.pop((regions[region], metrics[metric], model), None)
            if row is None:
                assert cell == "n/a"
                continue
            digits = METRICS[metrics[metric]].digits
            expected = [round(float(row[key]), digits) for key in ("mean", "low", "high")]
            assert numbers(cell) == pytest.approx(expected, abs=1e-9)
            checked += 1
    assert checked > 30
    assert not table, "numbers that the page lacks"


@pytest.mark.parametrize("task", tree.TASKS)
def test_every_paired_difference_is_the_number_of_the_table(root, page, task):
    table = read_table(root / f"evaluate/{task}/comparison.tsv")
    rows = page.tables[f"comparison-{task}"][1:]
    assert len(rows) == len(table)
    names = {key: metric.title for key, metric in METRICS.items()}
    header = page.tables[f"comparison-{task}"][0]
    corrected = {(r[0], r[1], r[2]): r[header.index("Holm p")] for r in rows}
    shown = {(r[0], r[1], r[2]): r[3] for r in rows}
    for row in table:
        key = f"{row['model']} − {row['baseline']}", REGIONS[row["region"]]
        digits = METRICS[row["metric"]].digits
        expected = [round(float(row[k]), digits) for k in ("difference", "low", "high")]
        assert numbers(shown[*key, names[row["metric"]]]) == pytest.approx(expected, abs=1e-9)
        holm = summary_text.printed(row["p_holm"], 4)
        assert corrected[*key, names[row["metric"]]] == holm


def test_the_overview_table_has_the_main_metrics_of_every_task(root, page):
    header, *rows = page.tables["overview-table"]
    assert [row[0] for row in rows] == [
        "T1 to FA",
        "FA to tract density",
        "T1 to FA to tract density",
        "T1 to diffusion tensor",
    ]
    column = header.index("brain SSIM")
    for (task, section), row in zip(tree.TASKS.items(), rows, strict=True):
        table = read_table(root / f"evaluate/{task}/summary.tsv")
        (ssim,) = [r for r in table if (r["model"], r["region"], r["metric"]) == ("macro2micro", "brain", "ssim")]
        expected = [round(float(ssim[key]), 3) for key in ("mean", "low", "high")]
        assert numbers(row[column]) == pytest.approx(expected, abs=1e-9)
        assert row[2].startswith("mean:better in ")
        tracts = row[header.index("tracts")]
        assert ("Dice" in tracts) == (section.target == "tdi")
        assert ("density r" in tracts) == (section.target == "dti")


def test_the_summary_states_the_participants_and_the_result_of_each_task(root, text):
    summary = Page(re.search(r'<div class="minute">(.*?)</div>', text, re.S)[1]).text
    summary = re.sub(r" (?=[;:.,)])|(?<=[(]) ", "", summary)
    assert "13 in the dataset, 12 used: 5 train, 1 validation, 6 test" in summary
    assert "0 failed, 0 excluded, 1 incomplete (list with reasons)" in summary
    for task in tree.TASKS:
        table = read_table(root / f"evaluate/{task}/summary.tsv")
        ssim = {
            row["model"]: summary_text.printed(row["mean"], 3)
            for row in table
            if (row["region"], row["metric"]) == ("brain", "ssim")
        }
        assert f"macro2micro reaches a brain SSIM of {ssim['macro2micro']}" in summary
        assert f"Mean map: mean, {ssim['mean']}; atlas: none among the models." in summary
    assert "compared with mean better in 3 of 3 main metrics; compared with t1 better in 3 of 3." in summary
    assert "Ceiling: not known" in summary and "Not for clinical use" in summary


def test_participants_that_are_not_used_are_listed_with_the_reason(page):
    assert page.tables["left-out-table"][1:] == [["sub-12", "incomplete", "validate", tree.NO_DWI, "missing-scan"]]


def test_a_finding_links_to_what_it_means_and_how_to_mend_it(page):
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links.count("#finding-missing-scan") == 2, "of the finding, and of the unit that is not used"
    assert [a["id"] for _, a in page.elements if a.get("id", "").startswith("finding-")] == ["finding-missing-scan"]
    assert explanations()["missing-scan"].mend.replace("`", "") in page.text.replace("`", "")


def test_the_main_results_are_beside_the_page_for_programs(root, page):
    content = read_json(root / "report.json")
    assert content["participants"] == read_json(root / "cohort/flow.json") | {
        "parts": {"train": 5, "validation": 1, "test": 6}
    }
    for task in tree.TASKS:
        main = [
            r for r in read_table(root / f"evaluate/{task}/summary.tsv") if (r["region"], r["metric"]) in headlines()
        ]
        assert len(content["tasks"][task]["metrics"]) == len(main) > 3
        for row, written in zip(main, content["tasks"][task]["metrics"], strict=True):
            assert [written[key] for key in ("mean", "low", "high")] == [float(row[k]) for k in ("mean", "low", "high")]
        assert content["tasks"][task]["headline"] in page.text
    items = {one["item"]: one for one in content["claim"]}
    assert [*items] == [*range(1, 43)] and items[42]["state"] == "open" and "file" not in items[42]
    assert items[20]["answer"].startswith("5 train, 1 validation and 6 test; hash of the split")
    assert content["run"] is None, "no job was run"


@pytest.mark.parametrize("task", tree.TASKS)
def test_every_test_participant_has_the_metrics_of_the_table(root, page, task):
    rows = {(row[0], row[1]): row[2:] for row in page.tables[f"participants-{task}"][1:]}
    models = tree.TASKS[task].models
    assert len(rows) == 6 * len(models)
    for model in models:
        for row in read_table(root / f"evaluate/{task}/{model}/metrics.tsv"):
            if row["region"] == "brain":
                known = [summary_text.printed(row[key], METRICS[key].digits) for key in SUBJECT_METRICS]
                assert rows[row["unit"], model] == known


def test_the_name_of_a_test_participant_links_to_its_qc_figures(root, page):
    links = {attributes["href"] for tag, attributes in page.elements if tag == "a"}
    assert {link for link in links if link.startswith("#unit-")} == {f"#unit-sub-{i:02d}" for i in range(6, 12)}
    few = Page(tree.write_page(root, limit=3))
    ends = {attributes.get("id") for _, attributes in few.elements}
    links = {attributes["href"][1:] for tag, attributes in few.elements if tag == "a"}
    assert links <= ends and "unit-sub-06" in links and "unit-sub-11" not in links
    tree.write_page(root)


def test_each_task_states_on_which_images_its_metrics_are_computed(page):
    assert "Pearson's r is the correlation of log density" in page.text
    assert "are of the tensors' FA" in page.text


def test_every_task_has_its_section_and_no_two_elements_share_a_name(page):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(set(ids)) == len(ids)
    for task in tree.TASKS:
        assert {f"{part}-{task}" for part in ("result", "maps", "metrics", "training")} <= set(ids)


def test_tasks_with_the_same_title_are_distinguished_by_name():
    tasks = {"a": Task(), "b": Task(), "c": Task(target="tdi")}
    assert summary_text.task_titles(tasks) == {"a": "T1 to FA (a)", "b": "T1 to FA (b)", "c": "T1 to tract density"}


def test_the_page_states_what_was_not_computed_and_which_direction_is_better(page):
    assert page.text.count("LPIPS: not computed.") == len(tree.TASKS)
    assert "Uncertainty: not computed" not in page.text
    better = {row[1]: row[2] for row in page.tables["summary-t1-fa"][1:]}
    assert better["sharpness ratio"] == "nearer 1"
    assert better["coverage of 95 % intervals"] == "nearer 0.95"
    assert better["error of log power"] == better["calibration error"] == "lower"


def test_a_cascade_shows_the_networks_of_both_its_tasks(page):
    tables = [rows for rows in page.tables[None] if rows[0][:2] == ["model", "task"]]
    assert len(tables) == len(tree.TASKS)
    assert {row[1] for row in tables[2][1:]} == {"t1-fa", "fa-tdi"}


def test_the_minutes_of_a_resumed_training_include_both_parts(tmp_path):
    steps = {10: 30.0, 20: 60.0, 30: 30.0, 40: 90.0}
    lines = [{"step": s, "split": "train", "seconds": t} for s, t in steps.items()]
    path = tmp_path / "metrics.jsonl"
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    assert training_course(path) == {"steps": 40, "minutes": "2.5"}
    write_text(path, tree.BASELINE)
    assert training_course(path) == {"steps": None, "minutes": None}


def test_no_request_leaves_the_page(text, page):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed")
        assert tag != "script" or set(attributes) <= {"type", "id"}
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "srcset", "poster", "action", "data"):
                assert value.startswith(("data:image/", "#")), f"{tag} {name}={value[:40]}"
    assert "url(" not in text and "@import" not in text


def test_every_image_has_a_text_and_every_link_a_target(page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    n = sum(len(of_target(section.target)) for section in tree.TASKS.values())
    assert len(images) == 2 + n + 12  # flow, quality, those of tasks, participants
    assert all(len(attributes["alt"]) > 20 for attributes in images)
    ends = {attributes.get("id") for _, attributes in page.elements}
    for tag, attributes in page.elements:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in ends


def test_text_has_the_contrast_that_wcag_asks_for(text):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    colours = dict(re.findall(r"--(\w[\w-]*): (#[0-9a-f]{6})", text))
    for ink in ("ink", "muted", "accent", "good", "bad"):
        for ground in ("#ffffff", colours["soft"], "#eef5fb"):
            bright, dark = luminance(ground) + 0.05, luminance(colours[ink]) + 0.05
            assert bright / dark >= 4.5, f"{ink} on {ground}"


def test_texts_from_tables_and_titles_cannot_become_markup(text, page):
    assert "<study>" not in text and "A <study> & more" in page.text
    assert "<add>" not in text and "<add> the series & run again" in page.text


def test_the_headline_follows_the_intervals(page):
    assert (
        "On 6 test participants, macro2micro is better than mean in brain SSIM, brain PSNR (dB) and "
        "ROI concordance; it is better than t1 in brain SSIM, brain PSNR (dB) and ROI concordance."
    ) in page.text


def test_the_identification_rate_stands_beside_that_of_the_mean_map(page):
    assert "Participants identified by their regional means: macro2micro " in page.text
    assert "the reference is mean, the mean map, 0.17 [0.00, 0.64]" in page.text
    assert "chance is 0.17." in page.text

    def row(model, value):
        return {
            "metric": "identification",
            "model": model,
            "mean": value,
            "low": "0.1",
            "high": "0.9",
            "n_subjects": "8",
        }

    alone = summary_text.identification([row("unet", "0.5")], [], "unet", "")
    assert "there is no reference, since shape alone identifies; chance is 0.12." in alone
    assert summary_text.identification([], [], "unet", "mean") == ""


def test_the_page_states_the_participants_and_its_limitations(page):
    for part in (
        "n_input",
        "n_failed",
        "n_excluded",
        "n_used",
        tree.NO_DWI,
        "macro2micro: n_input",
        "Simulated participants: the results test the software",
        "Not a medical device",
        "snakemake --cores all",
    ):
        assert part in page.text


def test_real_participants_are_not_called_simulated(root):
    assert "Simulated participants" not in tree.write_page(root, simulated=False)
    tree.write_page(root)


def test_a_failed_unit_comes_first_with_its_reason_and_pages_are_limited(root):
    quality = read_table(root / "cohort/quality.tsv")
    quality[3] |= {"state": "failed", "reason": "no brain found", "unit": "sub-77"}
    pages = page_figures.subjects(root, quality, 4)
    assert [page["unit"] for page in pages] == ["sub-77", "sub-06", "sub-07", "sub-08"]
    assert (pages[0]["reason"], pages[0]["figures"]) == ("no brain found", [])
    assert ("DWI coverage", "0.970") in pages[1]["numbers"]


def test_a_large_image_is_downsampled(tmp_path):
    path = tmp_path / "large.png"
    Image.effect_noise((2400, 1600), 60).save(path)
    assert len(page_figures.data_uri(path, 1000)) < path.stat().st_size / 5
    write_text(tmp_path / "failed.png", "")
    assert page_figures.data_uri(tmp_path / "failed.png", 1000) is None


def test_the_configuration_in_the_page_is_the_one_of_the_study(text):
    pattern = r"<summary>Configuration</summary>\s*<pre[^>]*><code>(.*?)</code>"
    shown = re.search(pattern, text, re.S)
    config = Config.model_validate(yaml.safe_load(html.unescape(shown.group(1))))
    assert config == load_config("config.yaml")


def test_a_figure_of_streamlines_is_shown_next_to_the_slices(tmp_path):
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "test"})
    Image.linear_gradient("L").save(unit_path(root, "tractography-figure", "sub-02", "sub-02"))
    quality = read_table(root / "cohort/quality.tsv")
    pages = {page["unit"]: page["figures"] for page in page_figures.subjects(root, quality, 9)}
    assert [len(pages[unit]) for unit in ("sub-01", "sub-02")] == [1, 2]
    assert "streamlines" in pages["sub-02"][1][0]
