"""Damaged scans of a simulated participant: each kind gives a named finding or the right maps."""

import gzip
import json
import shutil

import bad_input as bad
import nibabel as nib
import numpy as np
import pytest
from bad_input import dwi, rewrite, scans, t1
from bad_scans import patch
from cohort_tree import dataset, index_and_validate
from nibabel.affines import apply_affine

from m2m.cohort import quality
from m2m.diffusion import dti, tractography
from m2m.io.bids import KINDS, slices_path
from m2m.io.files import read_json
from m2m.io.volume import Volume, load, resample
from m2m.options import Anat, Dti, Phantom, Tractography
from m2m.phantom import simulate as phantom
from m2m.structural import anat, coregistration, slices

PHANTOM = {"t1_spacing_mm": 4, "dwi_spacing_mm": 4, "n_directions": 12, "n_b0": 1}
ANAT = {"spacing_mm": 5, "shape": [40, 48, 40]}
FEW_SEEDS = {"seeds_per_voxel": 1, "seed_fa": 0.6}
DTI_MAPS = ("fa", "md", "ad", "rd", "v1", "tensor")


def reverse_row(folder):
    table = np.loadtxt(dwi(folder, "bvec"))
    np.savetxt(dwi(folder, "bvec"), table * [[-1], [1], [1]], fmt="%.6f")


def rescale(factor):
    """Multiply the b-values of a table."""
    return lambda folder: np.savetxt(dwi(folder, "bval"), np.loadtxt(dwi(folder, "bval"))[None] * factor, fmt="%g")


def exchange(*rows):
    """Put the rows of a table of directions into another order."""
    return lambda folder: np.savetxt(dwi(folder, "bvec"), np.loadtxt(dwi(folder, "bvec"))[list(rows)], fmt="%.6f")


def change(which, *arguments, **options):
    return lambda folder: rewrite(which(folder), *arguments, **options)


def both(damage):
    return lambda folder: [rewrite(path, damage) for path in scans(folder)]


