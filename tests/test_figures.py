"""Figures: always written with their source data, and labelled where participants are simulated."""

import re

import numpy as np
import pytest
import report_tree as tree
from matplotlib.colors import to_rgb
from nibabel.streamlines import ArraySequence
from PIL import Image

from m2m.evaluate.measured_maps import compared
from m2m.figures import cohort_flow, study, style, training_curves, views
from m2m.figures.draw import draw_page
from m2m.figures.figure_records import paths_of_page
from m2m.io.bids import unit_path
from m2m.io.files import write_text
from m2m.io.tables import read_table
from m2m.options import Task

NAMES = paths_of_page({name: task.target for name, task in tree.TASKS.items()}, uses_low_res=False)
# Nothing is trained in a cascade, and the tree has no atlas.
EMPTY = {"t1-fa-tdi/training", *(name for name in NAMES if name.endswith("/bundle_profiles"))}


def draw(root, simulated=True, tasks=tree.TASKS):
    folder = root / "cohort"
    draw_page(
        root,
        tree.some_tasks(*tasks),
        folder / "units.tsv",
        folder / "split.tsv",
        folder / "split.json",
        folder / "quality.tsv",
        folder / "flow.json",
        root / "figures",
        simulated,
    )
    return root / "figures"


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Low resolution: these tests check numbers, not images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(style.RC, "savefig.dpi", 50)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return draw(tree.study(tmp_path_factory.mktemp("results") / "ds"))


def test_every_figure_of_the_report_is_drawn_and_no_other(drawn):
    assert sorted(str(p.relative_to(drawn).with_suffix("")) for p in drawn.rglob("*.png")) == (sorted(NAMES))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in EMPTY])
def test_each_figure_has_a_pdf_a_png_and_source_data(drawn, name):
    pdf = (drawn / f"{name}.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and pdf.rstrip().endswith(b"%%EOF")
    # TrueType fonts, embedded: Type 3 fonts are refused by journals.
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    with Image.open(drawn / f"{name}.png") as image:
        pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] in (round(style.DOUBLE_MM / 25.4 * 50), 360)
    assert pixels.std() > 5
    assert read_table(drawn / f"{name}.tsv")


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_one_or_two_columns_wide_and_an_svg_needs_no_font(drawn, name):
    svg = (drawn / f"{name}.svg").read_text()
    points = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)[1]
    pdf = (drawn / f"{name}.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf)[1]
    for width in (float(points), float(box)):
        assert round(width / 72 * 25.4, 1) in (style.SINGLE_MM, style.DOUBLE_MM)
    assert "<text" not in svg and "font-family" not in svg and "<use" in svg


def test_a_figure_of_another_width_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="120"):
        style.save(style.new_figure(120, 50), [], ["x"], tmp_path / "a", "")


def test_a_figure_saved_twice_is_the_same_file_though_a_layout_differs_in_its_last_bits(tmp_path):
    for name, bits in (("a", 0), ("b", 1e-14)):
        with style.paper_style():
            figure = style.new_figure(style.SINGLE_MM, 40)
            figure.get_layout_engine().set(w_pad=0.04 + bits)
            for axes in figure.subplots(1, 2):
                axes.plot([1, 3, 2])
            style.save(figure, [], ["x"], tmp_path / name, "note")
    svg = (tmp_path / "a.svg").read_text()
    clips = [re.findall(name, svg) for name in (r'<clipPath id="(.*?)"', r"url\(#(.*?)\)")]
    assert set(clips[0]) == set(clips[1]) == {"clip0", "clip1"}
    for ending in style.FORMATS:
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_no_two_models_share_a_colour_and_all_are_distinguishable_in_grey():
    used = list(style.colours(["macro2micro", "mean", "t1"]).values())
    assert len(set(used)) == 3
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in used]
    assert min(abs(a - b) for i, a in enumerate(grey) for b in grey[:i]) > 0.05


