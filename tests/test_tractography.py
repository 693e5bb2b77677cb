import numpy as np
import pytest
from dipy.tracking.streamline import length
from fibre_fields import (
    AFFINES,
    DIRECTION,
    OBLIQUE,
    SHAPE,
    affine_of,
    angles,
    arc,
    crossing,
    dipy,
    equal,
    field_of,
    mrtrix,
    six_of,
    straight,
)
from nibabel.streamlines import ArraySequence

from m2m.diffusion import density
from m2m.diffusion.tractography.tracking import track
from m2m.diffusion.tractography.tracks import of_length, random_seeds


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(("algorithm", "limit_deg"), [("eudx", 0.1), ("deterministic", 5), ("probabilistic", 12)])
def test_dipy_follows_tensors_in_world_axes(affine, algorithm, limit_deg):
    # A deterministic step follows one of DIPY's 362 directions, up to 4 degrees off.
    found = track(straight(affine), dipy(algorithm=algorithm))
    assert len(found.streamlines) > 0.7 * found.n_seeds
    assert np.median(angles(found.streamlines)) < limit_deg
    inside = density.count_map(found.streamlines, affine, SHAPE)
    assert inside.sum() > 0.9 * sum(length(found.streamlines)) / 2.5


@pytest.mark.parametrize("model", ["csa", "csd"])
@pytest.mark.parametrize("algorithm", ["eudx", "deterministic"])
def test_dipy_follows_distributions_in_world_axes(model, algorithm):
    found = track(straight(OBLIQUE, scan=True), dipy(model, algorithm))
    assert found.model == model
    assert len(found.streamlines) > 0.7 * found.n_seeds
    assert np.median(angles(found.streamlines)) < 5


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize(("algorithm", "scan"), [("FACT", False), ("Tensor_Det", True)])
def test_mrtrix3_follows_tensors_in_world_axes(needs_tool, affine, algorithm, scan):
    needs_tool("tckgen")
    asked = "Tensor_Det" if scan else "iFOD2"
    found = track(straight(affine, scan=scan), mrtrix(asked))
    assert found.algorithm == algorithm
    assert len(found.streamlines) > 0.7 * found.n_seeds
    assert angles(found.streamlines).max() < 0.5


@pytest.mark.parametrize(("algorithm", "limit_deg"), [("iFOD2", 6), ("SD_STREAM", 2)])
def test_mrtrix3_follows_fods_in_world_axes(needs_tool, algorithm, limit_deg):
    needs_tool("dwi2fod")
    found = track(straight(OBLIQUE, shape=(7, 7, 7), scan=True), mrtrix(algorithm))
    assert (found.model, found.algorithm) == ("fod", algorithm)
    assert [call.arguments[0] for call in found.calls] == ["dwi2response", "dwi2fod", "tckgen"]
    assert len(found.streamlines) > 0.6 * found.n_seeds
    assert np.median(angles(found.streamlines)) < limit_deg


@pytest.mark.parametrize("options", [dipy(step_mm=0.5), mrtrix(step_mm=0.5)], ids=["dipy", "mrtrix3"])
def test_streamlines_follow_an_arc_and_endless_ones_are_counted_as_long(needs_tool, options):
    if options.backend == "mrtrix3":
        needs_tool("tckgen")
    options = options.model_copy(update={"length_mm": (20.0, 150.0)})
    found = track(arc(), options)
    # A circle of 29 mm radius has no end: 182 mm a turn.
    assert found.n_dropped_long > 0.3 * found.n_seeds
    radii = [np.linalg.norm(points[:, :2], axis=1) for points in found.streamlines]
    assert all(r.min() > 22 and r.max() < 36 for r in radii)
    assert np.median([np.ptp(r) / length(p) for r, p in zip(radii, found.streamlines, strict=True)]) < 0.1
    assert len(found.streamlines) + found.n_dropped_short + found.n_dropped_long == found.n_seeds


@pytest.mark.parametrize(
    "options",
    [dipy("csd", "deterministic"), dipy("csd", "eudx"), mrtrix("SD_STREAM")],
    ids=["dipy deterministic", "dipy eudx", "mrtrix3"],
)
def test_two_crossing_bundles_pass_through_each_other_where_fibres_are_resolved(needs_tool, options):
    if options.backend == "mrtrix3":
        needs_tool("dwi2fod")
    found = track(crossing(), options.model_copy(update={"length_mm": (15.0, 250.0)}))
    across = {0: 0, 1: 0}
    n_turns = 0
    for points in found.streamlines:
        low, high = points.min(axis=0), points.max(axis=0)
        passes = [low[a] < -8 and high[a] > 8 for a in (0, 1)]
        n_turns += all(passes)
        for axis in (0, 1):
            across[axis] += passes[axis] and not passes[1 - axis]
    assert min(across.values()) > 100
    assert n_turns < 0.02 * sum(across.values())


# -- seeds, ends, lengths ------------------------------------------------------------------------


