"""m2m: brain microstructure predicted from a T1, from scans to figures (see docs/architecture.md)."""

from snakemake.utils import min_version

min_version("9.0")

if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/jobs.smk"
include: "rules/tasks.smk"
include: "rules/labels.smk"
include: "rules/fields.smk"
include: "rules/downstream.smk"
include: "rules/cohort.smk"
include: "rules/diffusion.smk"
include: "rules/grid.smk"
include: "rules/translation.smk"
include: "rules/rendering.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        page("report"),
        paper("report"),
        # Named, so that a deleted map is made again although the report is there.
        per_unit("dwi-fa", "paired", "dwi-only"),
        per_unit(GRID_MAPS, "paired"),
        every_translation,


rule cohort:
    input:
        SPLIT,


rule groundtruth:
    input:
        per_unit("dwi-fa", "paired", "dwi-only"),


rule tractography:
    input:
        per_unit("tractogram", "paired", "dwi-only"),


rule slices:
    input:
        slice_records,


rule train:
    input:
        every_fit("models/{task}/{model}/model.safetensors"),


rule translate:
    input:
        every_translation,


rule field:
    input:
        every_field("field"),


rule render:
    input:
        every_field(*FIELD_VIEWS),
        f"{ROOT}/fields.html",


rule evaluate:
    input:
        every_task("evaluation/{task}/summary.tsv"),


rule downstream:
    input:
        downstream_page,


rule figures:
    input:
        paper("report"),


rule report:
    input:
        page("report"),


rule compare:
    input:
        study_page("compare"),


rule ablation:
    input:
        study_page("ablation"),


rule fgdl:
    input:
        study_page("fgdl"),
