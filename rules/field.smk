"""Continuous fields of tract density and views of them, made on request."""


rule fit_field:
    """A field fitted to slices of three orientations (hashed grids: Mueller et al. 2022, ACM TOG
    41:102; variance of each slice: Xu et al. 2023, IEEE TMI 42:1707).
    """
    input:
        **fields.inputs(),
        tdi=fields.of_map("tdi", "synth-tdi"),
        mask=fields.mask,
        status=fields.status,
    output:
        **fields.outputs(),
        weights=at("field", fields.pattern),
        record=at("field-record", fields.pattern),
        map=at("field-tdi", fields.pattern),
        status=at("field-status", fields.pattern),
    log:
        log("fit_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("fit_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=fields.of,
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        maps=fields.maps,
        directions=fields.directions,
        config=files.config,
        options=digest(CONFIG.field),
        version=VERSIONS["field"],
    shell:
        "m2m field --root {params.root:q} {params.subject:q} --config {params.config:q}"
        " {params.maps:q} {params.directions:q} 2>&1 | tee {log:q}"


rule render_field:
    """Views by emission and absorption (Max 1995, IEEE TVCG 1:99; Mildenhall et al. 2020, ECCV 405)."""
    input:
        weights=at("field", fields.pattern),
        status=at("field-status", fields.pattern),
    output:
        turntable=at("field-turntable", fields.pattern),
        stills=at("field-stills", fields.pattern),
        status=at("render-status", fields.pattern),
    log:
        log("render_field{of}", "{folder}/{unit}"),
    benchmark:
        bench("render_field{of}", "{folder}/{unit}")
    wildcard_constraints:
        of=fields.of,
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=minutes(60),
    params:
        root=files.dataset_root,
        subject=subject_flags,
        maps=fields.maps,
        config=files.config,
        options=digest(CONFIG.render),
        version=VERSIONS["render"],
    shell:
        "m2m render --root {params.root:q} {params.subject:q}"
        " --config {params.config:q} {params.maps:q} 2>&1 | tee {log:q}"


if TENSORS:

    rule track_field:
        """Streamlines along a field's directions, tracked as the measured tensors are
        (Garyfallidis et al. 2014, Front Neuroinform 8:8).
        """
        input:
            tensor=at("field-tensor", fields.pattern),
            mask=fields.mask,
            status=at("field-status", fields.pattern),
        output:
            tractogram=at("field-tractogram", fields.pattern),
            figure=at("field-tractogram-figure", fields.pattern),
            status=at("field-tractography-status", fields.pattern),
        log:
            log("track_field{of}", "{folder}/{unit}"),
        benchmark:
            bench("track_field{of}", "{folder}/{unit}")
        wildcard_constraints:
            of=fields.of,
        conda:
            TRACKER_ENV
        resources:
            mem_mb=memory(4000),
            runtime=minutes(TRACKER.minutes),
        params:
            root=files.dataset_root,
            subject=subject_flags,
            maps=fields.maps,
            config=files.config,
            options=digest(CONFIG.tractography),
            version=VERSIONS["tractography"],
        shell:
            "m2m tractography --root {params.root:q} {params.subject:q}"
            " --config {params.config:q} --field {params.maps:q} > {log:q} 2>&1"
