"""Diffusion: optional corrections, brain mask, tensor fit, tractography."""


rule join_series:
    """Series of one session that differ by shell only, as one, each scaled to the first by its b = 0
    images (for participants who have such series).
    """
    input:
        dwi=subjects.series("dwi"),
        bval=subjects.series("bval"),
        bvec=subjects.series("bvec"),
    output:
        dwi=at("joined-dwi"),
        bval=at("joined-bval"),
        bvec=at("joined-bvec"),
        status=at("joined-status"),
    log:
        log("join_series", "{folder}/{unit}"),
    benchmark:
        bench("join_series", "{folder}/{unit}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(4000),
        runtime=minutes(30),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        dwi=flag("--dwi", "dwi"),
        bval=flag("--bval", "bval"),
        bvec=flag("--bvec", "bvec"),
        options=digests.selection,
        version=VERSIONS["join-series"],
    shell:
        "m2m join-series --root {params.root:q} {params.subject:q} --config {params.config:q}"
        " {params.dwi:q} {params.bval:q} {params.bvec:q} > {log:q} 2>&1"


if CONFIG.preprocess.backend != "none":

    rule preprocess:
        """Denoising (Veraart et al. 2016, NeuroImage 142:394), Gibbs ringing (Kellner et al. 2016,
        MRM 76:1574), eddy currents and motion (Andersson & Sotiropoulos 2016, NeuroImage 125:1063).
        """
        input:
            dwi=subjects.scan("dwi"),
            bval=subjects.scan("bval"),
            bvec=subjects.scan("bvec"),
        output:
            dwi=at("dwi"),
            bval=at("bval"),
            bvec=at("bvec"),
            status=at("preprocess-status"),
        log:
            log("preprocess", "{folder}/{unit}"),
        benchmark:
            bench("preprocess", "{folder}/{unit}")
        conda:
            f"../envs/{CONFIG.preprocess.record.environment}.yaml"
        threads: 2
        resources:
            mem_mb=memory(6000),
            runtime=minutes(360),
        params:
            root=files.dataset_root,
            subject=subject_flags,
            config=files.config,
            options=digest(CONFIG.preprocess),
            dti=digests.selection,
            version=VERSIONS["preprocess"],
        shell:
            "m2m preprocess --root {params.root:q} {params.subject:q}"
            " --config {params.config:q} --dwi {input.dwi:q} --bval {input.bval:q}"
            " --bvec {input.bvec:q} --threads {threads} > {log:q} 2>&1"


rule dti:
    """Brain mask (median Otsu) and tensor fit (Chung et al. 2006, NeuroImage 33:531; DIPY)."""
    input:
        with_dwi.inputs(subjects.fitted),
    output:
        fa=with_dwi.output(at("dwi-fa")),
        md=with_dwi.output(at("dwi-md")),
        ad=with_dwi.output(at("dwi-ad")),
        rd=with_dwi.output(at("dwi-rd")),
        v1=with_dwi.output(at("dwi-v1")),
        tensor=with_dwi.output(at("dwi-tensor")),
        mask=with_dwi.output(at("dwi-mask")),
        b0=with_dwi.output(at("b0")),
        status=with_dwi.output(at("dti-status")),
    log:
        log("dti", "{folder}/{unit}"),
    benchmark:
        bench("dti", "{folder}/{unit}")
    group:
        shards.of("participant", cohort.place)
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=minutes(60 * with_dwi.size),
    params:
        root=files.dataset_root,
        subjects=with_dwi.flags(subject_flags, subjects.fit_flags),
        config=files.config,
        low_res=[],
        options=digest(CONFIG.dti),
        version=VERSIONS["dti"],
    shell:
        "M2M_MADE_BY={params.version:q}-{params.options:q} m2m dti --root {params.root:q} --config {params.config:q}"
        " {params.low_res:q} {params.subjects:q} > {log:q} 2>&1"


rule track:
    """Whole-brain streamlines (DIPY: Garyfallidis et al. 2014, Front Neuroinform 8:8; MRtrix3:
    Tournier et al. 2019, NeuroImage 202:116137, iFOD2: Tournier et al. 2010, ISMRM 1670).
    """
    input:
        **subjects.track_inputs(),
        dwi=subjects.corrected("dwi", "dwi"),
        bval=subjects.corrected("bval", "bval"),
        bvec=subjects.corrected("bvec", "bvec"),
        status=at("dti-status"),
    output:
        **subjects.track_outputs(),
        tractogram=at("tractogram"),
        figure=at("tractography-figure"),
        status=at("tractography-status"),
    log:
        log("track", "{folder}/{unit}"),
    benchmark:
        bench("track", "{folder}/{unit}")
    group:
        shards.of("participant", cohort.place)
    conda:
        TRACKER_ENV
    resources:
        mem_mb=memory(4000),
        runtime=minutes(TRACKER.minutes),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        config=files.config,
        further=subjects.track_flags,
        dti=digest(CONFIG.dti),
        options=digest(CONFIG.tractography),
        version=VERSIONS["tractography"],
    shell:
        "m2m tractography --root {params.root:q} {params.subject:q}"
        " --config {params.config:q} --dwi {input.dwi:q} --bval {input.bval:q}"
        " --bvec {input.bvec:q} {params.further:q} > {log:q} 2>&1"