def test_the_metrics_drawn_are_the_metrics_measured(drawn):
    measured = read_table(drawn.parent / "evaluate/t1-fa/mean/metrics.tsv")
    expected = {r["participant_id"]: float(r["ssim"]) for r in measured if r["region"] == "brain"}
    shown = {
        r["participant_id"]: float(r["value"])
        for r in read_table(drawn / "t1-fa/metrics.tsv")
        if (r["model"], r["region"], r["metric"]) == ("mean", "brain", "ssim")
    }
    assert shown == expected


def test_the_profile_is_the_mean_over_participants(drawn):
    rows = read_table(drawn.parent / "evaluate/t1-fa/t1/profile.tsv")
    expected = np.mean([float(r["mae"]) for r in rows if float(r["offset_mm"]) == 0])
    (shown,) = [
        r
        for r in read_table(drawn / "t1-fa/profile.tsv")
        if (r["model"], r["metric"]) == ("t1", "mae") and float(r["offset_mm"]) == 0
    ]
    assert float(shown["mean"]) == pytest.approx(expected, rel=1e-4)
    assert float(shown["low"]) <= float(shown["mean"]) <= float(shown["high"])
    assert shown["n_subjects"] == "6"


def test_dots_of_agreement_are_differences_and_lines_their_bias_and_limits(drawn):
    measured = read_table(drawn.parent / "evaluate/t1-fa/t1/rois.tsv")
    differences = [float(r["synthetic"]) - float(r["reference"]) for r in measured]
    shown = [r for r in read_table(drawn / "t1-fa/agreement.tsv") if r["model"] == "t1"]
    assert [float(r["difference"]) for r in shown] == pytest.approx(differences, abs=1e-5)
    means = [(float(r["synthetic"]) + float(r["reference"])) / 2 for r in measured]
    assert [float(r["mean"]) for r in shown] == pytest.approx(means, rel=1e-4)
    reach = 1.96 * np.std(differences, ddof=1)
    line = [float(shown[0][key]) for key in ("bias", "low", "high")]
    assert line == pytest.approx(np.mean(differences) + np.array([0, -reach, reach]), abs=1e-5)


def test_the_spectrum_drawn_is_the_mean_over_participants(drawn):
    measured = read_table(drawn.parent / "evaluate/t1-fa/mean/spectrum.tsv")
    place = measured[12]["frequency_per_mm"]
    own = [r for r in measured if r["frequency_per_mm"] == place]
    power = {k: np.array([float(r[f"{k}_power"]) for r in own]) for k in ("reference", "synthetic")}
    shown = {
        r["quantity"]: r
        for r in read_table(drawn / "t1-fa/spectrum.tsv")
        if (r["model"], r["frequency_per_mm"]) == ("mean", place)
    }
    ratio = np.exp(np.mean(np.log(power["synthetic"] / power["reference"])))
    assert float(shown["power_ratio"]["mean"]) == pytest.approx(ratio, rel=1e-4)
    coherence = np.mean([float(r["coherence"]) for r in own])
    assert float(shown["coherence"]["mean"]) == pytest.approx(coherence, rel=1e-4)
    assert shown["power"]["n_subjects"] == "6"


def test_the_uncertainty_drawn_is_that_of_the_models_that_have_one(drawn):
    rows = read_table(drawn / "t1-fa/uncertainty.tsv")
    assert {r["model"] for r in rows} == {"macro2micro", "mean"}
    (kept,) = [r for r in rows if (r["model"], r["curve"], r["x"]) == ("mean", "retention", "1")]
    maes = [
        float(r["mae"]) for r in read_table(drawn.parent / "evaluate/t1-fa/mean/metrics.tsv") if r["region"] == "brain"
    ]
    assert float(kept["y"]) == pytest.approx(np.mean(maes), rel=1e-4)


