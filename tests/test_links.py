"""Every BIDS URI in a sidecar of the results leads, by its dataset's description, to a file that exists."""

import json
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from m2m import GENERATED_BY
from m2m.cohort import describe
from m2m.io.bids import low_res_root, unit_path
from m2m.io.files import read_json, write_text
from m2m.io.quoting import dataset_of
from m2m.io.volume import Volume, save
from m2m.options import Config
from m2m.phantom.simulate import participants

UNIT = "sub-01"
MODELS = {"mean": {"family": "mean"}, "upsampled": {"family": "upsampled"}}
TASKS = {
    "cms": {"source": "t1", "target": "fa", "models": ["mean"]},
    "sr": {
        "source": "t1",
        "target": "fa",
        "models": ["upsampled"],
        "low_res": {"factor": 2, "source": "dwi", "synthesis_task": "cms"},
    },
}


def resolved(uri, sidecar):
    """File that a URI of a sidecar names, by the rules of BIDS alone."""
    scheme, name, path = uri.split(":", 2)
    root = dataset_of(sidecar)
    description = read_json(root / "dataset_description.json")
    assert scheme == "bids"
    return root / unquote(description["DatasetLinks"][name] if name else ".") / unquote(path)


def uris(content):
    """All URIs in the content of a JSON file."""
    if isinstance(content, str):
        return [content] if content.startswith("bids:") else []
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return [uri for part in parts for uri in uris(part)]


@pytest.fixture
def results(tmp_path):
    """Results of a simulated participant: a map of each dataset inside them, made of files of the others."""
    config = Config.model_validate({"dataset": "tiny", "models": MODELS, "tasks": TASKS, "results": str(tmp_path)})
    root, written = tmp_path / "tiny", tmp_path / "config.json"
    written.write_text(config.model_dump_json())
    raw = root / "rawdata" / UNIT / "anat" / f"{UNIT}_T1w.nii.gz"
    weights = root / "models/sr/upsampled/model.safetensors"
    for path in (raw, weights):
        write_text(path, "")
    low_res, synthetic, truth = low_res_root(root, "dwi-2"), root / "synthetic/sr/upsampled", root / "truth"
    t1, low, synth = (
        unit_path(folder, kind, UNIT, UNIT)
        for folder, kind in ((root, "t1w"), (low_res, "low-res-fa"), (synthetic, "synth-fa"))
    )
    image = Volume(np.ones((2, 2, 2)), np.eye(4))
    for path, sources in ((t1, [raw]), (low, [t1, raw]), (synth, [t1, low, weights])):
        save(path, image, sources)
    save(unit_path(truth, "truth-fa", UNIT, UNIT), image, [raw])
    save(unit_path(root, "fa", UNIT, UNIT), image, [unit_path(truth, "truth-fa", UNIT, UNIT)])
    participants(root, options=config.cohort.phantom.model_dump_json())
    describe.main(root, str(root / "rawdata"), written)
    return root


def test_every_uri_leads_to_a_file(results):
    found = {}
    for sidecar in results.rglob("sub-*/**/*.json"):
        for uri in uris(json.loads(sidecar.read_text())):
            assert resolved(uri, sidecar).is_file(), (sidecar, uri)
            found.setdefault(dataset_of(sidecar).relative_to(results).parts[:1], set()).add(uri.split(":")[1])
    inside = {(name,): {"results"} for name in ("low_res", "synthetic", "truth")}
    assert found == {(): {""}, **inside}


@pytest.mark.parametrize("name", [".", "low_res/dwi-2", "synthetic/sr/upsampled", "synthetic/cms/mean", "truth"])
def test_every_dataset_of_the_results_is_a_derivative_that_says_what_made_it(results, name):
    about = read_json(results / name / "dataset_description.json")
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"] == list(GENERATED_BY)
    assert about["Name"] and about["BIDSVersion"]
    for link in (*about["DatasetLinks"].values(), *(source["URL"] for source in about["SourceDatasets"])):
        assert (results / name / unquote(link) / "dataset_description.json").is_file()


def test_no_folder_with_participants_lacks_a_description(results):
    folders = {dataset_of(path) for path in results.rglob("sub-*/**/*") if path.is_file()}
    assert len(folders) == 5 and all(Path(folder, "dataset_description.json").is_file() for folder in folders)
