"""What is read of a dataset, and what `m2m init` chooses by it: known answers."""

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from cohort_tree import SIX, add_dwi, dataset

from m2m.cohort.initialise import checked_text
from m2m.cohort.study_lines import plain, scalar, shape_of, shell_limit, spacing_of
from m2m.cohort.survey import Anatomical, Series, find_phenotypes, read_series, read_t1, survey
from m2m.diffusion import dwi
from m2m.io.bvalues import shells
from m2m.options import Config

ROOT = Path(__file__).parents[1]
THREE = ("sub-01", "sub-02", "sub-03")


# -- shells -----------------------------------------------------------------------------------------


def test_shells_are_read_with_their_directions_and_the_least_b_that_suffices(tmp_path):
    bvals = np.array([0, 5, *[995, 1005] * 3, *[2000] * 3, *[3000] * 6])
    bvecs = np.vstack([np.zeros((2, 3)), SIX, SIX[:3], SIX])
    path = add_dwi(tmp_path, "sub-01", bvals=bvals, bvecs=bvecs, data=np.ones((4, 5, 6, len(bvals))))
    found = read_series((path, *(path.with_name(f"sub-01_dwi.{kind}") for kind in ("bval", "bvec"))))
    assert found == Series((2, 2, 2), ((1000, 6), (2000, 3), (3000, 6)), 1000)
    bvals[2:8] = [995] * 3 + [2000] * 3
    path = add_dwi(tmp_path, "sub-01", bvals=bvals, bvecs=bvecs, data=np.ones((4, 5, 6, len(bvals))))
    found = read_series((path, *(path.with_name(f"sub-01_dwi.{kind}") for kind in ("bval", "bvec"))))
    assert found.shells == ((995, 3), (2000, 6), (3000, 6)) and found.least_b == 2000


