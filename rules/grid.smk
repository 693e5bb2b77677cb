"""One common grid per person: T1 and FA on it, quality numbers and picture, slices."""


rule anat:
    """T1 on the isotropic grid, its brain, white matter and affine to the template.

    Mattes et al. (2003) IEEE TMI 22:120 (mutual information); Fonov et al. (2011) NeuroImage 54:313.
    """
    input:
        t1w=scan("t1w"),
        mask=scan("t1w_mask"),
    output:
        t1w=at("t1w"),
        brain=at("brain"),
        wm=at("wm"),
        status=at("anat-status"),
    log:
        log("anat", "{folder}/{unit}"),
    benchmark:
        bench("anat", "{folder}/{unit}")
    group:
        shard("person", place_of_unit)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        mask=flag("--t1w-mask", "mask"),
        options=options(CONFIG.anat),
        version=VERSIONS["anat"],
    shell:
        "m2m anat --unit {wildcards.unit} --t1w {input.t1w:q} {params.mask:q}"
        " --out-t1w {output.t1w:q} --out-brain {output.brain:q} --out-wm {output.wm:q}"
        " --status {output.status:q} --options {params.options:q} > {log:q} 2>&1"


rule grid:
    """DWI registered to the T1 by mutual information, kept only where it improves it; FA on the
    grid, tensors and tract density (Calamante et al. 2010, NeuroImage 53:1233) where tasks need
    them; then slices of three orientations, normalised per volume, to be memory-mapped. One job,
    since each costs a cluster seconds and the plan memory.
    """
    input:
        **grid_inputs(),
        # Made by the same two jobs as the brain, the white matter and the other maps of the DWI;
        # planning costs by the file.
        t1w=at("t1w"),
        anat=at("anat-status"),
        fa=at("dwi-fa"),
        dti=at("dti-status"),
    output:
        **grid_outputs(),
        target=at("target-mask"),
        picture=at("picture"),
        status=at("grid-status"),
        axial=slices_at("axial.npy"),
        coronal=slices_at("coronal.npy"),
        sagittal=slices_at("sagittal.npy"),
        record=slices_at("slices.json"),
    log:
        log("grid", "{folder}/{unit}"),
    benchmark:
        bench("grid", "{folder}/{unit}")
    group:
        shard("person", place_of_unit)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        root=dataset_root,
        who=who,
        maps=maps_flags(CARRIED),
        cut=maps_flags(modalities.in_slices(CONFIG.modalities)),
        options=options(CONFIG.grid),
        slices=options(CONFIG.slices),
        version=[VERSIONS["grid"], VERSIONS["slices"]],
    shell:
        "m2m grid --root {params.root:q} {params.who:q} {params.maps:q} --options {params.options:q}"
        " > {log:q} 2>&1 && "
        "m2m slices --root {params.root:q} {params.who:q} {params.cut:q} --options {params.slices:q}"
        " >> {log:q} 2>&1"


rule collect:
    """The slices that models are fitted and chosen on, each with its hash."""
    input:
        slices=slices_to_fit,
        units=UNITS,
        split=SPLIT,
        record=SPLIT_RECORD,
    output:
        table=SLICES,
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
        slices=slices_folder,
        version=VERSIONS["collect"],
    shell:
        "m2m collect --units {input.units:q} --split {input.split:q} --split-record {input.record:q}"
        " --slices-dir {params.slices:q} --table {output.table:q} > {log:q} 2>&1"


if CONFIG.lows:

    use rule dti as dti_low with:
        output:
            fa=at("dwi-fa", LOW),
            md=at("dwi-md", LOW),
            ad=at("dwi-ad", LOW),
            rd=at("dwi-rd", LOW),
            v1=at("dwi-v1", LOW),
            tensor=at("dwi-tensor", LOW),
            mask=at("dwi-mask", LOW),
            b0=at("b0", LOW),
            status=at("dti-status", LOW),
        log:
            log("dti", "{low}/{folder}/{unit}"),
        benchmark:
            bench("dti", "{low}/{folder}/{unit}")
        params:
            mask=flag("--supplied-mask", "mask"),
            preprocessed=flag("--preprocess-status", "preprocessed"),
            options=low_dti_options,
            version=[VERSIONS["dti"], VERSIONS["lower"]],

    rule lower:
        """FA as a fast scan gives it: k-space cropped, of the series before the tensor fit or of the
        map (Feng et al. 2024, IEEE TMI, doi:10.1109/TMI.2024.3445969).
        """
        input:
            fa=lowered("dwi-fa", "fa"),
            mask=lowered("dwi-mask", "target-mask"),
            made=lowered("dti-status", "grid-status"),
            grid=at("grid-status"),
        output:
            map=at("low-fa", LOW),
            status=slices_at("slices.json", LOW),
            axial=slices_at("axial.npy", LOW),
            coronal=slices_at("coronal.npy", LOW),
            sagittal=slices_at("sagittal.npy", LOW),
        log:
            log("lower", "{low}/{folder}/{unit}"),
        benchmark:
            bench("lower", "{low}/{folder}/{unit}")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(30),
        params:
            brain=at("brain"),
            ratio=low_ratio,
            version=VERSIONS["lower"],
        shell:
            "m2m lower --unit {wildcards.unit} --ratio {params.ratio:q} --fa {input.fa:q}"
            " --mask {input.mask:q} --brain {params.brain:q} --require {input.made:q}"
            " --grid-status {input.grid:q} --out {output.map:q} --status {output.status:q}"
            " --axial {output.axial:q} --coronal {output.coronal:q} --sagittal {output.sagittal:q}"
            " > {log:q} 2>&1"

    use rule collect as collect_low with:
        input:
            slices=low_records,
            units=UNITS,
            split=SPLIT,
            record=SPLIT_RECORD,
        output:
            table=f"{LOW}/slices.tsv",
        log:
            log("collect", "{low}"),
        benchmark:
            bench("collect", "{low}")
        params:
            slices=f"{LOW}/slices",
            version=VERSIONS["collect"],


if CROSS_FITTED:

    use rule collect as collect_of_fold with:
        input:
            slices=slices_of_other_folds,
            units=UNITS,
            split=f"{FOLD}/split.tsv",
            record=f"{FOLD}/split.json",
        output:
            table=f"{FOLD}/slices.tsv",
        log:
            log("collect", "fold-{fold}"),
        benchmark:
            bench("collect", "fold-{fold}")


rule quality:
    """Everybody's status and quality numbers, and the cohort's flow; no model is fitted from it."""
    input:
        units=UNITS,
        split=SPLIT,
        record=SPLIT_RECORD,
        # What grid writes last, so that a job that was killed before is made again, of test
        # people too; dti's and anat's statuses are behind it.
        grid=slice_records,
        dti=per_unit("dti-status", "dwi-only"),
        anat=per_unit("anat-status", "t1w-only"),
    output:
        table=QUALITY,
        flow=FLOW,
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
        root=dataset_root,
        version=VERSIONS["quality"],
    shell:
        "m2m quality --units {input.units:q} --split {input.split:q} --split-record {input.record:q}"
        " --root {params.root:q} --table {output.table:q} --flow {output.flow:q} > {log:q} 2>&1"