SLAB = np.s_[0:48, 0:57, 20:24]
# Series that give the FA and the directions of the undamaged one.
RIGHT_SERIES = {
    "series oblique": change(dwi, bad.oblique),
    "series stored the other way": change(dwi, bad.neurological),
    "series of 2 x 2 x 4 mm": change(dwi, bad.finer(2, 2, 1)),
    "series of 0.5 mm": lambda f: (
        rewrite(dwi(f), bad.cut(np.s_[16:32], np.s_[20:36], np.s_[20:26])),
        rewrite(dwi(f), bad.finer(8, 8, 8)),
    ),
    "series in a huge field of view": change(dwi, bad.padded(30)),
    "series with negatives in the air": change(dwi, bad.with_negatives),
    "series in double precision": change(dwi, dtype=np.float64),
    "series with slope zero": lambda f: patch(dwi(f), 112, "<f", 0),
    "no JSON": lambda f: [p.with_name(p.name.replace("nii.gz", "json")).unlink() for p in scans(f)],
    "broken JSON": lambda f: dwi(f, "json").write_text("{"),
}
# Series that pass the cohort's checks, and the finding of the fit.
BAD_SERIES = {
    "series mirrored by its affine": (change(dwi, bad.mirrored), "better with x reversed"),
    "row of bvec with the other sign": (reverse_row, "better with x reversed"),
    "series of 2 x 2 x 2 voxels": (
        change(dwi, bad.cut(np.s_[24:26], np.s_[28:30], np.s_[22:24])),
        "not that of brain tissue",
    ),
}
# T1s in which the brain of the undamaged one is found.
RIGHT_T1 = {
    "T1 oblique": change(t1, bad.oblique),
    "T1 stored the other way": change(t1, bad.neurological),
    "T1 of 1 mm": change(t1, bad.finer(4, 4, 4)),
    "T1 of 0.5 x 0.5 x 4 mm": change(t1, bad.finer(8, 8, 1)),
    "T1 in a huge field of view": change(t1, bad.padded(30)),
    "T1 with negatives in the air": change(t1, bad.with_negatives),
    "T1 with slope zero": lambda f: patch(t1(f), 112, "<f", 0),
}
# Of the judgement of a fit: numbers that a sound series cannot have.
BAD_SERIES |= {
    "weighted volumes one place later": (
        change(dwi, bad.reordered(lambda n: np.r_[0, n - 1, 1 : n - 1])),
        "volumes are in another order than the gradient table",
    ),
    "weighted volumes in no order": (
        change(dwi, bad.reordered(lambda n: np.r_[0, 1 + np.random.default_rng(3).permutation(n - 1)])),
        "no better than directions in random order",
    ),
    "b0 last, first in the table": (
        change(dwi, bad.reordered(lambda n: np.r_[1:n, 0])),
        "volumes are in another order than the gradient table",
    ),
    "series without weighting": (change(dwi, bad.unweighted), "less signal than a weighted one"),
    "b-values of half the size": (rescale(0.5), "not that of brain tissue"),
    "b-values of a tenth": (rescale(0.1), "not that of brain tissue"),
    "b-values of ten times the size": (rescale(10), "not that of brain tissue"),
    "rows x and y of bvec exchanged": (exchange(1, 0, 2), "better with its rows as y, x, z"),
    "rows of bvec one place on": (exchange(1, 2, 0), "better with its rows as z, x, y"),
    "rows of bvec one place back": (exchange(2, 0, 1), "better with its rows as y, z, x"),
}
BAD_T1 = {
    "T1 of noise": (change(t1, bad.noise), "brain volume"),
    "T1 with its voxels shuffled": (change(t1, bad.shuffled), "brain volume"),
    "T1 of a few slices": (change(t1, bad.cut(*SLAB)), "covers too little of the head"),
    "T1 of 2 x 2 x 2 voxels": (change(t1, bad.cut(np.s_[24:26], np.s_[28:30], np.s_[22:24])), "covers too little"),
}
# Of the registration's orientation: heads that lie otherwise than their header says.
BAD_T1 |= {
    "T1 on its back": (change(t1, bad.rotated((1, 2))), "does not lie as the header says"),
    "T1 rotated by 180 degrees about z": (change(t1, bad.rotated((0, 1), (0, 1))), "does not lie as the header says"),
    "T1 upside down": (change(t1, bad.rotated((1, 2), (1, 2))), "does not lie as the header says"),
    "T1 sagittal as axial": (change(t1, bad.rotated((0, 1), (0, 2))), "does not lie as the header says"),
}
# Both scans are processed by all stages.
PAIRS = {
    "series of a few slices": (change(dwi, bad.cut(*SLAB)), "DWI covers"),
    "both oblique": (both(bad.oblique), None),
    "text in every header": (bad.with_header_text, None),
}
KINDS_OF_DAMAGE = {
    **RIGHT_SERIES,
    **RIGHT_T1,
    **{kind: damage for kind, (damage, _) in (BAD_SERIES | BAD_T1 | PAIRS).items()},
}


