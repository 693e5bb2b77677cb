"""Evaluation: each model compared with the measured maps, and with the other models."""


rule compare_field:
    """Held-out slices of a measured map, predicted by a field and by interpolation."""
    input:
        map=at("tdi"),
        mask=at("target-mask"),
        status=at("grid-status"),
    output:
        table=at("held-out"),
        status=at("held-out-status"),
    log:
        log("compare_field", "{folder}/{unit}"),
    benchmark:
        bench("compare_field", "{folder}/{unit}")
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        options=digest(CONFIG.held_out),
        field=digest(CONFIG.field),
        version=VERSIONS["compare-fields"],
    shell:
        "m2m compare-fields --root {params.root:q} {params.subject:q}"
        " --config {params.config:q} > {log:q} 2>&1"


rule evaluate_model:
    """SSIM (Wang et al. 2004, IEEE TIP 13:600), PSNR, MAE; concordance (Lin 1989, Biometrics 45:255).

    Dice (1945, Ecology 26:297) of tracts; log-Euclidean distance (Arsigny et al. 2006, MRM 56:411);
    Fourier shell correlation (van Heel and Schatz 2005, J Struct Biol 151:250); calibration of the
    uncertainty (Kuleshov et al. 2018, ICML).
    """
    input:
        synthetic=evaluating.test_synthesis,
        mean=evaluating.evaluated_mean,
        units=files.units,
        split=files.split,
        split_record=files.split_record,
        # It stands for the measured maps, after which it is made.
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
        mean=evaluating.mean_model,
        options=digests.evaluation,
        version=VERSIONS["evaluate"],
    shell:
        "m2m evaluate --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} --model {wildcards.model} > {log:q} 2>&1"


rule compare_models:
    """Paired differences on the same subjects, intervals and p by Student's t (Student 1908, Biometrika 6:1).

    Rates: exact intervals (Clopper & Pearson 1934, Biometrika 26:404). p is corrected (Holm 1979, Scand J Stat 6:65).
    """
    input:
        metrics=tasks.models_of("evaluate/{task}/{model}/metrics.tsv"),
        rois=tasks.models_of("evaluate/{task}/{model}/rois.tsv"),
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
        version=VERSIONS["compare"],
    shell:
        "m2m compare --root {params.root:q} --config {params.config:q}"
        " --task {wildcards.task} > {log:q} 2>&1"


if CONFIG.evaluation.visits:

    rule compare_visits:
        """Change within participants; ICC(2,1) (Shrout & Fleiss 1979, Psychol Bull 86:420) and variation of repeats."""
        input:
            rois=tasks.models_of("evaluate/{task}/{model}/rois.tsv"),
            flow=files.flow,
        output:
            visits=f"{files.evaluation}/visits.tsv",
            pairs=f"{files.evaluation}/visit_pairs.tsv",
        log:
            log("compare_visits", "{task}"),
        benchmark:
            bench("compare_visits", "{task}")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(60),
        params:
            root=files.dataset_root,
            config=files.config,
            bids_dir=files.rawdata,
            models=tasks.model_names,
            options=digests.evaluation,
            sessions=subjects.session_tables,
            version=VERSIONS["compare-visits"],
        shell:
            "m2m compare-visits --root {params.root:q} --config {params.config:q}"
            " --task {wildcards.task} --bids-dir {params.bids_dir:q} > {log:q} 2>&1"


rule compare_pairs:
    """Real pairs beside an atlas and a second measurement (attenuation: Spearman 1904, Am J Psychol 15:72)."""
    input:
        pairs=f"{real.root}/pairs.tsv",
    output:
        tables=expand(f"{real.root}/{{table}}.tsv", table=real_inputs.TABLES),
        markdown=f"{real.root}/metrics.md",
    log:
        log("compare_pairs", "pairs"),
    benchmark:
        bench("compare_pairs", "pairs")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=minutes(120),
    params:
        root=files.dataset_root,
        config=files.config,
        options=ordered_digest(CONFIG.real),
        evaluation=digest(CONFIG.evaluation),
        version=VERSIONS["compare-pairs"],
    shell:
        "m2m compare-pairs --root {params.root:q} --config {params.config:q}"
        " > {log:q} 2>&1"
