"""One common grid per person: T1 and FA on it, quality numbers and picture, slices."""


rule anat:
    """T1 on the isotropic grid, its brain, white matter and affine to the template.

    Mattes et al. (2003) IEEE TMI 22:120 (mutual information); Fonov et al. (2011) NeuroImage 54:313.
    """
    input:
        t1w=people.scan("t1w"),
        mask=people.scan("t1w_mask"),
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
        shards.of("person", cohort.place)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        mask=flag("--t1w-mask", "mask"),
        options=digest(CONFIG.anat),
        version=VERSIONS["anat"],
    shell:
        "m2m anat --root {params.root:q} {params.subject:q} --config {params.config:q}"
        " --t1w {input.t1w:q} {params.mask:q} > {log:q} 2>&1"


rule grid:
    """DWI registered to the T1 by mutual information, kept only where it improves it; FA on the
    grid, tensors and tract density (Calamante et al. 2010, NeuroImage 53:1233) where tasks need
    them; then slices of three orientations, normalised per volume, to be memory-mapped. One job,
    since each costs a cluster seconds and the plan memory.
    """
    input:
        **grid_inputs(),
        t1w=at("t1w"),
        anat=at("anat-status"),
        fa=at("dwi-fa"),
        dti=at("dti-status"),
    output:
        **grid_outputs(),
        fa=at("fa"),
        target=at("target-mask"),
        picture=at("picture"),
        status=at("grid-status"),
        axial=f"{files.root}/slices/{{folder}}/{{unit}}_axial.npy",
        coronal=f"{files.root}/slices/{{folder}}/{{unit}}_coronal.npy",
        sagittal=f"{files.root}/slices/{{folder}}/{{unit}}_sagittal.npy",
        record=f"{files.root}/slices/{{folder}}/{{unit}}_slices.json",
    log:
        log("grid", "{folder}/{unit}"),
    benchmark:
        bench("grid", "{folder}/{unit}")
    group:
        shards.of("person", cohort.place)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        # Made by the same two jobs as the inputs; planning costs by the file.
        brain=at("brain"),
        wm=at("wm"),
        v1=at("dwi-v1"),
        b0=at("b0"),
        mask=at("dwi-mask"),
        further=grid_flags,
        further_slices=slices_flags,
        options=options(CONFIG.grid),
        slices=options(CONFIG.slices),
        version=[VERSIONS["grid"], VERSIONS["slices"]],
    shell:
        "m2m grid --unit {wildcards.unit} --t1w {input.t1w:q} --brain {params.brain:q}"
        " --wm {params.wm:q} --anat-status {input.anat:q} --fa {input.fa:q} --v1 {params.v1:q}"
        " --b0 {params.b0:q} --dwi-mask {params.mask:q} --dti-status {input.dti:q}"
        " --out-fa {output.fa:q} --out-target-mask {output.target:q} --picture {output.picture:q}"
        " --status {output.status:q} {params.further:q} --options {params.options:q} > {log:q} 2>&1 && "
        "m2m slices --unit {wildcards.unit} --t1w {input.t1w:q} --brain {params.brain:q}"
        " --anat-status {input.anat:q} --fa {output.fa:q} --target-mask {output.target:q}"
        " --grid-status {output.status:q} --axial {output.axial:q} --coronal {output.coronal:q}"
        " --sagittal {output.sagittal:q} --record {output.record:q} {params.further_slices:q}"
        " --options {params.slices:q} >> {log:q} 2>&1"


rule collect:
    """The slices that models are fitted and chosen on, each with its hash."""
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


if CONFIG.lows:

    use rule dti as dti_low with:
        output:
            fa=at("dwi-fa", files.low),
            md=at("dwi-md", files.low),
            ad=at("dwi-ad", files.low),
            rd=at("dwi-rd", files.low),
            v1=at("dwi-v1", files.low),
            tensor=at("dwi-tensor", files.low),
            mask=at("dwi-mask", files.low),
            b0=at("b0", files.low),
            status=at("dti-status", files.low),
        log:
            log("dti", "{low}/{folder}/{unit}"),
        benchmark:
            bench("dti", "{low}/{folder}/{unit}")
        params:
            root=files.dataset_root,
            subject=subject_flags,
            config=files.config,
            mask=flag("--supplied-mask", "mask"),
            low=low_flag,
            options=digests.low_dti,
            version=[VERSIONS["dti"], VERSIONS["lower"]],

    rule lower:
        """FA as a fast scan gives it: k-space cropped, of the series before the tensor fit or of the
        map (Feng et al. 2024, IEEE TMI, doi:10.1109/TMI.2024.3445969).
        """
        input:
            fa=tasks.lowered("dwi-fa", "fa"),
            mask=tasks.lowered("dwi-mask", "target-mask"),
            made=tasks.lowered("dti-status", "grid-status"),
            grid=at("grid-status"),
        output:
            map=at("low-fa", files.low),
            status=f"{files.low_slices}_slices.json",
            axial=f"{files.low_slices}_axial.npy",
            coronal=f"{files.low_slices}_coronal.npy",
            sagittal=f"{files.low_slices}_sagittal.npy",
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
            root=files.dataset_root,
            subject=subject_flags,
            version=VERSIONS["lower"],
        shell:
            "m2m lower --root {params.root:q} {params.subject:q} --low {wildcards.low:q}"
            " > {log:q} 2>&1"

    use rule collect as collect_low with:
        input:
            slices=tasks.low_records,
            units=files.units,
            split=files.split,
            record=files.split_record,
        output:
            table=f"{files.low}/slices.tsv",
        log:
            log("collect", "{low}"),
        benchmark:
            bench("collect", "{low}")
        params:
            slices=f"{files.low}/slices",
            version=VERSIONS["collect"],


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
    """Everybody's status and quality numbers, and the cohort's flow; no model is fitted from it."""
    input:
        units=files.units,
        split=files.split,
        record=files.split_record,
        # What grid writes last, so that a job that was killed before is made again, of test
        # people too; dti's and anat's statuses are behind it.
        grid=people.slice_records,
        dti=people.per_unit("dti-status", "dwi-only"),
        anat=people.per_unit("anat-status", "t1w-only"),
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