class Cohort:
    """All participants' scans and the results of the stages; a stage runs when its result is first needed."""

    def __init__(self, out):
        self.out, self.root = out, dataset(out / "ds")
        self.subjects = {kind: f"sub-bad{i}" for i, kind in enumerate(KINDS_OF_DAMAGE)}
        self.subjects["good"] = "sub-ok"
        sound = out / "sub-sound"
        simulate(sound, out / "truth")
        for kind, subject in self.subjects.items():
            for path in filter(lambda path: path.is_file(), sound.rglob("*")):
                copied = self.root / subject / path.parent.name / path.name
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copied.with_name(path.name.replace(sound.name, subject)))
            if kind != "good":
                KINDS_OF_DAMAGE[kind](self.root / subject)
        self.units, self.findings = index_and_validate(self.root, out)

    def path(self, kind, name):
        """Path of one of a participant's maps."""
        datatype, file = KINDS[name]
        subject = self.subjects[kind]
        return self.out / "results" / subject / datatype / f"{subject}_{file}"

    def status(self, kind, stage):
        """Status of a stage, which runs if it has not run yet."""
        path = self.path(kind, f"{stage}-status")
        if not path.exists():
            getattr(self, f"_{stage}")(kind, path)
        return read_json(path)

    def load(self, kind, name):
        """Load a map; a map with NaN does not load."""
        return load(self.path(kind, name))

    def _dti(self, kind, status):
        row = self.units[self.subjects[kind]]
        maps = {name: self.path(kind, f"dwi-{name}") for name in DTI_MAPS}
        dti.fit_unit(
            self.subjects[kind],
            row["dwi"],
            row["bval"],
            row["bvec"],
            **maps,
            mask=self.path(kind, "dwi-mask"),
            b0=self.path(kind, "b0"),
            status=status,
            section=Dti(),
        )

    def _tractography(self, kind, status):
        row = self.units[self.subjects[kind]]
        names = ("dwi-tensor", "dwi-mask", "tractogram", "tractography-figure")
        tractography.track_unit(
            self.subjects[kind],
            *(self.path(kind, name) for name in names),
            status,
            Tractography.model_validate(FEW_SEEDS),
            scan=(row["dwi"], row["bval"], row["bvec"]),
        )

    def _anat(self, kind, status):
        maps = [self.path(kind, name) for name in ("t1w", "brain", "wm")]
        row = self.units[self.subjects[kind]]
        anat.prepare_unit(self.subjects[kind], row["t1w"], *maps, status, Anat.model_validate(ANAT))

    def _grid(self, kind, status):
        for stage in ("anat", "dti"):
            self.status(kind, stage)
        root, subject = self.out / "results", self.subjects[kind]
        assert status == self.path(kind, "grid-status")
        coregistration.main(root, subject, options="{}")
        slices.main(root, subject, options="{}")


def simulate(folder, truth, label="0001"):
    """Write one participant's raw scans."""
    files = [t1(folder), *(dwi(folder, kind) for kind in ("nii.gz", "bval", "bvec"))]
    truths = [truth / f"{name}.nii.gz" for name in ("fa", "tensor", "bundles")]
    phantom.simulate_participant(label, *files, *truths, Phantom.model_validate(PHANTOM))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return Cohort(tmp_path_factory.mktemp("bad-input"))


def in_good(cohort, kind, name, world, order=0):
    """Map of a damaged participant on the grid of the undamaged one, its rotation inverted."""
    like = cohort.load("good", name)
    return resample(cohort.load(kind, name), like.affine, like.shape, world, order).data


def test_these_defects_pass_the_checks_of_the_cohort(cohort):
    states = {kind: cohort.units[subject]["state"] for kind, subject in cohort.subjects.items()}
    assert set(states.values()) == {"paired"}, states
    assert {f["severity"] for f in cohort.findings} <= {"note"}


@pytest.mark.parametrize("kind", RIGHT_SERIES)
def test_the_fa_and_the_directions_are_those_of_the_undamaged_series(cohort, kind):
    assert cohort.status("good", "dti")["status"] == cohort.status(kind, "dti")["status"] == "ok"
    world = bad.ROTATION if "oblique" in kind else np.eye(4)
    both_masks = (in_good(cohort, kind, "dwi-mask", world) > 0) & (cohort.load("good", "dwi-mask").data > 0)
    assert both_masks.sum() > (0.95 * 17000 if "0.5" not in kind else 500)
    fa, good = in_good(cohort, kind, "dwi-fa", world), cohort.load("good", "dwi-fa").data
    np.testing.assert_allclose(fa[both_masks], good[both_masks], atol=2e-3)
    v1, good_v1 = in_good(cohort, kind, "dwi-v1", world), cohort.load("good", "dwi-v1").data
    fibres = both_masks & (good > 0.3)
    assert np.abs((v1 @ world[:3, :3] * good_v1).sum(-1))[fibres].min() > 0.999


