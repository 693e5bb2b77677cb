"""The methods text: correct for the options, and every citation has its entry."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml

import m2m
from m2m.io.errors import DataError
from m2m.io.files import write_json
from m2m.io.tables import write_table
from m2m.options import Config, merged
from m2m.report.methods import bibliography, write_methods
from m2m.report.model_sentences import changed, fits

ROOT = Path(__file__).parents[1]
BASE = yaml.safe_load((ROOT / "tests/config.yaml").read_text())
LIBRARY = (ROOT / "m2m/report/templates/references.bib").read_text()
REAL = {"cohort": {"source": "bids", "bids_dir": "bids"}}
MRTRIX = {
    "preprocess": {"backend": "mrtrix3", "degibbs": False, "bias": True},
    "tractography": {"backend": "mrtrix3", "mrtrix3": {"response": "dhollander", "sift2": True}},
}
COUNTS = {"train": 3, "validation": 1, "test": 2}


def write(folder, changes=None, study="report", counts=COUNTS, masks=("supplied", "template"), further=()):
    """Write the records that the text needs, then the text; return the text and its references."""
    config = Config.model_validate(merged(BASE, changes or {}))
    tasks = {name: task for name, task in config.tasks.items() if task.page == study}
    flow = {"n_input": 9, "n_failed": 2, "n_excluded": 1, "n_incomplete": 3, "n_used": 3}
    write_json(folder / "cohort/flow.json", flow)
    split = {"hash": "0123abcd", "seed": 31, "counts": counts, "shaped_by": ["age", "site"]}
    write_json(folder / "cohort/split.json", split)
    states = {"supplied": "supplied", "template": "template and intensity"}
    rows = [
        {
            "unit": f"sub-{i}",
            "state": "used",
            "anat_brain_mask": states[mask],
            "grid_kept": "registration" if i else "headers",
        }
        for i, mask in enumerate(masks)
    ]
    write_table(folder / "cohort/quality.tsv", rows, list(rows[0]))
    for task, model in fits(tasks):
        record = {"code_version": "0.0.9" if model == "mean" else m2m.__version__}
        write_json(folder / "models" / task / model / "model.json", record)
    for name in tasks:
        summary = [{"region": "rois", "metric": "concordance"}, *further]
        write_table(folder / "evaluate" / name / "summary.tsv", summary, ("region", "metric"))
    out, references = folder / "methods.md", folder / "references.bib"
    write_methods(folder, tasks, config, out, references)
    return out.read_text(), references.read_text()


def cited(text):
    return set(re.findall(r"@([a-z0-9]+)", "".join(re.findall(r"\[(@[^]]+)\]", text)), re.I))


def entries(bib):
    return re.findall(r"^@\w+\{(\w+),", bib, re.M)


@pytest.mark.parametrize("study", ["report", "compare", "ablation", "fgdl"])
@pytest.mark.parametrize("changes", [{}, REAL | MRTRIX])
def test_each_citation_has_its_entry_and_each_entry_is_cited(tmp_path, study, changes):
    text, bib = write(tmp_path, changes, study)
    keys = cited(text)
    assert keys and sorted(keys) == entries(bib)
    # Every at sign belongs to a citation, and no syntax of the template is left in the text.
    assert text.count("@") == sum(len(re.findall("@", c)) for c in re.findall(r"\[@[^]]+\]", text))
    assert not re.search(r"[{}]|None|True|False| ,|  |\.\.|\w,\w", text.replace("`", ""))


def test_an_entry_that_is_missing_is_named():
    with pytest.raises(DataError, match="unknown1900"):
        bibliography("As was shown [@otsu1979; @unknown1900].")


def test_the_bibliography_is_complete_and_has_no_duplicates():
    keys = entries(LIBRARY)
    assert len(keys) == len(set(keys)) == LIBRARY.count("\n@") + 1
    for entry in LIBRARY.strip().split("\n\n"):
        assert entry.count("{") == entry.count("}"), entry
        for field in ("author", "title", "year"):
            assert re.search(rf"\b{field} = \{{", entry), entry
        doi = re.search(r"(?:doi|eprint) = \{([^}]+)\}", entry)
        assert doi or "pages" in entry, entry
    dois = re.findall(r"doi = \{([^}]+)\}", LIBRARY)
    assert len(dois) == len(set(dois))


def test_every_reference_is_named_in_the_documents_or_the_code():
    files = [*ROOT.glob("docs/*.md"), *ROOT.glob("m2m/**/*.py"), *ROOT.glob("rules/*.smk")]
    text = "\n".join(path.read_text() for path in files)
    for place in re.findall(r"(?:doi|eprint) = \{([^}]+)\}", LIBRARY):
        assert place in text, place


def test_the_text_has_the_seeds_counts_and_versions_that_ran(tmp_path):
    changes = {"cohort": {"phantom": {"seed": 77}}}
    text, _ = write(tmp_path, changes)
    assert "6 participants were simulated (seed 77)" in text
    assert "Of 9 participants and sessions, 2 failed, 1 were excluded, 3 were incomplete" in text
    assert "(seed 31), which balances age and site, 3 participants were assigned to training" in text
    assert "95 % intervals over participants by Student's t [@student1908]." in text
    assert "a difference is called one by the corrected p." in text
    assert f"m2m {m2m.__version__}, Python" in text
    assert f"DIPY {importlib.metadata.version('dipy')}" in text
    assert "Models were fitted by m2m 0.0.9." in text and "hash of the split is 0123abcd" in text
    assert "`macro2micro` on `t1-fa`: 20 steps of 4 slices" in text
    assert "`macro2micro` on `t1-tdi`: 10 steps of 4 slices" in text  # the task's own number
    assert "(1 of 2)" in text  # brain masks from the template; registrations kept: 1 of 3 used
    assert "(1 of 3)" in text


# Networks of the pages whose networks are mirrored all or none.
COMPARED = ("macro2micro-2023", "pix2pix", "cyclegan", "unet", "unet3d", "resvit", "bridge")
NETWORKS = ("macro2micro", *COMPARED, "fgdl-cms", "fgdl-sr")
# Options, a text that each adds, and a text that it removes.
CASES = [
    ({"dti": {"fit": "OLS"}}, "ordinary least squares", "chung2006"),
    ({"dti": {"fit": "RESTORE"}}, "chang2012", "chung2006"),
    (
        {"dti": {"mask": {"method": "supplied"}}},
        "masks were supplied with the diffusion series",
        "Otsu's thr",
    ),
    (REAL, "PyBIDS [@yarkoni2019]", "were simulated"),
    (MRTRIX, "denoised [@veraart2016]", "kellner2016"),
    (MRTRIX, "N4 [@tustison2010]", "EuDX"),
    (MRTRIX, "weights by SIFT2 [@smith2015]", "smith2012"),
    ({"preprocess": {"backend": "fsl"}}, "eddy [@andersson2016]", "veraart2016"),
    ({"grid": {"registration": "none"}}, "aligned by their headers", "rigid"),
    ({"grid": {"registration": "affine"}}, "an affine transform", "a rigid transform"),
    ({"grid": {"density": "tckmap"}}, "counted by MRtrix3 [@tournier2019]", "counted by DIPY"),
    ({"models": {"macro2micro": {"network": {"alpha": 0}}}}, "none of them at low frequency", "chen2019"),
    ({"models": {"macro2micro": {"network": {"position": True}}}}, "tancik2020", ""),
    ({"models": {name: {"mirror": False} for name in NETWORKS}}, "slices were translated;", "mirror images"),
    ({"models": {"macro2micro": {"losses": {"ms_ssim": 0}}}}, "", "wang2003"),
    ({"models": {"macro2micro": {"losses": {"adversarial": 0}}}}, "", "karras2020"),
    (
        {"models": {"macro2micro": {"perceptual": {"network": "vgg19", "weights": "a.pth"}}}},
        "a perceptual distance [@zhang2018] in VGG19 (weight 1)",
        "",
    ),
    ({"models": {"macro2micro": {"fusion": "field"}}}, "combined by a continuous field", "averaged."),
    (
        {"models": {"macro2micro": {"training": {"start_from": "pretrained"}}}},
        "fine-tuned [@ghafoorian2017] from weights installed with m2m, with its mean map where it has one",
        "",
    ),
    (
        {"models": {"macro2micro": {"training": {"start_from": "/data/alice/model.safetensors"}}}},
        "fine-tuned [@ghafoorian2017] from the weights of another model",
        "",
    ),
    ({"cohort": {"check_voxels": False}}, "gradient tables of all scans were checked", "voxel values"),
]


# Steps of the preprocessing backend that are switched off, or belong to another backend.
NEVER = ("kellner2016", "veraart2016", "smith2012")


@pytest.mark.parametrize(("changes", "added", "removed"), CASES)
def test_an_option_changes_the_text(tmp_path, changes, added, removed):
    text, _ = write(tmp_path / "changed", changes)
    before, _ = write(tmp_path / "before")
    if added:
        assert added in text and added not in before
    if removed:
        assert removed not in text
        assert removed in before or removed in NEVER


def test_a_step_that_no_task_needs_is_not_mentioned(tmp_path):
    tasks = {"tasks": {"t1-fa": {"models": ["mean"]}}}
    config = {key: value for key, value in BASE.items() if key != "downstream"}
    fa = Config.model_validate(config | tasks)
    assert set(fa.tasks) == {"t1-fa"}
    folder, complete = tmp_path / "fa", write(tmp_path / "complete")[0]
    write(folder)  # its records
    write_methods(folder, fa.tasks, fa, folder / "a.md", folder / "a.bib")
    text = (folder / "a.md").read_text()
    for term in (
        "treamlines",
        "Tensors",
        "density",
        "Adam",
        "macro2micro",
        "Models were compared",
    ):
        assert term in complete
        assert term not in text
    assert "eigenvalues" in text and "The T1 and FA were resampled" in text


def test_a_metric_that_few_participants_do_not_allow_is_not_mentioned(tmp_path):
    text, _ = write(tmp_path)
    assert "Lin's concordance [@lin1989] and limits of agreement [@bland1986]." in text
    row = {"region": "rois", "metric": "identification"}
    text, _ = write(tmp_path, further=[row])
    assert (
        "identification of each participant among all [@finn2015], to be read against the rate of the mean map" in text
    )
    assert "rates exact ones [@clopper1934]" in text and "or by McNemar's exact test [@mcnemar1947]" in text


def test_a_missing_validation_or_test_set_is_not_mentioned(tmp_path):
    counts = {"train": 2, "validation": 0, "test": 0}
    text, _ = write(tmp_path, counts=counts)
    assert "scaled on the training participants" in text and "## Evaluation" not in text
    assert "validated, and those of the best step" not in text


def test_equal_inputs_of_a_task_are_stated(tmp_path):
    inputs = {"page": "compare", "inputs": {"context": 3, "prior": True}, "models": ["macro2micro", "unet"]}
    text, _ = write(tmp_path, {"tasks": {"same-inputs": inputs}}, "compare")
    assert (
        "in this task the input of every network was 3 neighbouring slices and the mean map of the training "
        "participants." in text
    )


def test_a_study_describes_the_first_model_of_a_family_and_what_the_others_change(tmp_path):
    text, _ = write(tmp_path, study="ablation")
    (line,) = [line for line in text.splitlines() if line.startswith("`perceptual-loss`")]
    assert line == (
        "`perceptual-loss` was `macro2micro` except for training.steps 4 and perceptual.network self [@zhang2018]."
    )
    assert "cyclegan" not in text.lower() and "downstream" not in text
    # The same training, so in one line.
    assert "- `macro2micro` and `perceptual-loss` on `one-change`: 4 steps of 4 slices" in text


def test_a_folder_of_the_machine_is_not_in_the_text(tmp_path):
    start = {"training": {"start_from": Path("/data/alice/model.safetensors")}}
    assert dict(changed({"training": {}}, start)) == {"training.start_from": "model.safetensors"}
    text, _ = write(tmp_path, {"models": {"macro2micro": start}})
    assert "fine-tuned" in text and "alice" not in text


def test_the_perceptual_distance_of_the_published_network_is_mentioned_where_it_is_used(tmp_path):
    changes = {"models": {"macro2micro-2023": {"perceptual": {"network": "self"}}}}
    text, bib = write(tmp_path, changes, "compare")
    assert "a perceptual distance [@zhang2018] in an encoder" in text and "zhang2018" in bib
    assert "zhang2018" not in write(tmp_path, {}, "compare")[0]


def test_the_versions_of_external_programs_are_those_that_ran(tmp_path):
    folder = tmp_path / "sub-1/dwi"
    for stage, programs in {"tractography": ["tckgen"], "preproc": ["dwidenoise", "bet"]}.items():
        calls = [{"arguments": [name, "x"], "version": f"3.0.{len(name)}"} for name in programs]
        write_json(folder / f"sub-1_desc-{stage}_status.json", {"programs": calls})
    text, _ = write(tmp_path)
    assert "FSL 3.0.3, MRtrix3 3.0.10 and 3.0.6" in text


def write_downstream(folder, scores, refused=(), changes=None, **more):
    """Write the records of a biological validation, with more in them, then its text and references."""
    write(folder)
    config = Config.model_validate(merged(BASE, changes or {}))
    tasks = {name: task for name, task in config.tasks.items() if task.fold}
    split = {"hash": "fold-1", "seed": 5, "counts": COUNTS, "shaped_by": []}
    write_json(folder / "cohort/fold-1/split.json", split)
    write_json(folder / "cohort/folds.json", {"hash": "4567cdef", "seed": 32})
    for task, model in fits(tasks):
        record = {"code_version": m2m.__version__}
        write_json(folder / "models" / task / model / "model.json", record)
    record = {
        "options": config.downstream.model_dump(mode="json"),
        "n_subjects": 123,
        "refused": dict.fromkeys(refused, "it is the same for every participant"),
    }
    write_json(folder / "downstream/downstream.json", record | more)
    columns = ("target", "kind", "input", "predictor")
    rows = [dict(zip(columns, row, strict=True)) for row in scores]
    write_table(folder / "downstream/scores.tsv", rows, columns)
    out, references = folder / "a.md", folder / "a.bib"
    write_methods(folder, tasks, config, out, references)
    return out.read_text(), references.read_text()


AGE = [("age", "regression", image, "linear") for image in ("covariates", "t1", "fa")]
SEX = [("sex", "classification", "t1", name) for name in ("linear", "cnn")]


def test_a_validation_describes_phenotypes_and_inputs_and_no_evaluation(tmp_path):
    text, bib = write_downstream(tmp_path, [*AGE, *SEX])
    assert "They were divided into 2 folds (seed 32)" in text and "were assigned to" not in text
    assert "Of 123 participants age and sex were predicted from each of `covariates`, `t1` and" in text
    assert "brain's volume" in text and "(50 resamples, seed 1)" in text and "9 permutations" in text
    assert "A convolutional network [@peng2021] was trained on whole volumes" in text
    assert "`macro2micro` on `t1-fa`: 20 steps" in text and "-fold" not in text
    assert "## Evaluation" not in text and "The hash of the folds is 4567cdef." in text
    assert "scikit-learn 1." in text and "scikit-learn" not in write(tmp_path / "study")[0]
    assert sorted(cited(text)) == entries(bib)
    assert not re.search(r"[{}]|None|True|False| ,|  |\.\.|\w,\w", text.replace("`", ""))


def test_a_validation_describes_methods_only_for_numbers_or_only_for_classes(tmp_path):
    numbers, _ = write_downstream(tmp_path / "numbers", AGE, refused=["sex"])
    classes, _ = write_downstream(tmp_path / "classes", SEX, refused=["age"])
    for term in ("ridge", "mcgraw1996", "R²"):
        assert term in numbers and term not in classes
    for term in ("logistic regression", "hedges1981", "ROC", "peng2021"):
        assert term in classes and term not in numbers
    assert "sex was not predicted: it is the same for every participant." in numbers
    assert "Of 123 participants age was predicted" in numbers
    nothing, _ = write_downstream(tmp_path / "nothing", [], refused=["age", "sex"])
    assert "Of 123" not in nothing and "nadeau2003" not in nothing


def test_a_validation_describes_sites_and_their_harmonisation(tmp_path):
    changes = {
        "downstream": {"harmonise": "combat", "folds_by": "site"},
        "cohort": {"phantom": {"scanners": {"north": {}, "south": {"snr": 9}}}},
    }
    about = {"sites": {"north": 60, "south": 63}, "preserved": ["age", "sex"]}
    text, bib = write_downstream(tmp_path, [*AGE, *SEX], changes=changes, harmonised=about)
    assert "harmonised over 2 sites by ComBat [@johnson2007; @fortin2018]" in text
    assert "effects of age and sex preserved, except of the predicted column" in text
    assert "with families kept together and whole sites in one fold." in text
    assert "assigned at random to one of 2 scanners (north and south)" in text
    assert sorted(cited(text)) == entries(bib)


def test_a_study_of_visits_says_how_they_were_compared(tmp_path):
    changes = {"cohort": {"phantom": {"visits": {"number": 2, "years": 3}}}, "evaluation": {"visits": True}}
    text, bib = write(tmp_path / "two", changes)
    assert "Each was simulated in 2 visits, 3 years apart." in text
    assert "correlation [@shrout1979] and the coefficient of variation within participants [@bland1996]" in text
    assert sorted(cited(text)) == entries(bib)
    changes["cohort"]["phantom"]["visits"]["years"] = 0
    assert "in 2 visits on one day." in write(tmp_path / "retest", changes)[0]
    assert "visits" not in write(tmp_path / "one")[0]