def test_volumes_of_about_the_same_b_value_are_one_shell():
    found = shells(np.array([1100.0, 0, 2950, 1000, 50, 1201, 3000]), b0_threshold=50)
    assert [shell.tolist() for shell in found] == [[3, 0], [5], [2, 6]]
    assert shells(np.array([0.0, 50.0]), b0_threshold=50) == []


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What is found in a dataset of three with both scans."""
    return survey(dataset(tmp_path_factory.mktemp("ds"), *THREE))


def of_series(found, *least):
    """The same dataset with series that suffice from these b-values on."""
    return dataclasses.replace(found, series=[Series((2, 2, 2), ((b, 30),), b) for b in least])


@pytest.mark.parametrize(
    ("least", "limit"), [([1000], 1500), ([700, 2500], 1500), ([2000, 2000], 2000), ([2410, 3000], 2450)]
)
def test_the_limit_is_the_default_unless_no_series_can_be_fitted_below_it(found, least, limit):
    assert shell_limit(of_series(found, *least)) == limit


def test_what_is_fitted_above_the_limit_is_what_the_fit_takes(found):
    text = checked_text(of_series(found, 1000, 2000, 2500), "study", "s.json")
    assert "next shell that suffices: 2\n" in text
    bvals = np.array([0, *[2000] * 6])
    assert dwi.volumes_to_fit(bvals, np.vstack([np.zeros(3), SIX]), 50, 1500).all()


# -- grid -------------------------------------------------------------------------------------------


def test_the_field_of_view_is_along_the_axes_that_the_image_lies_on(tmp_path):
    affine = np.zeros((4, 4))
    affine[[1, 2, 0], [0, 1, 2]] = 1, -2, 3  # to the front, down, to the right
    path = tmp_path / "t1.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((11, 21, 31), np.uint8), affine), path)
    assert read_t1(path) == Anatomical((1, 2, 3), (90, 10, 40))


def on_grid(found, dwi_mm, t1_mm, view_mm):
    """The same dataset with other voxels and one field of view."""
    series = [Series((mm,) * 3, ((1000, 30),), 1000) for mm in dwi_mm]
    t1s = [Anatomical((mm,) * 3, view_mm) for mm in t1_mm]
    return dataclasses.replace(found, series=series, t1s=t1s)


@pytest.mark.parametrize(
    ("dwi_mm", "t1_mm", "spacing", "shape"),
    [
        ([3, 3, 3], [1, 1, 1], 3, (64, 80, 64)),
        ([1.25] * 3, [0.7] * 3, 1.25, (160, 192, 160)),
        ([0.9], [0.9], 1.25, (160, 192, 160)),
        ([2, 2.5, 4], [1], 2.5, (80, 96, 80)),
        ([2], [4], 4, (56, 64, 56)),
        ([9], [1], 5, (40, 56, 40)),
    ],
)
def test_the_grid_has_the_coarser_scans_voxels_and_room_for_a_brain(found, dwi_mm, t1_mm, spacing, shape):
    scans = on_grid(found, dwi_mm, t1_mm, (255, 255, 255))
    assert spacing_of(scans) == spacing
    assert shape_of(scans, spacing) == shape
    assert np.all((np.array(shape) - 1) * spacing >= [189, 237, 189])


def test_a_smaller_field_of_view_needs_no_more_than_itself(found):
    assert shape_of(on_grid(found, [2], [1], (150, 240, 95)), 2.0) == (80, 120, 56)


def of_number(found, number):
    """The same dataset with so many participants."""
    units = [found.units[0] | {"participant_id": f"sub-{i:04d}", "unit": f"sub-{i:04d}"} for i in range(number)]
    return dataclasses.replace(found, units=units)


@pytest.mark.parametrize(
    ("number", "shipped"), [(3, "config.yaml"), (99, "config.yaml"), (100, None), (1000, "config.paper.yaml")]
)
def test_the_network_follows_the_number_of_participants(found, number, shipped):
    text = checked_text(of_number(found, number), "study", "s.json")
    name = "m2m" if shipped == "config.yaml" else "macro2micro"
    model = yaml.safe_load(text)["models"][name]
    assert f"# {number} participants with both scans" in text
    if shipped is None:
        assert not {"network", "discriminators"} & set(model)
        return
    source = yaml.safe_load((ROOT / shipped).read_text())["models"][name]
    assert model["network"] == source["network"]
    assert model["discriminators"] == source["discriminators"]
    ours = {key: float(value) for key, value in model["training"].items() if key != "steps"}
    assert ours.items() <= {k: float(v) for k, v in source["training"].items() if k != "precision"}.items()


def test_frequencies_are_split_at_the_same_mm_on_every_grid(found):
    default = Config.model_validate(yaml.safe_load(checked_text(on_grid(found, [3], [1], (255,) * 3), "a", "s")))
    fine = Config.model_validate(yaml.safe_load(checked_text(on_grid(found, [1.25], [1], (255,) * 3), "a", "s")))
    sigma = [
        next(v for k, v in c.models["m2m"].losses.model_dump().items() if k.endswith("sigma_px"))
        for c in (default, fine)
    ]
    assert sigma == [1.5, 3.6]


def test_columns_are_numbers_or_classes_or_nothing():
    columns = {
        "age": ["30", "41", "41", "90+", None],
        "iq": ["99.5", "101.5", "99.5", "120.5", "99.5"],
        "score": [str(n) for n in range(5)],
        "sex": ["F", "M", "F", "M", None],
        "handed": ["1", "2", "1", "1", "1"],
        "id": list("abcde"),
        "scanner": ["prisma"] * 5,
        "site": ["a", "b", "a", "b", "a"],
        "family_id": ["f1", "f1", "f2", "f2", "f3"],
    }
    names = [f"sub-{i}" for i in range(5)]
    table = {name: [{"participant_id": name} | {c: v[i] for c, v in columns.items()}] for i, name in enumerate(names)}
    found = find_phenotypes(table, names)
    kinds = {one.name: (one.kind, len(one.values)) for one in found}
    assert kinds == {
        "age": ("regression", 3),
        "iq": ("regression", 5),
        "score": ("regression", 5),
        "sex": ("classification", 4),
        "handed": ("classification", 5),
    }
    assert not find_phenotypes(table, names[:1]), "what does not differ is no phenotype"


def test_cells_and_names_cannot_break_out_of_a_comment():
    assert plain("a\u2028b: c\x85 \x1b[0m\r\n") == "a b: c ?[0m"
    for text in ("no", "1", "a: b", "a #b", "{x}", "", "a,b", "ü", "- a", "x\ty"):
        assert yaml.safe_load(scalar(text)) == text