@pytest.mark.parametrize("kind", BAD_SERIES)
def test_a_series_that_cannot_be_right_fails_with_a_finding(cohort, kind):
    status = cohort.status(kind, "dti")
    assert status["status"] == "failed"
    finding = status["finding"]
    assert BAD_SERIES[kind][1] in finding["problem"]
    assert cohort.subjects[kind] in finding["file"] and finding["remedy"]
    assert cohort.path(kind, "dwi-fa").stat().st_size == 0


@pytest.mark.parametrize("kind", RIGHT_T1)
def test_the_brain_is_that_of_the_undamaged_t1(cohort, kind):
    status, good = cohort.status(kind, "anat"), cohort.status("good", "anat")
    assert status["status"] == "ok" and status["excluded"] == []
    assert status["brain_volume_l"] == pytest.approx(good["brain_volume_l"], rel=0.05)
    world = bad.ROTATION if "oblique" in kind else np.eye(4)
    points = apply_affine(world, apply_affine(*_grid_of(cohort.load("good", "brain"))))
    found = apply_affine(np.array(status["grid_to_mni"]), points)
    expected = apply_affine(np.array(good["grid_to_mni"]) @ np.linalg.inv(world), points)
    assert np.linalg.norm(found - expected, axis=1).mean() < 4
    brain, own = in_good(cohort, kind, "brain", world), cohort.load("good", "brain").data
    assert 2 * ((brain > 0) & (own > 0)).sum() / ((brain > 0).sum() + (own > 0).sum()) > 0.95


def _grid_of(volume: Volume):
    return volume.affine, np.argwhere(volume.data > 0)


@pytest.mark.parametrize("kind", BAD_T1)
def test_a_t1_that_cannot_be_right_fails_with_a_finding(cohort, kind):
    status = cohort.status(kind, "anat")
    assert status["status"] == "failed" or status["excluded"]
    text = json.dumps(status)
    assert BAD_T1[kind][1] in text


@pytest.mark.parametrize("kind", ["good", *PAIRS])
def test_a_pair_is_processed_by_all_stages_or_excluded_with_the_reason(cohort, kind):
    reason = PAIRS[kind][1] if kind in PAIRS else None
    status = cohort.status(kind, "grid")
    assert status["status"] == "ok"
    assert [r for r in status["excluded"] if reason and reason in r] == status["excluded"]
    row = cohort.units[cohort.subjects[kind]]
    statuses = quality.read_statuses(cohort.out / "results", row)
    assert quality.outcome(row, statuses)[0] == ("excluded" if reason else "used")
    if reason:
        return
    good = cohort.status("good", "grid")
    assert status["fa_mean"] == pytest.approx(good["fa_mean"], abs=0.01)
    assert status["coverage"] == pytest.approx(good["coverage"], abs=0.03)
    subject = cohort.subjects[kind]
    array = np.load(slices_path(cohort.out / "results", "axial.npy", subject, subject))
    assert np.isfinite(array).all()


def test_no_text_of_a_header_or_sidecar_reaches_any_output(cohort):
    kind = "text in every header"
    cohort.status(kind, "grid")
    assert cohort.status(kind, "tractography")["n_streamlines"] > 0
    folders = (cohort.out / "results" / part for part in (".", "slices"))
    files = [p for folder in folders for p in (folder / cohort.subjects[kind]).rglob("*.*")]
    assert {".trx", ".png", ".gz", ".npy", ".json"} <= {path.suffix for path in files}
    assert len(files) > 28
    for path in files:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for word in ("Doe^J", "1970-01"):
            assert word.encode() not in content, path
    assert b"Doe^J" in gzip.decompress(t1(cohort.root / cohort.subjects[kind]).read_bytes())
    assert isinstance(nib.load(t1(cohort.root / cohort.subjects[kind])), nib.Nifti1Image)
