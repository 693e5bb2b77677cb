"""Continuous fields of tract density, made when asked for: `snakemake field`."""


rule fit_field:
    """A field fitted to slices of three orientations (hashed grids: Mueller et al. 2022, ACM TOG
    41:102; variance of each slice: Xu et al. 2023, IEEE TMI 42:1707).
    """
    input:
        tdi=at("tdi"),
        mask=at("target-mask"),
        status=at("grid-status"),
    output:
        weights=at("field"),
        record=at("field-record"),
        map=at("field-tdi"),
        status=at("field-status"),
    log:
        log("fit_field", "{folder}/{unit}"),
    benchmark:
        bench("fit_field", "{folder}/{unit}")
    conda:
        M2M_ENV
    threads: 2
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        options=options(CONFIG.field),
        version=VERSIONS["field"],
    shell:
        "m2m field --axial {input.tdi} --coronal {input.tdi} --sagittal {input.tdi}"
        " --mask {input.mask} --require {input.status} --unit {wildcards.unit}"
        " --weights {output.weights} --record {output.record} --out {output.map}"
        " --status {output.status} --options {params.options:q} 2>&1 | tee {log}"
