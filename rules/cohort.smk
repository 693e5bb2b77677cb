"""The cohort: scans listed and checked, participants divided into parts, quality measures collected."""


rule describe:
    """Descriptions of the results, of each model's synthetic maps and of each low resolution (BIDS derivatives)."""
    output:
        f"{files.root}/dataset_description.json",
        f"{files.root}/.bidsignore",
        tasks.every_model("synthetic/{task}/{model}/dataset_description.json"),
        tasks.every_model("synthetic/{task}/{model}/.bidsignore"),
        expand(
            f"{files.given}/{{name}}",
            weights=validation.given,
            name=["dataset_description.json", ".bidsignore"],
        ),
        expand(
            f"{files.low_res}/{{name}}",
            low_res=CONFIG.low_resolutions,
            name=["dataset_description.json", ".bidsignore"],
        ),
    log:
        log("describe", "describe"),
    benchmark:
        bench("describe", "describe")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(500),
        runtime=minutes(5),
    params:
        root=files.dataset_root,
        source=files.rawdata,
        config=files.config,
        synthetic=digest(
            [
                *tasks.every_model("synthetic/{task}/{model}"),
                *expand(files.given, weights=validation.given),
            ]
        ),
        low_res=digest(sorted(CONFIG.low_resolutions)),
        version=VERSIONS["describe"],
    shell:
        "m2m describe --root {params.root:q} --config {params.config:q}"
        " --source {params.source:q} > {log:q} 2>&1"


rule index:
    """Every scan of the dataset, one row each (PyBIDS; Yarkoni et al. 2019, JOSS 4:1294)."""
    input:
        subjects.raw_scans,
        participants=subjects.participants_table,
    output:
        manifest=f"{files.root}/cohort/manifest.tsv",
    log:
        log("index", "index"),
    benchmark:
        bench("index", "index")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(4000),
        runtime=minutes(120),
    params:
        bids_dir=files.rawdata,
        config=files.config,
        options=digests.cohort,
        subjects=subjects.listed_subjects,
        version=VERSIONS["index"],
    shell:
        "m2m index --config {params.config:q} --bids-dir {params.bids_dir:q}"
        " --manifest {output.manifest:q} > {log:q} 2>&1"


rule validate:
    """Scans checked by header, gradients and voxels; state and files of every unit, with reasons."""
    input:
        manifest=f"{files.root}/cohort/manifest.tsv",
        participants=subjects.participants_table,
        exclude=subjects.exclusion_table,
    output:
        units=files.units,
        status=f"{files.root}/cohort/cohort_status.tsv",
    log:
        log("validate", "validate"),
    benchmark:
        bench("validate", "validate")
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(4000),
        runtime=minutes(240),
    params:
        participants=flag("--participants", "participants"),
        config=files.config,
        options=digests.cohort,
        dti=digests.selection,
        sessions=subjects.session_tables,
        version=VERSIONS["validate"],
    shell:
        "m2m validate --config {params.config:q} --manifest {input.manifest:q}"
        " --units {output.units:q} --status {output.status:q} {params.participants:q}"
        " --threads {threads} > {log:q} 2>&1"


checkpoint split:
    """Parts by subject, family and site, stratified by age and sex; a checkpoint."""
    input:
        units=files.units,
        participants=subjects.participants_table,
    output:
        table=files.split,
        record=files.split_record,
    log:
        log("split", "split"),
    benchmark:
        bench("split", "split")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        participants=flag("--participants", "participants"),
        config=files.config,
        options=digest(CONFIG.split),
        sessions=subjects.session_tables,
        version=VERSIONS["split"],
    shell:
        "m2m split --config {params.config:q} --units {input.units:q}"
        " --table {output.table:q} --record {output.record:q} {params.participants:q}"
        " > {log:q} 2>&1"


if tasks.cross_fitted:

    checkpoint folds:
        """Folds of participants: a fold is translated by networks trained on the other folds."""
        input:
            split=files.split,
            record=files.split_record,
        output:
            table=files.folds,
            record=files.folds_record,
            splits=expand(
                f"{files.fold}/split.{{suffix}}",
                fold=range(1, CONFIG.downstream.folds + 1),
                suffix=["tsv", "json"],
            ),
        log:
            log("folds", "folds"),
        benchmark:
            bench("folds", "folds")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            folder=output_folder,
            number=CONFIG.downstream.folds,
            config=files.config,
            options=digests.folds,
            version=VERSIONS["folds"],
        shell:
            "m2m folds --config {params.config:q} --split {input.split:q}"
            " --split-record {input.record:q} --number {params.number:q}"
            " --out-dir {params.folder:q} > {log:q} 2>&1"


if CONFIG.downstream.without_dwi:

    rule folds_of_t1s:
        """Folds of participants with a T1, for the predictors: no network is trained."""
        input:
            # Made by the checkpoint, before this table is read.
            split=files.split,
            units=files.units,
            participants=subjects.participants_table,
        output:
            table=files.folds,
            record=files.folds_record,
        log:
            log("folds", "folds"),
        benchmark:
            bench("folds", "folds")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            folder=output_folder,
            number=CONFIG.downstream.folds,
            participants=flag("--participants", "participants"),
            config=files.config,
            options=digests.folds,
            sessions=subjects.session_tables,
            version=VERSIONS["folds"],
        shell:
            "m2m folds --config {params.config:q} --units {input.units:q} {params.participants:q}"
            " --number {params.number:q} --out-dir {params.folder:q} > {log:q} 2>&1"


rule collect:
    """The slices of the training and validation parts, each with its hash."""
    input:
        slices=tasks.slices_to_fit,
        units=files.units,
        split=files.split,
        record=files.split_record,
    output:
        table=files.slice_table,
    log:
        log("collect", "collect"),
    benchmark:
        bench("collect", "collect")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(60),
    params:
        slices=files.slices_folder,
        version=VERSIONS["collect"],
    shell:
        "m2m collect --units {input.units:q} --split {input.split:q} --split-record {input.record:q}"
        " --slices-dir {params.slices:q} --table {output.table:q} > {log:q} 2>&1"


if tasks.cross_fitted:

    use rule collect as collect_of_fold with:
        input:
            slices=tasks.slices_of_other_folds,
            units=files.units,
            split=f"{files.fold}/split.tsv",
            record=f"{files.fold}/split.json",
        output:
            table=f"{files.fold}/slices.tsv",
        log:
            log("collect", "fold-{fold}"),
        benchmark:
            bench("collect", "fold-{fold}")


rule quality:
    """Every participant's status and quality measures, and the cohort's flow; not used in training."""
    input:
        units=files.units,
        split=files.split,
        record=files.split_record,
        # The last output of the rule grid, so that a killed job is run again, also for test
        # participants; the statuses of dti and anat are inputs of grid.
        grid=subjects.slice_records,
        dti=subjects.per_unit("dti-status", "dwi-only"),
        anat=subjects.per_unit("anat-status", "t1w-only"),
        deformation=tasks.reported_deformations,
    output:
        table=files.quality,
        flow=files.flow,
    log:
        log("quality", "quality"),
    benchmark:
        bench("quality", "quality")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        version=VERSIONS["quality"],
    shell:
        "m2m quality --units {input.units:q} --split {input.split:q} --split-record {input.record:q}"
        " --root {params.root:q} --table {output.table:q} --flow {output.flow:q} > {log:q} 2>&1"