def test_the_maps_of_uncertainty_are_the_error_and_the_standard_deviation_of_the_median_participant(drawn):
    rows = [r for r in read_table(drawn / "t1-dti/uncertainty.tsv") if r["unit"]]
    panel = {r["rank"]: r["unit"] for r in read_table(drawn / "t1-dti/panel.tsv")}
    assert {r["unit"] for r in rows} == {panel["median"]}
    by_curve = {r["curve"]: float(r["y"]) for r in rows if r["x"] == "0"}
    assert by_curve["sd_map"] == pytest.approx(tree.FA_ERROR, rel=1e-4)
    assert by_curve["error_map"] > 0


def test_many_models_are_drawn_in_lines_of_axial_slices(drawn, tmp_path, monkeypatch):
    """Names are long and colours repeat, but every model has a unique combination of colour and marker."""
    root = drawn.parent
    names = ["macro2micro", *(f"discriminators-{i:02d}" for i in range(11))]
    for kind in ("synthetic", "evaluate", "models"):
        (tmp_path / kind / "t1-fa").mkdir(parents=True)
        for name in names:
            (tmp_path / kind / "t1-fa" / name).symlink_to(root / kind / "t1-fa/macro2micro")
    for table in ("summary", "comparison"):
        (tmp_path / f"evaluate/t1-fa/{table}.tsv").symlink_to(root / f"evaluate/t1-fa/{table}.tsv")
    for folder in (*root.glob("sub-*"), root / "cohort", root / "truth"):
        (tmp_path / folder.name).symlink_to(folder)
    monkeypatch.setitem(tree.TASKS, "t1-fa", Task(models=names))
    folder = draw(tmp_path, tasks=["t1-fa"]) / "t1-fa"
    rows = read_table(folder / "panel.tsv")
    assert {row["plane"] for row in rows} == {"axial"}
    errors = {f"{name} error" for name in names}
    assert {row["column"] for row in rows} == {"t1", "measured", *names, *errors}
    looks = {(style.colours(names)[name], style.marker(i)) for i, name in enumerate(names)}
    lines = {(style.colours(names)[name], style.dashes(i)) for i, name in enumerate(names)}
    assert len(looks) == len(lines) == 12


def test_the_panel_shows_the_best_the_median_and_the_worst_by_the_first_model(drawn):
    rows = read_table(drawn.parent / "evaluate/t1-fa/macro2micro/metrics.tsv")
    ssim = {r["unit"]: float(r["ssim"]) for r in rows if r["region"] == "brain"}
    shown = {r["rank"]: r["unit"] for r in read_table(drawn / "t1-fa/panel.tsv")}
    assert ssim[shown["best"]] == max(ssim.values())
    assert ssim[shown["worst"]] == min(ssim.values())
    assert ssim[shown["worst"]] < ssim[shown["median"]] < ssim[shown["best"]]


def test_ranking_never_shows_one_unit_twice():
    assert study.ranked({}) == {}
    assert study.ranked({"a": 0.9}) == {"best": "a"}
    assert study.ranked({"a": 0.9, "b": 0.8}) == {"best": "a", "worst": "b"}


def test_a_slice_is_shown_with_the_front_up_and_the_right_to_the_right():
    image = np.zeros((4, 5, 6))
    image[3, 4, 2] = 1
    axial = views.cut(image, "axial", 2)
    assert axial.shape == (5, 4)
    assert axial[-1, -1] == 1  # drawn with the origin at the lower left


def test_the_flow_counts_every_participant_once(drawn):
    rows = read_table(drawn / "flow.tsv")
    n = {row["detail"]: int(row["n"]) for row in rows}
    steps = {row["step"]: int(row["n"]) for row in rows}
    left = sum(int(r["n"]) for r in rows if r["step"] == "left")
    assert (steps["input"], steps["paired"], steps["used"]) == (13, 12, 12)
    assert steps["input"] - left == steps["paired"]
    assert (n["train"], n["validation"], n["test"], steps["evaluated"]) == (5, 1, 6, 6)


