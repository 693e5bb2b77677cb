"""Sidecars of maps: unit, model and its parameters, as BIDS extension proposal 16 has them."""

import numpy as np
import pytest

from m2m.io.files import read_json
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, fitted_as, save

UNITS = {"fa": "1", "md": "mm^2/s", "tdi": "1", "dti": "mm^2/s"}


@pytest.mark.parametrize("name", [name for name, modality in MODALITIES.items() if modality.target])
def test_every_map_states_its_unit_and_its_model_with_parameters(name):
    about = MODALITIES[name].sidecar(FitMethod="wls")
    assert about["Units"] == UNITS[name] and about["Description"]
    model = "Whole-brain streamlines" if name == "tdi" else "Diffusion tensor"
    assert about["Model"] == {"Description": model, "Parameters": {"FitMethod": "wls"}}


def test_a_resampled_map_has_the_model_of_the_map_that_it_was_made_from(tmp_path):
    image = Volume(np.ones((2, 2, 2), np.float32), np.eye(4))
    save(
        tmp_path / "a.nii.gz", image, **MODALITIES["fa"].sidecar(FitMethod="restore") | {"NonNegativity": "constrained"}
    )
    save(tmp_path / "b.nii.gz", image, **MODALITIES["fa"].sidecar() | fitted_as(tmp_path / "a.nii.gz"))
    assert read_json(tmp_path / "b.json")["Model"]["Parameters"] == {"FitMethod": "restore"}
    assert read_json(tmp_path / "b.json")["NonNegativity"] == "constrained"
    (tmp_path / "a.json").unlink()
    assert fitted_as(tmp_path / "a.nii.gz") == {}
