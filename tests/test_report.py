"""The page: its numbers are the tables', it asks for nothing, and it can be read by everybody."""

import html
import re
from html.parser import HTMLParser

import pytest
import report_tree as tree
import yaml
from PIL import Image

from m2m import report
from m2m.options import Config, Report, load_config
from m2m.stage import read_table, write_text


class Page(HTMLParser):
    """Elements with their attributes, and tables as rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.words, self._cell = [], {}, [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if tag == "table":
            self.rows = self.tables.setdefault(attributes.get("id"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = tag

    def handle_endtag(self, tag):
        if tag == self._cell:
            self._cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self._cell:
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def write_page(root, simulated=True, title="A <study> & more", limit=60):
    for name in report.FIGURES:
        path = root / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.linear_gradient("L").save(path)
    report.main(
        root, tree.TASK, list(tree.MODELS), root / "figures", simulated,
        load_config("config.yaml").model_dump_json(), root / "report.html",
        Report(title=title, max_subject_pages=limit).model_dump_json(),
    )  # fmt: skip
    return (root / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tree.run_evaluation(tree.build(tmp_path_factory.mktemp("results") / "ds"))
    write_page(root)
    return root


@pytest.fixture(scope="module")
def text(root):
    return (root / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def numbers(cell):
    return [float(n.replace("−", "-")) for n in re.findall(r"[−-]?\d+\.\d+", cell)]


def test_every_number_of_the_summary_is_the_number_of_the_table(root, page):
    table = {
        (r["region"], r["metric"], r["model"]): r
        for r in read_table(root / "evaluation/t1-fa/summary.tsv")
    }
    regions = {name: key for key, name in report.REGIONS.items()}
    metrics = {name: key for key, (name, _, _) in report.METRICS.items()}
    header, *rows = page.tables["summary-table"]
    models, checked = header[2:-1], 0
    for region, metric, *cells, _ in rows:
        for model, cell in zip(models, cells, strict=True):
            row = table.pop((regions[region], metrics[metric], model), None)
            if row is None:
                assert cell == "n/a"
                continue
            digits = report.METRICS[metrics[metric]][1]
            expected = [round(float(row[key]), digits) for key in ("mean", "low", "high")]
            assert numbers(cell) == pytest.approx(expected, abs=1e-9)
            checked += 1
    assert checked > 40
    assert not table, "numbers that the page does not show"


def test_every_paired_difference_is_the_number_of_the_table(root, page):
    table = read_table(root / "evaluation/t1-fa/comparison.tsv")
    rows = page.tables["comparison-table"][1:]
    assert len(rows) == len(table)
    names = {key: name for key, (name, _, _) in report.METRICS.items()}
    shown = {(r[0], r[1], r[2]): r[3] for r in rows}
    for row in table:
        key = f"{row['model']} − {row['baseline']}", report.REGIONS[row["region"]]
        digits = report.METRICS[row["metric"]][1]
        expected = [round(float(row[k]), digits) for k in ("difference", "low", "high")]
        assert numbers(shown[*key, names[row["metric"]]]) == pytest.approx(expected, abs=1e-9)


def test_no_request_leaves_the_page(text, page):
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} {name}"
            if name in ("src", "href", "srcset", "poster", "action", "data"):
                assert value.startswith(("data:image/", "#")), f"{tag} {name}={value[:40]}"
    assert "url(" not in text and "@import" not in text


def test_every_image_has_words_and_every_link_an_end(page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == len(report.FIGURES) + 12
    assert all(len(attributes["alt"]) > 20 for attributes in images)
    targets = {attributes.get("id") for _, attributes in page.elements}
    for tag, attributes in page.elements:
        if tag == "a":
            assert attributes["href"].removeprefix("#") in targets


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


def test_words_from_tables_and_titles_cannot_become_markup(text, page):
    assert "<study>" not in text and "A <study> & more" in page.text
    assert "<add>" not in text and "<add> the series & run again" in page.text


def test_the_headline_says_what_the_intervals_say(page):
    assert (
        "On 6 test subjects, macro2micro is better than mean in brain SSIM, brain PSNR (dB) and "
        "ROI concordance; it is better than t1 in brain SSIM, brain PSNR (dB) and ROI concordance."
    ) in page.text


@pytest.mark.parametrize(
    ("metric", "low", "high", "words"),
    [
        ("ssim", "0.1", "0.2", "better"),
        ("ssim", "-0.2", "-0.1", "worse"),
        ("mae", "-0.2", "-0.1", "better"),
        ("mae", "0.1", "0.2", "worse"),
        ("psnr", "-0.1", "0.2", "not told apart"),
        ("psnr", None, None, "too few subjects"),
    ],
)
def test_a_verdict_follows_the_interval_and_the_metrics_direction(metric, low, high, words):
    assert report.verdict({"metric": metric, "low": low, "high": high}) == words


def test_the_page_says_who_took_part_and_what_it_is_not(page):
    for words in (
        "n_input", "n_failed", "n_excluded", "n_used", "has no DWI", "macro2micro: n_input",
        "Simulated people: shows that the machinery works", "Not a medical device",
        "snakemake --cores all",
    ):  # fmt: skip
        assert words in page.text


def test_real_people_are_not_called_simulated(root):
    assert "Simulated people" not in write_page(root, simulated=False)
    write_page(root)


def test_a_failed_unit_comes_first_with_its_reason_and_pages_are_limited(root):
    quality = read_table(root / "cohort/quality.tsv")
    quality[3] |= {"state": "failed", "reason": "no brain found", "unit": "sub-77"}
    pages = report.subjects(root, quality, 4)
    assert [page["unit"] for page in pages] == ["sub-77", "sub-06", "sub-07", "sub-08"]
    assert (pages[0]["reason"], pages[0]["picture"]) == ("no brain found", None)
    assert ("DWI coverage", "0.970") in pages[1]["numbers"]


def test_a_large_picture_is_made_small(tmp_path):
    path = tmp_path / "large.png"
    Image.effect_noise((2400, 1600), 60).save(path)
    assert len(report.data_uri(path, 1000, "JPEG")) < path.stat().st_size / 5
    write_text(tmp_path / "failed.png", "")
    assert report.data_uri(tmp_path / "failed.png", 1000, "JPEG") is None


def test_the_configuration_in_the_page_makes_the_same_study(text):
    shown = re.search(r"<summary>Configuration</summary>\s*<pre><code>(.*?)</code>", text, re.S)
    config = Config.model_validate(yaml.safe_load(html.unescape(shown.group(1))))
    assert config == load_config("config.yaml")


def test_a_study_without_test_subjects_still_has_its_page(tmp_path):
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "validation"})
    tree.run_evaluation(root)
    page = Page(write_page(root))
    assert "Nothing to evaluate" in page.text
    assert "sub-01" in page.text


def test_a_study_without_regions_says_so(tmp_path):
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "test"})
    tree.run_evaluation(root, options="{}")
    assert "ROI concordance was not computed" in Page(write_page(root)).text