def test_failed_and_excluded_units_leave_the_flow_between_paired_and_used():
    units = [{"unit": str(i), "participant_id": str(i), "state": "paired"} for i in range(5)]
    states = ("used", "used", "failed", "excluded", "incomplete")
    quality = [{"unit": str(i), "state": state} for i, state in enumerate(states)]
    steps = cohort_flow.cohort_steps(units, dict.fromkeys("01234", "test"), quality, 2)
    assert [r["n"] for r in steps if r["step"] == "lost"] == [1, 1, 1]
    assert [r["n"] for r in steps if r["step"] == "part"] == [0, 0, 2]


def test_every_step_of_training_is_drawn(drawn):
    rows = read_table(drawn / "t1-fa/training.tsv")
    names = {row["name"] for row in rows}
    assert names == {"l1", "l1_low_frequency", "grad_norm/generator", "brain_mae"}
    assert {row["model"] for row in rows if row["step"] is None} == {"mean", "t1"}
    assert sum(row["name"] == "l1" for row in rows) == 20


def test_nested_training_records_become_one_name_each(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 3, "split": "train", "grad_norm": {"generator": 2.0}, "ok": true}\n')
    (row,) = training_curves.read_curves(path, "m")
    assert (row["name"], row["value"], row["step"]) == ("grad_norm/generator", 2.0, 3)


@pytest.fixture
def empty_study(tmp_path):
    """No test participant, and no model trained in steps."""
    root = tree.build(tmp_path / "ds", {"sub-01": "train", "sub-02": "validation"}, tree.TASKS)
    for task in tree.TASKS:
        if not tree.TASKS[task].cascade:
            write_text(root / "models" / task / "macro2micro/metrics.jsonl", "")
        tree.run_evaluation(root, task=task)
    return root


def test_every_figure_states_that_participants_are_simulated_only_if_they_are(empty_study, monkeypatch):
    notes = []
    monkeypatch.setattr("m2m.figures.style.save", lambda *arguments: notes.append(arguments[-1]))
    draw(empty_study, simulated=True, tasks=[tree.TASK])
    of_task = [name for name in NAMES if name.startswith(f"{tree.TASK}/")]
    assert len(notes) == len(of_task) + 2  # and flow and quality
    assert all("no evidence about real brains" in note and "n_used 2" in note for note in notes)
    notes.clear()
    draw(empty_study, simulated=False, tasks=[tree.TASK])
    assert all(note.startswith("n_input 3") for note in notes)


def test_without_test_participants_every_figure_has_a_message(empty_study):
    folder = draw(empty_study, simulated=False)
    for name in NAMES:
        assert all((folder / f"{name}.{end}").stat().st_size for end in (*style.FORMATS, "tsv"))
    assert read_table(folder / "t1-fa/panel.tsv") == []
    assert (folder / "t1-fa/panel.tsv").read_text().startswith("rank\tunit")


def test_the_projected_density_is_the_largest_along_each_ray(drawn):
    root = drawn.parent
    rows = [r for r in read_table(drawn / "fa-tdi/projections.tsv") if (r["rank"], r["plane"]) == ("best", "coronal")]
    unit = rows[0]["unit"]
    brain = tree.load(unit_path(root, "target-mask", unit, unit)) > 0
    expected = {}
    for column, path in {
        "measured": unit_path(root, "tdi", unit, unit),
        "macro2micro": unit_path(root / "synthetic/fa-tdi/macro2micro", "synth-tdi", unit, unit),
    }.items():
        density = np.where(brain, tree.load(path), 0).max(axis=1)
        expected[column] = (np.log1p(density) / np.log(101))[brain.any(axis=1)].mean()
    expected["difference"] = expected["macro2micro"] - expected["measured"]
    shown = {row["column"]: float(row["value"]) for row in rows}
    assert shown == pytest.approx(expected, rel=1e-4)


