"""m2m: predict brain microstructure from T1, from scans to figures (see docs/architecture.md)."""

from snakemake.utils import min_version

min_version("9.0")

if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


# For `--sdm apptainer`: the image that envs/m2m.def describes, in the folder that Snakemake is called from.
container: "m2m.sif"


include: "rules/common.smk"
include: "rules/phantom.smk"
include: "rules/cohort.smk"
include: "rules/diffusion.smk"
include: "rules/structural.smk"
include: "rules/train.smk"
include: "rules/translate.smk"
include: "rules/field.smk"
include: "rules/evaluate.smk"
include: "rules/downstream.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        pages.wanted("report"),
        # Listed, so that a deleted map is made again although the report exists.
        subjects.per_unit("dwi-fa", "paired", "dwi-only"),
        subjects.per_unit(GRID_MAPS, "paired"),
        tasks.every_translation,


rule cohort:
    input:
        files.split,


rule groundtruth:
    input:
        subjects.per_unit("dwi-fa", "paired", "dwi-only"),


rule tractography:
    input:
        subjects.per_unit("tractogram", "paired", "dwi-only"),


rule slices:
    input:
        subjects.slice_records,


rule train:
    input:
        tasks.every_fit("models/{task}/{model}/model.safetensors"),


rule translate:
    input:
        tasks.every_translation,


rule field:
    input:
        fields.every("field"),


rule render:
    input:
        fields.every(*fields.views),
        f"{files.root}/fields.html",


rule evaluate:
    input:
        tasks.every_task("evaluate/{task}/summary.tsv"),


rule real:
    input:
        real.wanted,


rule pretrained:
    input:
        real.wanted_weights,


rule downstream:
    input:
        validation.page,


rule figures:
    input:
        pages.paper("report"),


rule report:
    input:
        pages.page("report"),


rule compare:
    input:
        pages.wanted("compare"),


rule ablation:
    input:
        pages.wanted("ablation"),


rule fgdl:
    input:
        pages.wanted("fgdl"),
