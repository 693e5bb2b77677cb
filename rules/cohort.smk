"""Who takes part: simulated or indexed, validated, and divided into parts."""

if files.simulated:

    rule participants:
        """Age, sex and site of simulated people, and the dataset's tables (BIDS)."""
        output:
            participants=f"{files.rawdata}/participants.tsv",
            sidecar=f"{files.rawdata}/participants.json",
            description=f"{files.rawdata}/dataset_description.json",
            readme=f"{files.rawdata}/README",
            truth=f"{files.truth}/dataset_description.json",
            labels=f"{files.truth}/desc-bundles_dseg.tsv",
        log:
            log("participants", "participants"),
        benchmark:
            bench("participants", "participants")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            root=files.dataset_root,
            config=files.config,
            options=digest(CONFIG.cohort.phantom),
            version=VERSIONS["simulate"],
        shell:
            "m2m participants --root {params.root:q} --config {params.config:q}"
            " > {log:q} 2>&1"

    rule simulate:
        """One person's raw T1w and DWI from the MNI152 anatomy and a multi-tensor model.

        Fonov et al. (2011) NeuroImage 54:313; Garyfallidis et al. (2014) Front Neuroinform 8:8.
        """
        output:
            **people.phantom_truth(),
            t1w=f"{files.rawdata}/sub-{{participant}}/anat/sub-{{participant}}_T1w.nii.gz",
            dwi=f"{files.rawdata}/sub-{{participant}}/dwi/sub-{{participant}}_dwi.nii.gz",
            bval=f"{files.rawdata}/sub-{{participant}}/dwi/sub-{{participant}}_dwi.bval",
            bvec=f"{files.rawdata}/sub-{{participant}}/dwi/sub-{{participant}}_dwi.bvec",
            truth_fa=bids.unit_path(
                files.truth, "truth-fa", "sub-{participant}", "sub-{participant}"
            ),
            truth_tensor=bids.unit_path(
                files.truth, "truth-tensor", "sub-{participant}", "sub-{participant}"
            ),
            truth_bundles=bids.unit_path(
                files.truth, "truth-bundles", "sub-{participant}", "sub-{participant}"
            ),
        log:
            log("simulate", "sub-{participant}"),
        benchmark:
            bench("simulate", "sub-{participant}")
        group:
            shards.of("simulation", people.place_of_participant)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1500),
            runtime=minutes(15),
        params:
            root=files.dataset_root,
            config=files.config,
            options=digests.person,
            version=VERSIONS["simulate"],
        shell:
            "m2m simulate --root {params.root:q} --config {params.config:q}"
            " --subject sub-{wildcards.participant} > {log:q} 2>&1"


rule describe:
    """What the dataset of results is, and of each model's synthetic maps (BIDS derivatives)."""
    output:
        f"{files.root}/dataset_description.json",
        f"{files.root}/.bidsignore",
        tasks.every_model("synthetic/{task}/{model}/dataset_description.json"),
        tasks.every_model("synthetic/{task}/{model}/.bidsignore"),
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
        synthetic=digest(tasks.every_model("synthetic/{task}/{model}")),
        version=VERSIONS["describe"],
    shell:
        "m2m describe --root {params.root:q} --config {params.config:q}"
        " --source {params.source:q} > {log:q} 2>&1"


rule index:
    """Every scan of the dataset, one row each (PyBIDS; Yarkoni et al. 2019, JOSS 4:1294)."""
    input:
        people.raw_scans,
        participants=people.participants_table,
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
        subjects=people.listed_subjects,
        version=VERSIONS["index"],
    shell:
        "m2m index --config {params.config:q} --bids-dir {params.bids_dir:q}"
        " --manifest {output.manifest:q} > {log:q} 2>&1"


rule validate:
    """Scans checked by header, gradients and voxels; who is in, with which files, and why not."""
    input:
        manifest=f"{files.root}/cohort/manifest.tsv",
        participants=people.participants_table,
        exclude=people.exclusion_table,
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
        version=VERSIONS["validate"],
    shell:
        "m2m validate --config {params.config:q} --manifest {input.manifest:q}"
        " --units {output.units:q} --status {output.status:q} {params.participants:q}"
        " --threads {threads} > {log:q} 2>&1"


checkpoint split:
    """Parts by subject, family and site, stratified by age and sex; a checkpoint."""
    input:
        units=files.units,
        participants=people.participants_table,
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
        version=VERSIONS["split"],
    shell:
        "m2m split --config {params.config:q} --units {input.units:q}"
        " --table {output.table:q} --record {output.record:q} {params.participants:q}"
        " > {log:q} 2>&1"


if tasks.cross_fitted:

    checkpoint folds:
        """For each fold the others train: nobody is translated by who was trained on them."""
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
            options=digest(CONFIG.split),
            version=VERSIONS["folds"],
        shell:
            "m2m folds --config {params.config:q} --split {input.split:q}"
            " --split-record {input.record:q} --number {params.number:q}"
            " --out-dir {params.folder:q} > {log:q} 2>&1"
