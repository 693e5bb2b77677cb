"""The common grid of each participant: T1, coregistered maps, slices, low resolutions."""


rule anat:
    """T1 on the isotropic grid, its brain, white matter and affine to the template.

    Mattes et al. (2003) IEEE TMI 22:120 (mutual information); Fonov et al. (2011) NeuroImage 54:313.
    """
    input:
        t1w=subjects.scan("t1w"),
        mask=subjects.scan("t1w_mask"),
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
        shards.of("participant", cohort.place)
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


if tasks.deformation_needed():

    rule deform:
        """The template deformed to the T1 by symmetric diffeomorphic registration, checked for folding
        (Avants et al. 2008, Med Image Anal 12:26).
        """
        input:
            t1w=at("t1w"),
            brain=at("brain"),
            anat=at("anat-status"),
        output:
            forward=at("deformation"),
            inverse=at("inverse-deformation"),
            figure=at("deform-figure"),
            status=at("deform-status"),
        log:
            log("deform", "{folder}/{unit}"),
        benchmark:
            bench("deform", "{folder}/{unit}")
        group:
            shards.of("participant", cohort.place)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(30),
        params:
            root=files.dataset_root,
            subject=subject_flags,
            config=files.config,
            options=digest(CONFIG.deformation),
            version=VERSIONS["deform"],
        shell:
            "m2m deform --root {params.root:q} {params.subject:q} --config {params.config:q} > {log:q} 2>&1"

    # The same table, made after the deformations: an input of models that use them.
    use rule collect as collect_deformed with:
        input:
            slices=files.slice_table,
            deformations=tasks.deformations_to_fit,
            units=files.units,
            split=files.split,
            record=files.split_record,
        output:
            table=f"{files.cohort}/deformed.tsv",
        log:
            log("collect", "deformed"),
        benchmark:
            bench("collect", "deformed")

    if tasks.deformation_needed(tasks.cross_fitted):

        use rule collect as collect_deformed_of_fold with:
            input:
                slices=f"{files.fold}/slices.tsv",
                deformations=tasks.deformations_of_other_folds,
                units=files.units,
                split=f"{files.fold}/split.tsv",
                record=f"{files.fold}/split.json",
            output:
                table=f"{files.fold}/deformed.tsv",
            log:
                log("collect", "deformed-fold-{fold}"),
            benchmark:
                bench("collect", "deformed-fold-{fold}")


rule grid:
    """DWI registered to the T1 by mutual information, kept only where it improves the alignment; FA
    on the grid, tensors and tract density (Calamante et al. 2010, NeuroImage 53:1233) where tasks
    need them; then slices of three orientations, normalised per volume, to be memory-mapped. One
    job for all, since each job takes seconds on a cluster and memory in planning.
    """
    input:
        **subjects.grid_inputs(),
        # The brain, the white matter and the other maps of the DWI are outputs of the same two jobs;
        # they are not listed, since each input makes planning slower.
        t1w=at("t1w"),
        anat=at("anat-status"),
        fa=at("dwi-fa"),
        dti=at("dti-status"),
    output:
        **subjects.grid_outputs(),
        target=at("target-mask"),
        figure=at("qc"),
        status=at("grid-status"),
        axial=files.slices_at("axial.npy"),
        coronal=files.slices_at("coronal.npy"),
        sagittal=files.slices_at("sagittal.npy"),
        record=files.slices_at("slices.json"),
    log:
        log("grid", "{folder}/{unit}"),
    benchmark:
        bench("grid", "{folder}/{unit}")
    group:
        shards.of("participant", cohort.place)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        maps=repeated("--maps", modalities.on_grid(CONFIG.modalities)),
        cut=repeated("--maps", modalities.in_slices(CONFIG.modalities)),
        options=[digest(CONFIG.grid), digest(CONFIG.slices)],
        version=[VERSIONS["grid"], VERSIONS["slices"]],
    shell:
        "m2m grid --root {params.root:q} {params.subject:q} {params.maps:q} --config {params.config:q}"
        " > {log:q} 2>&1 && "
        "m2m slices --root {params.root:q} {params.subject:q} {params.cut:q} --config {params.config:q}"
        " >> {log:q} 2>&1"


if CONFIG.low_resolutions:

    use rule dti as dti_low_res with:
        output:
            fa=at("dwi-fa", files.low_res),
            md=at("dwi-md", files.low_res),
            ad=at("dwi-ad", files.low_res),
            rd=at("dwi-rd", files.low_res),
            v1=at("dwi-v1", files.low_res),
            tensor=at("dwi-tensor", files.low_res),
            mask=at("dwi-mask", files.low_res),
            b0=at("b0", files.low_res),
            status=at("dti-status", files.low_res),
        log:
            log("dti", "{low_res}/{folder}/{unit}"),
        benchmark:
            bench("dti", "{low_res}/{folder}/{unit}")
        params:
            root=files.dataset_root,
            subject=subject_flags,
            config=files.config,
            mask=flag("--supplied-mask", "mask"),
            low_res=low_res_flag,
            options=digests.low_res_dti,
            version=[VERSIONS["dti"], VERSIONS["simulate-low-res"]],

    rule simulate_low_res:
        """FA as from a fast scan: cropped k-space, of the series before the tensor fit or of the
        map (Feng et al. 2024, IEEE TMI, doi:10.1109/TMI.2024.3445969).
        """
        input:
            fa=tasks.low_res_source("dwi-fa", "fa"),
            mask=tasks.low_res_source("dwi-mask", "target-mask"),
            status=tasks.low_res_source("dti-status", "grid-status"),
            grid=at("grid-status"),
        output:
            map=at("low-res-fa", files.low_res),
            status=files.slices_at("slices.json", files.low_res),
            axial=files.slices_at("axial.npy", files.low_res),
            coronal=files.slices_at("coronal.npy", files.low_res),
            sagittal=files.slices_at("sagittal.npy", files.low_res),
        log:
            log("simulate_low_res", "{low_res}/{folder}/{unit}"),
        benchmark:
            bench("simulate_low_res", "{low_res}/{folder}/{unit}")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(2000),
            runtime=minutes(30),
        params:
            root=files.dataset_root,
            subject=subject_flags,
            version=VERSIONS["simulate-low-res"],
        shell:
            "m2m simulate-low-res --root {params.root:q} {params.subject:q} --low-res {wildcards.low_res:q}"
            " > {log:q} 2>&1"

    use rule collect as collect_low_res with:
        input:
            slices=tasks.low_res_records,
            units=files.units,
            split=files.split,
            record=files.split_record,
        output:
            table=f"{files.low_res}/slices.tsv",
        log:
            log("collect", "{low_res}"),
        benchmark:
            bench("collect", "{low_res}")
        params:
            slices=f"{files.low_res}/slices",
            version=VERSIONS["collect"],
