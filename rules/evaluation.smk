"""How far the prediction can be trusted: each model against the truth, and against each other."""


rule evaluate_model:
    """SSIM (Wang et al. 2004, IEEE TIP 13:600), PSNR, MAE; concordance (Lin 1989, Biometrics 45:255).

    Dice (1945, Ecology 26:297) of tracts; log-Euclidean distance (Arsigny et al. 2006, MRM 56:411);
    Fourier shell correlation (van Heel and Schatz 2005, J Struct Biol 151:250); calibration of the
    uncertainty (Kuleshov et al. 2018, ICML).
    """
    input:
        synthetic=test_synthesis,
        mean=mean_maps,
        truth=test_truth,
        streamlines=test_tractograms,
        units=UNITS,
        split=SPLIT,
        split_record=SPLIT_RECORD,
        quality=QUALITY,
        record=model_records,
    output:
        metrics=f"{EVALUATION}/{{model}}/metrics.tsv",
        profile=f"{EVALUATION}/{{model}}/profile.tsv",
        rois=f"{EVALUATION}/{{model}}/rois.tsv",
        bundles=f"{EVALUATION}/{{model}}/bundles.tsv",
        spectrum=f"{EVALUATION}/{{model}}/spectrum.tsv",
        uncertainty=f"{EVALUATION}/{{model}}/uncertainty.tsv",
    log:
        log("evaluate_model", "{task}_{model}"),
    benchmark:
        bench("evaluate_model", "{task}_{model}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=120,
    params:
        root=dataset_root,
        target=target_of,
        streamlines=streamlines_flag,
        mean=mean_flag,
        records=record_flags,
        options=roi_options,
        version=VERSIONS["evaluate"],
    shell:
        "m2m evaluate --task {wildcards.task} --model {wildcards.model} --target {params.target}"
        " --root {params.root} --units {input.units} --split {input.split}"
        " --split-record {input.split_record} --quality {input.quality} {params.records}"
        " {params.streamlines} {params.mean} --metrics {output.metrics} --profile {output.profile}"
        " --rois {output.rois} --bundles {output.bundles} --spectrum {output.spectrum}"
        " --uncertainty {output.uncertainty}"
        " --options {params.options:q} > {log} 2>&1"


rule compare_models:
    """Paired differences on the same subjects, intervals by bootstrap (Efron & Tibshirani 1993).

    p by signed ranks (Wilcoxon 1945, Biometrics Bull 1:80), corrected (Holm 1979, Scand J Stat 6:65).
    """
    input:
        metrics=models_of("evaluation/{task}/{model}/metrics.tsv"),
        rois=models_of("evaluation/{task}/{model}/rois.tsv"),
        flow=FLOW,
    output:
        summary=f"{EVALUATION}/summary.tsv",
        comparison=f"{EVALUATION}/comparison.tsv",
    log:
        log("compare_models", "{task}"),
    benchmark:
        bench("compare_models", "{task}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        root=dataset_root,
        models=task_model_flags,
        options=roi_options,
        version=VERSIONS["compare"],
    shell:
        "m2m compare --task {wildcards.task} --root {params.root} {params.models}"
        " --flow {input.flow} --summary {output.summary} --comparison {output.comparison}"
        " --options {params.options:q} > {log} 2>&1"
