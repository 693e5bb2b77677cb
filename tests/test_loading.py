"""The benchmark of storage: all forms hold the same slices, and the links are of the first participant."""

import sys

import numpy as np
import pytest
from checkout import ROOT

from m2m.io.files import write_json
from m2m.structural.slices import PLANES, extract

sys.path.insert(0, str(ROOT / "benchmarks"))
import loading


@pytest.mark.parametrize("form", loading.FORMS)
def test_every_form_gives_the_slices_of_the_volumes_again(tmp_path, form):
    rng, size = np.random.default_rng(2), 12
    volumes = {name: np.zeros((size,) * 3, np.float32) for name in ("t1", "target_mask")}
    volumes["t1"][3:7, 4:9, 2:11] = rng.random((4, 5, 9))
    volumes["target_mask"][4:6, 5:8, 3:10] = 1
    outputs = {plane: tmp_path / f"{loading.UNIT}_{plane}.npy" for plane in PLANES}
    found = loading.FORMS[form][1](volumes, outputs)
    write_json(tmp_path / "record.json", {"channels": list(volumes), "shape": [size] * 3} | found)
    *_, last = loading.subjects_of(form, tmp_path, 3)
    assert (tmp_path / f"{last.unit}_axial.npy").stat().st_nlink == 3
    for plane in PLANES:
        expected = np.stack([extract(v.astype(np.float16), plane) for v in volumes.values()], axis=1)
        np.testing.assert_array_equal(last.open(plane).read(0, size, [0, 1]), expected)
        np.testing.assert_array_equal(last.covered(plane), np.flatnonzero(expected[:, 1].any(axis=(1, 2))))


def test_the_operations_of_the_published_recipe_grow_with_the_pixels():
    small, large = loading.published_flops(128), loading.published_flops(256)
    assert 1e11 < small < large < 4 * small, "the crops of the patch discriminator have a size of their own"