def test_streamlines_are_drawn_where_they_exist(drawn):
    rows = read_table(drawn / "t1-dti/projections.tsv")
    drawn_lines = {r["column"]: int(r["value"]) for r in rows if r["quantity"] == "streamlines"}
    n = 150 * len(tree.BUNDLES)
    assert drawn_lines == {"measured": n, "macro2micro": n, "difference": 0}


def test_the_bundles_drawn_are_the_bundles_measured(drawn):
    shown = [
        {key: value for key, value in row.items() if key != "model"}
        for row in read_table(drawn / "t1-dti/bundles.tsv")
        if row["model"] == "mean"
    ]
    measured = read_table(drawn.parent / "evaluate/t1-dti/mean/bundles.tsv")
    assert shown == [{"participant_id": row.pop("unit"), **row} for row in measured]


def test_the_error_of_a_tensor_in_the_panel_is_that_of_its_fa(drawn):
    rows = read_table(drawn / "t1-dti/panel.tsv")
    own = [r for r in rows if (r["rank"], r["plane"]) == ("worst", "axial")]
    columns = {row["column"]: row for row in own}
    first = ["macro2micro", "macro2micro error", "macro2micro SD"]
    assert list(columns) == ["t1", "measured", *first, "mean", "mean error"]
    assert float(columns["macro2micro SD"]["mean"]) == pytest.approx(tree.FA_ERROR, rel=1e-3)
    fa = float(columns["measured"]["mean"])
    assert 0.1 < fa < 0.6
    assert 0 < float(columns["mean error"]["mean_absolute_error"]) < fa


def test_a_cascade_has_no_training_curves_of_its_own(drawn):
    assert read_table(drawn / "t1-fa-tdi/training.tsv") == []
    assert read_table(drawn / "fa-tdi/training.tsv")


def test_direction_gives_the_colour_and_fa_the_brightness():
    six = np.zeros((2, 1, 1, 6))
    six[0, 0, 0] = 1e-3 * np.array([1.0, 0, 0, 0.6, 0, 0.6])  # along x
    six[1, 0, 0] = 1e-3 * np.array([0.5, 0, 0, 0.5, 0, 0.5])  # no direction
    one = compared("dti", six)
    look = views.LOOKS["dti"]
    colours = look.render(one)
    assert colours[0, 0, 0] == pytest.approx([one.image[0, 0, 0] / look.top, 0, 0], abs=1e-6)
    assert 0.3 < colours[0, 0, 0, 0] < 1
    assert colours[1, 0, 0] == pytest.approx(0, abs=1e-6)


def test_a_ray_has_the_colour_of_its_largest_value():
    by, colours = np.zeros((2, 3, 4)), np.zeros((2, 3, 4, 3))
    by[1, 2, 0], by[1, 2, 3] = 0.4, 0.9
    colours[1, 2, 0], colours[1, 2, 3] = (1, 0, 0), (0, 0, 1)
    axial = views.project_colours(colours, by, "axial")
    assert axial.shape == (3, 2, 3)
    assert axial[2, 1].tolist() == [0, 0, 1]


def test_streamlines_are_projected_to_pixels_of_a_millimetre_with_their_direction():
    affine = np.diag([2.0, 2, 2, 1])
    line = np.array([[2.0, 4, 6], [3, 4, 6], [4, 4, 6]], np.float32)  # along x
    elsewhere = np.array([[2.0, 4, 2], [2, 4, 3], [90, 4, 3]], np.float32)
    lines = ArraySequence([line, elsewhere])
    start, size = np.array([0, 1, 0]), np.array([4, 4, 5])
    colours, count = views.draw_streamlines(lines, affine, start, size, "axial")
    # Voxel 0 reaches from -1 to 1 mm; the box starts at y = 1 mm. Middles at x = 2.5 and 3.5.
    assert count.shape == (8, 8)
    assert count[3, [3, 4]].tolist() == [2, 1]
    assert count.sum() == 3
    assert colours[3, 4].tolist() == [1, 0, 0]
