"""Batches of slices: the content of a sample, drawn by seed and step alone."""

import gc
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_cohort import SHAPE, write_cohort, write_subject
from small_cohort import subject as channels_of_subject

from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.structural.slices import PLANES, extract
from m2m.train.augmentation import augment_intensity, mirror
from m2m.train.dataset import SliceBatches, collate, find_subjects, read_slice, whole_subject


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohort")
    return find_subjects(root / "slices", write_cohort(root), "t1", "fa")[0]


def batches(subjects, **changes):
    options = {"context": 3, "planes": PLANES, "batch_size": 6, "seed": 5, "jitter": 0.05}
    return SliceBatches(subjects["train"], "t1", "fa", **options | changes)


def equal(a, b):
    return a["unit"] == b["unit"] and all(torch.equal(a[key], b[key]) for key in a if key != "unit")


def test_a_batch_depends_on_seed_and_step_alone(subjects):
    forward = [batches(subjects)[step] for step in range(5)]
    fresh = batches(subjects)
    backward = [fresh[step] for step in reversed(range(5))]
    assert all(equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not any(equal(a, b) for a, b in pairwise(forward))
    assert not equal(forward[0], batches(subjects, seed=6)[0])


def test_processes_that_read_ahead_give_the_same_batches(subjects):
    one, two = (batches(subjects).steps(3, 6, workers) for workers in (0, 1))
    assert all(equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_shares_of_two_processes_make_up_the_batch(subjects):
    whole = batches(subjects)[7]
    shares = [batches(subjects, rank=rank, world=2)[7] for rank in range(2)]
    for key in ("source", "target", "mask", "brain", "plane"):
        assert torch.equal(whole[key][0::2], shares[0][key])
        assert torch.equal(whole[key][1::2], shares[1][key])
    assert shares[0]["unit"] == whole["unit"]


def test_a_batch_that_processes_cannot_share_is_refused(subjects):
    with pytest.raises(ValueError, match="6 is not a multiple of 4"):
        batches(subjects, world=4)


@pytest.mark.parametrize("plane", PLANES)
def test_a_sample_is_a_slice_of_the_volume_with_its_neighbours(subjects, plane):
    subject = subjects["train"][1]
    t1, fa, brain, mask = (extract(c.astype(np.float16), plane) for c in channels_of_subject(1))
    for index in (0, 9, len(t1) - 1):
        sample = read_slice(subject, plane, index, "t1", "fa", 5)
        for k, neighbour in enumerate(range(index - 2, index + 3)):
            expected = t1[neighbour] if 0 <= neighbour < len(t1) else np.zeros_like(t1[0])
            assert np.array_equal(sample["source"][k], expected)
        for key, image in (("target", fa), ("brain", brain), ("mask", mask)):
            assert np.array_equal(sample[key][0], image[index])


def test_slices_of_a_batch_share_an_orientation_and_meet_the_mask(subjects):
    planes = set()
    for step in range(12):
        batch = batches(subjects)[step]
        assert len(batch["plane"].unique()) == 1
        planes.add(int(batch["plane"][0]))
        assert batch["mask"].flatten(1).any(1).all()
        assert batch["source"].shape[1:] == (3, *batch["target"].shape[2:])
        assert set(batch["unit"]) <= {"sub-00", "sub-01", "sub-02"}
    assert planes == {0, 1, 2}


def test_a_central_share_draws_the_middle_slices_only(subjects):
    """The position of a slice identifies it: world and template coordinates are the same here."""
    whole, middle = (batches(subjects, planes=("axial",), central_share=s) for s in (1, 0.4))
    heights = {
        name: {float(z) for step in range(40) for z in one[step]["position"][:, 2, 0, 0]}
        for name, one in {"whole": whole, "middle": middle}.items()
    }
    first, last = min(heights["whole"]), max(heights["whole"])
    inner = heights["middle"]
    assert max(inner) - min(inner) == pytest.approx(0.4 * (last - first), abs=12)
    assert min(inner) + max(inner) == pytest.approx(first + last, abs=12)


@pytest.mark.parametrize("plane", PLANES)
def test_a_mirrored_slice_is_the_slice_of_the_mirrored_participant(tmp_path, plane):
    channels = channels_of_subject(3)
    write_subject(tmp_path, "sub-a", channels)
    write_subject(tmp_path, "sub-b", channels[:, ::-1])
    same, mirrored = find_subjects(tmp_path, {"sub-a": "train", "sub-b": "train"}, "t1", "fa")[0]["train"]
    index = 8
    other = SHAPE[0] - 1 - index if plane == "sagittal" else index
    expected = read_slice(mirrored, plane, other, "t1", "fa", 3, 3)
    found = mirror(read_slice(same, plane, index, "t1", "fa", 3, 3), plane)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert not np.array_equal(found["source"], read_slice(same, plane, index, "t1", "fa", 3, 3)["source"])


@pytest.fixture(scope="module")
def with_tensors(tmp_path_factory):
    """A participant and the same one mirrored left to right, with tensors as target."""
    folder = tmp_path_factory.mktemp("tensors")
    names = ("t1", *MODALITIES["dti"].channels, "brain", "target_mask")
    t1, _, brain, mask = channels_of_subject(5)
    six = np.random.default_rng(6).standard_normal((6, *SHAPE)) * mask
    factors = np.array(MODALITIES["dti"].mirror)[:, None, None, None]
    for unit, tensor, others in (
        ("sub-a", six, (t1, brain, mask)),
        ("sub-b", (factors * six)[:, ::-1], [image[::-1] for image in (t1, brain, mask)]),
    ):
        write_subject(folder, unit, np.stack([others[0], *tensor, *others[1:]]), names)
    parts = {"sub-a": "train", "sub-b": "train"}
    return find_subjects(folder, parts, "t1", "dti")[0]["train"]


@pytest.mark.parametrize("plane", PLANES)
def test_a_mirrored_tensor_is_that_of_the_mirrored_participant(with_tensors, plane):
    same, mirrored = with_tensors
    other = SHAPE[0] - 1 - 8 if plane == "sagittal" else 8
    expected = read_slice(mirrored, plane, other, "t1", "dti", 3, 3)
    sample = read_slice(same, plane, 8, "t1", "dti", 3, 3)
    assert sample["target"].shape[0] == 6
    found = mirror(sample, plane, MODALITIES["dti"].mirror)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_a_tensor_volume_has_its_elements_last(with_tensors):
    subject = with_tensors[0]
    volume = subject.volume("dti").data
    assert volume.shape == (*SHAPE, 6)
    stack = extract(volume[..., 2], "coronal").astype(np.float32)
    assert np.array_equal(stack[8], read_slice(subject, "coronal", 8, "t1", "dti", 1)["target"][2])


def test_a_map_with_a_unit_keeps_its_values(subjects):
    source = SliceBatches(
        subjects["train"], "fa", "t1", context=1, planes=("axial",), batch_size=4, seed=5, flip=False, jitter=0.5
    )
    batch = source[0]
    assert torch.allclose(batch["source"], 0.6 * batch["target"] ** 2, atol=1e-3)


def test_without_augmentation_samples_are_as_stored(subjects):
    batch = batches(subjects, flip=False, jitter=0.0)[2]
    relation = 0.6 * batch["source"][:, 1:2] ** 2
    assert torch.allclose(relation * batch["mask"], batch["target"], atol=1e-3)


def test_intensities_change_little_and_background_stays_zero():
    x = np.linspace(-0.1, 1.2, 50, dtype=np.float32)
    x[10] = 0
    y = augment_intensity(x, gamma=1.05, scale=0.95)
    assert y[10] == 0 and np.isfinite(y).all()
    assert 0 < np.abs(y - x).max() < 0.1
    assert (np.diff(y) > 0).sum() >= 47
    assert np.array_equal(augment_intensity(x, 1.0, 1.0), x)


def test_subjects_that_cannot_be_trained_on_are_counted(tmp_path):
    parts = {f"sub-{i}": "train" for i in range(1, 5)} | {"sub-5": "test", "sub-6": "validation"}
    for i in (1, 2, 3, 5):
        changes = {2: {"status": "failed"}, 3: {"excluded": ["mean FA"]}}.get(i, {})
        write_subject(tmp_path, f"sub-{i}", channels_of_subject(i), **changes)
    write_subject(tmp_path, "sub-4", channels_of_subject(4)[[0, 2]], ("t1", "brain"))
    write_subject(tmp_path, "sub-6_ses-1", channels_of_subject(6))
    write_subject(tmp_path, "sub-7", channels_of_subject(7))
    subjects, skipped = find_subjects(tmp_path, parts, "t1", "fa")
    assert [s.unit for s in subjects["train"]] == ["sub-1"]
    assert [(s.unit, s.participant) for s in subjects["validation"]] == [("sub-6_ses-1", "sub-6")]
    assert skipped == {"failed": 1, "excluded": 1, "incomplete": 1}


def test_a_whole_subject_is_every_slice_with_a_mask_once(subjects):
    subject = subjects["train"][0]
    parts = list(whole_subject(subject, "axial", "t1", "fa", 3, 4))
    found = torch.cat([part["target"][:, 0] for part in parts]).numpy()
    stack = extract(subject.volume("fa").data, "axial")
    expected = stack[extract(subject.mask(), "axial").any((1, 2))]
    assert np.array_equal(found, expected)
    assert max(len(part["plane"]) for part in parts) == 4


def test_memory_and_open_files_do_not_grow_with_the_steps(subjects):
    source = batches(subjects)
    for step in range(60):  # the usable slices of all participants are cached by then
        source[step]
    gc.collect()  # it closes files that tests before this one left open
    files = len(list(Path("/proc/self/fd").iterdir()))
    tracemalloc.start()
    traced = []
    for step in range(61, 141):
        source[step]
        if step in (61, 140):
            gc.collect()
            traced.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert traced[1] - traced[0] < 5_000, "one array of one participant has 134,400 bytes"
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_slices_of_an_earlier_version_are_refused(tmp_path):
    write_subject(tmp_path, "sub-a", channels_of_subject(3))
    record = read_json(tmp_path / "sub-a_slices.json")
    write_json(tmp_path / "sub-a_slices.json", {key: value for key, value in record.items() if key != "box"})
    with pytest.raises(DataError, match="cut by an earlier version") as refused:
        find_subjects(tmp_path, {"sub-a": "train"}, "t1", "fa")
    assert "sub-a_slices.json" in str(refused.value) and "run `m2m slices`" in str(refused.value)


def test_collate_numbers_the_orientation():
    sample = {"source": np.zeros((3, 2, 2), np.float32)}
    batch = collate([sample, sample], "coronal", ["sub-1", "sub-2"])
    assert batch["plane"].tolist() == [PLANES.index("coronal")] * 2
    assert batch["plane"].dtype == torch.int64
