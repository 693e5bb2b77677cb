"""How far the prediction can be trusted: each model against the truth, and against each other."""


rule evaluate_model:
    """SSIM (Wang et al. 2004, IEEE TIP 13:600), PSNR, MAE; concordance (Lin 1989, Biometrics 45:255).

    Dice (1945, Ecology 26:297) of tracts; log-Euclidean distance (Arsigny et al. 2006, MRM 56:411);
    Fourier shell correlation (van Heel and Schatz 2005, J Struct Biol 151:250); calibration of the
    uncertainty (Kuleshov et al. 2018, ICML).
    """
    input:
        synthetic=judging.test_synthesis,
        mean=judging.mean_maps,
        truth=judging.test_truth,
        units=files.units,
        split=files.split,
        split_record=files.split_record,
        quality=files.quality,
        record=tasks.model_records,
    output:
        metrics=f"{files.evaluation}/{{model}}/metrics.tsv",
        profile=f"{files.evaluation}/{{model}}/profile.tsv",
        rois=f"{files.evaluation}/{{model}}/rois.tsv",
        bundles=f"{files.evaluation}/{{model}}/bundles.tsv",
        spectrum=f"{files.evaluation}/{{model}}/spectrum.tsv",
        uncertainty=f"{files.evaluation}/{{model}}/uncertainty.tsv",
    log:
        log("evaluate_model", "{task}_{model}"),
    benchmark:
        bench("evaluate_model", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        root=files.dataset_root,
        config=files.config,
        target=tasks.target_of,
        mean=judging.mean_model,
        options=digests.evaluation,
        version=VERSIONS["evaluate"],
    shell:
        "m2m evaluate --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"


rule measure_labels:
    """How far a label correction moved what its model learned from (Feng et al. 2024, IEEE TMI,
    doi:10.1109/TMI.2024.3445969), and how much of a simulated distortion that undid.
    """
    input:
        weights=f"{files.model}/model.safetensors",
        slices=tasks.of_fold("slices.tsv"),
        split=tasks.of_fold("split.tsv"),
        record=tasks.of_fold("split.json"),
    output:
        table=f"{files.evaluation}/{{model}}/labels.tsv",
    log:
        log("measure_labels", "{task}_{model}"),
    benchmark:
        bench("measure_labels", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        config=files.config,
        truth=bool(files.simulated and CONFIG.cohort.phantom.distortion_mm),
        version=VERSIONS["labels"],
    shell:
        "m2m labels --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"


rule compare_models:
    """Paired differences on the same subjects, intervals by bootstrap (Efron & Tibshirani 1993).

    p by signed ranks (Wilcoxon 1945, Biometrics Bull 1:80), corrected (Holm 1979, Scand J Stat 6:65).
    """
    input:
        metrics=tasks.models_of("evaluation/{task}/{model}/metrics.tsv"),
        rois=tasks.models_of("evaluation/{task}/{model}/rois.tsv"),
        flow=files.flow,
    output:
        summary=f"{files.evaluation}/summary.tsv",
        comparison=f"{files.evaluation}/comparison.tsv",
    log:
        log("compare_models", "{task}"),
    benchmark:
        bench("compare_models", "{task}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        config=files.config,
        models=tasks.model_names,
        options=digests.evaluation,
        version=VERSIONS["compare"],
    shell:
        "m2m compare --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} > {log:q} 2>&1"


rule tables_of_task:
    """A task's means and differences as Markdown and LaTeX, best marked by interval, not by value."""
    input:
        summary=f"{files.evaluation}/summary.tsv",
        comparison=f"{files.evaluation}/comparison.tsv",
    output:
        tables=expand(
            f"{files.evaluation}/{{name}}.{{extension}}",
            name=["summary", "comparison"],
            extension=["md", "tex"],
            allow_missing=True,
        ),
    log:
        log("tables", "{task}"),
    benchmark:
        bench("tables", "{task}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(1000),
        runtime=minutes(10),
    params:
        root=files.dataset_root,
        config=files.config,
        models=tasks.model_names,
        version=VERSIONS["tables"],
    shell:
        "m2m tables --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} > {log:q} 2>&1"


if tasks.cross_fitted:

    rule features:
        """Regional means and histograms of measured maps, and of synthetic maps by networks that
        never saw the person (cross-fitting: Chernozhukov et al. 2018, Econom J 21:C1).
        """
        input:
            validation.described_maps,
            records=validation.cross_fitted_records,
            units=files.units,
            folds=files.folds,
            folds_record=files.folds_record,
            quality=files.quality,
        output:
            table=f"{files.downstream}/features.tsv",
        log:
            log("features", "features"),
        benchmark:
            bench("features", "features")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(240),
        params:
            root=files.dataset_root,
            config=files.config,
            images=digest(validation.images()),
            options=digests.evaluation,
            slices=digest(CONFIG.slices),
            version=VERSIONS["features"],
        shell:
            "m2m features --root {params.root:q} --config {params.config:q} > {log:q} 2>&1"

    rule predict_from_volumes:
        """A small 3D network (Peng et al. 2021, Med Image Anal 68:101871) on the same folds."""
        input:
            validation.described_maps,
            features=f"{files.downstream}/features.tsv",
            records=validation.cross_fitted_records,
            units=files.units,
            folds=files.folds,
            folds_record=files.folds_record,
            participants=people.participants_table,
        output:
            table=f"{files.downstream}/cnn/{{phenotype}}/{{seen}}.tsv",
        log:
            log("predict_from_volumes", "{phenotype}_{seen}"),
        benchmark:
            bench("predict_from_volumes", "{phenotype}_{seen}")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(6000),
            runtime=minutes(720),
            gpu=1,
        params:
            root=files.dataset_root,
            config=files.config,
            images=digest(validation.images()),
            options=digest(CONFIG.downstream),
            slices=digest(CONFIG.slices),
            version=VERSIONS["cnn"],
        shell:
            "m2m cnn --root {params.root:q} --config {params.config:q}"
            " --phenotype {wildcards.phenotype:q} --seen {wildcards.seen:q}"
            " --participants {input.participants:q} > {log:q} 2>&1"

    rule predict_phenotypes:
        """Nested cross-validation (Varma and Simon 2006, BMC Bioinformatics 7:91) by person and
        family; permutation tests (Ojala and Garriga 2010, J Mach Learn Res 11:1833).
        """
        input:
            features=f"{files.downstream}/features.tsv",
            cnn=validation.cnn_tables,
            folds_record=files.folds_record,
            participants=people.participants_table,
        output:
            record=f"{files.downstream}/downstream.json",
            tables=expand(
                f"{files.downstream}/{{table}}.tsv", table=validation_inputs.TABLES
            ),
        log:
            log("predict_phenotypes", "predict_phenotypes"),
        benchmark:
            bench("predict_phenotypes", "predict_phenotypes")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(720),
        params:
            root=files.dataset_root,
            config=files.config,
            cnn=validation.cnn_flag,
            measured=digest(validation.measured_of()),
            options=digest(CONFIG.downstream),
            version=VERSIONS["downstream"],
        shell:
            "m2m downstream --root {params.root:q} --config {params.config:q}"
            " --participants {input.participants:q} {params.cnn:q} > {log:q} 2>&1"
