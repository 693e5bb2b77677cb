"""One common grid per subject: T1, coregistered maps, slices, low resolutions."""


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
        **people.grid_inputs(),
        # Made by the same two jobs as the brain, the white matter and the other maps of the DWI;
        # planning costs by the file.
        t1w=at("t1w"),
        anat=at("anat-status"),
        fa=at("dwi-fa"),
        dti=at("dti-status"),
    output:
        **people.grid_outputs(),
        target=at("target-mask"),
        picture=at("picture"),
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
        maps=repeated("--maps", modalities.on_grid(CONFIG.modalities)),
        cut=repeated("--maps", modalities.in_slices(CONFIG.modalities)),
        options=[digest(CONFIG.grid), digest(CONFIG.slices)],
        version=[VERSIONS["grid"], VERSIONS["slices"]],
    shell:
        "m2m grid --root {params.root:q} {params.subject:q} {params.maps:q} --config {params.config:q}"
        " > {log:q} 2>&1 && "
        "m2m slices --root {params.root:q} {params.subject:q} {params.cut:q} --config {params.config:q}"
        " >> {log:q} 2>&1"


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
            status=files.slices_at("slices.json", files.low),
            axial=files.slices_at("axial.npy", files.low),
            coronal=files.slices_at("coronal.npy", files.low),
            sagittal=files.slices_at("sagittal.npy", files.low),
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
