"""The common grid of each participant: T1, coregistered maps, slices, low resolutions."""


rule anat:
    """T1 on the isotropic grid, its brain, white matter and affine to the template.

    Mattes et al. (2003) IEEE TMI 22:120 (mutual information); Fonov et al. (2011) NeuroImage 54:313.
    """
    input:
        with_t1.inputs(subjects.prepared),
    output:
        t1w=with_t1.output(at("t1w")),
        brain=with_t1.output(at("brain")),
        wm=with_t1.output(at("wm")),
        status=with_t1.output(at("anat-status")),
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
        runtime=minutes(30 * with_t1.size),
    params:
        root=files.dataset_root,
        subjects=with_t1.flags(subject_flags, subjects.anat_flags),
        config=files.config,
        options=digest(CONFIG.anat),
        version=VERSIONS["anat"],
    shell:
        "M2M_MADE_BY={params.version:q}-{params.options:q} m2m anat --root {params.root:q} --config {params.config:q}"
        " {params.subjects:q} > {log:q} 2>&1"


if tasks.deformation_needed():

    rule deform:
        """The template deformed to the T1 by symmetric diffeomorphic registration, checked for folding
        (Avants et al. 2008, Med Image Anal 12:26).
        """
        input:
            t1w=with_t1.inputs(at("t1w")),
            brain=with_t1.inputs(at("brain")),
            anat=with_t1.inputs(at("anat-status")),
        output:
            forward=with_t1.output(at("deformation")),
            inverse=with_t1.output(at("inverse-deformation")),
            figure=with_t1.output(at("deform-figure")),
            status=with_t1.output(at("deform-status")),
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
            runtime=minutes(30 * with_t1.size),
        params:
            root=files.dataset_root,
            subjects=with_t1.flags(subject_flags),
            config=files.config,
            options=digest(CONFIG.deformation),
            version=VERSIONS["deform"],
        shell:
            "M2M_MADE_BY={params.version:q}-{params.options:q} m2m deform --root {params.root:q}"
            " --config {params.config:q} {params.subjects:q} > {log:q} 2>&1"

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
        with_both.inputs(subjects.grid_inputs),
        # The brain, the white matter and the other maps of the DWI are outputs of the same two jobs;
        # they are not listed, since each input makes planning slower.
        t1w=with_both.inputs(at("t1w")),
        anat=with_both.inputs(at("anat-status")),
        fa=with_both.inputs(at("dwi-fa")),
        dti=with_both.inputs(at("dti-status")),
    output:
        maps=with_both.output(subjects.grid_outputs()),
        target=with_both.output(at("target-mask")),
        figure=with_both.output(at("qc")),
        status=with_both.output(at("grid-status")),
        axial=with_both.output(files.slices_at("axial.npy")),
        coronal=with_both.output(files.slices_at("coronal.npy")),
        sagittal=with_both.output(files.slices_at("sagittal.npy")),
        record=with_both.output(files.slices_at("slices.json")),
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
        runtime=minutes(30 * with_both.size),
    params:
        root=files.dataset_root,
        subjects=with_both.flags(subject_flags),
        config=files.config,
        maps=repeated("--maps", modalities.on_grid(CONFIG.modalities)),
        cut=repeated("--maps", modalities.in_slices(CONFIG.modalities)),
        options=[digest(CONFIG.grid), digest(CONFIG.slices)],
        version=[VERSIONS["grid"], VERSIONS["slices"]],
    shell:
        "M2M_MADE_BY={params.version[0]:q}-{params.options[0]:q} m2m grid --root {params.root:q} {params.maps:q}"
        " --config {params.config:q} {params.subjects:q} > {log:q} 2>&1 && "
        "M2M_MADE_BY={params.version[1]:q}-{params.options[1]:q} m2m slices --root {params.root:q} {params.cut:q}"
        " --config {params.config:q} {params.subjects:q} >> {log:q} 2>&1"


if CONFIG.low_resolutions:

    use rule dti as dti_low_res with:
        input:
            with_both.inputs(subjects.fitted),
        output:
            fa=with_both.output(at("dwi-fa", files.low_res)),
            md=with_both.output(at("dwi-md", files.low_res)),
            ad=with_both.output(at("dwi-ad", files.low_res)),
            rd=with_both.output(at("dwi-rd", files.low_res)),
            v1=with_both.output(at("dwi-v1", files.low_res)),
            tensor=with_both.output(at("dwi-tensor", files.low_res)),
            mask=with_both.output(at("dwi-mask", files.low_res)),
            b0=with_both.output(at("b0", files.low_res)),
            status=with_both.output(at("dti-status", files.low_res)),
        log:
            log("dti", "{low_res}/{folder}/{unit}"),
        benchmark:
            bench("dti", "{low_res}/{folder}/{unit}")
        params:
            root=files.dataset_root,
            subjects=with_both.flags(subject_flags, subjects.fit_flags),
            config=files.config,
            low_res=low_res_flag,
            options=digests.low_res_dti,
            version=f"{VERSIONS['dti']}-{VERSIONS['simulate-low-res']}",

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
