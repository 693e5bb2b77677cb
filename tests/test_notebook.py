"""The notebook of examples/ runs as it stands, and its map of FA is one."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from m2m.io.tables import read_table
from m2m.io.volume import load, resample

NOTEBOOK = Path(__file__).parents[1] / "examples" / "translate_one_t1.ipynb"


def cells():
    """Cells of the notebook that hold code."""
    return [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after its run, in an empty folder, and the folder that it wrote to."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    (work,) = folder.glob("m2m-*")
    return notebook, work


def test_the_notebook_is_kept_without_what_it_printed():
    assert not [cell for cell in cells() if cell.outputs or cell.execution_count]
    assert NOTEBOOK.stat().st_size < 20_000


def test_its_map_is_an_fa_map_of_a_brain(executed):
    _, work = executed
    fa, sd = (load(work / name) for name in ("FA.nii.gz", "FA_sd.nii.gz"))
    inside = fa.data > 0
    assert 0.9 < inside.sum() * np.prod(fa.spacing_mm) / 1e6 < 2.0, "a brain's volume, in litres"
    assert 0.15 < np.median(fa.data[inside]) < 0.4 and 0.35 < np.percentile(fa.data[inside], 95) < 0.8
    assert 0.01 < np.median(sd.data[inside]) < 0.2


def test_its_map_follows_the_ground_truth_and_stands_in_a_figure(executed):
    notebook, work = executed
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    (subject,) = [row["participant_id"] for row in read_table(work / "cohort" / "split.tsv") if row["part"] == "test"]
    (path,) = work.glob(f"truth/{subject}/dwi/*param-fa_dwimap.nii.gz")
    found = load(work / "FA.nii.gz")
    truth = resample(load(path), found.affine, found.shape).data
    both = (found.data > 0) & (truth > 0)
    assert np.corrcoef(found.data[both], truth[both])[0, 1] > 0.6