def test_seeds_are_at_random_positions_in_their_voxels():
    seeded = np.zeros(SHAPE, bool)
    seeded[2:6, 3:7, 1:5] = True
    seeds = random_seeds(seeded, 3, OBLIQUE, seed=1)
    index = (seeds - OBLIQUE[:3, 3]) @ np.linalg.inv(OBLIQUE[:3, :3]).T
    voxels = np.repeat(np.argwhere(seeded), 3, axis=0)
    np.testing.assert_array_equal(np.round(index).astype(int), voxels)
    offsets = index - voxels
    assert len(np.unique(offsets.round(6), axis=0)) == len(seeds) == 3 * seeded.sum()
    assert abs(offsets.mean()) < 0.05
    assert abs(offsets.std() - np.sqrt(1 / 12)) < 0.02


@pytest.mark.parametrize("options", [dipy, mrtrix], ids=["dipy", "mrtrix3"])
def test_seeds_and_their_volume_are_counted(needs_tool, options):
    field = straight(scan=False)
    if options is mrtrix:
        needs_tool("tckgen")
    field.tensor[:5] = six_of(DIRECTION, fa_high=False)
    found = track(field, options(seeds_per_voxel=3))
    n_voxels = int(np.prod(SHAPE)) // 2
    assert found.n_seeds == 3 * n_voxels
    assert found.seeded_mm3 == pytest.approx(n_voxels * 2.0 * 2.2 * 2.5)
    assert len(found.streamlines) + found.n_dropped_short + found.n_dropped_long == found.n_seeds


@pytest.mark.parametrize("options", [dipy(), mrtrix()], ids=["dipy", "mrtrix3"])
def test_streamlines_end_where_fa_is_low(needs_tool, options):
    if options.backend == "mrtrix3":
        needs_tool("tckgen")
    affine = affine_of(np.diag([-2.0, 2.0, 2.0]), (19.0, 0.0, 0.0))
    six = np.broadcast_to(six_of([1.0, 0, 0]), (20, 6, 6, 6)).copy()
    six[:7] = six_of([1.0, 0, 0], fa_high=False)
    found = track(field_of(six, affine), options)
    # The first voxels lie on the right: high FA is where x is below 19 - 2 * 6.5.
    assert max(points[:, 0].max() for points in found.streamlines) < 6 + 2.5
    assert max(points[:, 0].max() for points in found.streamlines) > 4


@pytest.mark.parametrize("options", [dipy, mrtrix], ids=["dipy", "mrtrix3"])
def test_streamlines_of_other_lengths_are_dropped_and_counted(needs_tool, options):
    if options is mrtrix:
        needs_tool("tckgen")
    field = straight()
    everything = length(track(field, options(length_mm=(0.0, 500.0))).streamlines)
    low, high = np.percentile(everything, [20, 70]) + 0.4
    found = track(field, options(length_mm=(float(low), float(high))))
    lengths = length(found.streamlines)
    assert low <= lengths.min()
    assert lengths.max() <= high
    n_long = int((everything > high).sum())
    assert n_long > 0
    assert abs(found.n_dropped_long - n_long) <= 0.02 * found.n_seeds
    assert len(lengths) + found.n_dropped_short + found.n_dropped_long == found.n_seeds


def test_lengths_at_the_limits_are_kept():
    lines = ArraySequence(np.array([[0.0, 0, 0], [n, 0, 0]]) for n in (9, 10, 20, 21))
    kept, n_long = of_length(lines, (10.0, 20.0))
    np.testing.assert_array_equal(kept, [False, True, True, False])
    assert n_long == 1


# -- reproducibility -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [dipy(), dipy(algorithm="probabilistic"), mrtrix("Tensor_Det")],
    ids=["eudx", "probabilistic", "mrtrix3"],
)
def test_runs_are_reproducible_and_another_seed_gives_other_streamlines(needs_tool, options):
    if options.backend == "mrtrix3":
        needs_tool("tckgen")
    field = straight(scan=options.backend == "mrtrix3")
    first = track(field, options, threads=1).streamlines
    assert equal(first, track(field, options, threads=2).streamlines)
    other = track(field, options.model_copy(update={"seed": 2}), threads=1).streamlines
    assert not equal(first, other)


def test_ifod2_is_reproducible(needs_tool):
    needs_tool("dwi2fod")
    field = straight(shape=(6, 6, 6), scan=True)
    first = track(field, mrtrix()).streamlines
    assert equal(first, track(field, mrtrix()).streamlines)


def test_probabilistic_streamlines_from_close_seeds_have_different_random_numbers():
    affine = affine_of(np.diag([2.0, 2.0, 2.0]))
    options = dipy(algorithm="probabilistic", seeds_per_voxel=1, length_mm=(4.0, 100.0))
    streamlines = track(straight(affine, shape=(12, 12, 12)), options).streamlines
    steps = np.array([points[1] - points[0] for points in streamlines])
    # The first steps have only a few directions; the paths differ.
    shapes = {tuple(np.diff(points, axis=0).round(3).ravel()) for points in streamlines}
    assert len(steps) > 500
    assert len(shapes) > 0.99 * len(streamlines)
