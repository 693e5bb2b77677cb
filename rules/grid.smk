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
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=30,
    params:
        mask=flag("--t1w-mask", "mask"),
        options=options(CONFIG.anat),
        version=VERSIONS["anat"],
    shell:
        "m2m anat --unit {wildcards.unit} --t1w {input.t1w:q} {params.mask:q}"
        " --out-t1w {output.t1w} --out-brain {output.brain} --out-wm {output.wm}"
        " --status {output.status} --options {params.options:q} > {log} 2>&1"


rule grid:
    """DWI registered to the T1 by mutual information, kept only where it improves it; FA resampled."""
    input:
        t1w=at("t1w"),
        brain=at("brain"),
        wm=at("wm"),
        anat=at("anat-status"),
        fa=at("dwi-fa"),
        v1=at("dwi-v1"),
        b0=at("b0"),
        mask=at("dwi-mask"),
        dti=at("dti-status"),
    output:
        fa=at("fa"),
        target=at("target-mask"),
        picture=at("picture"),
        status=at("grid-status"),
    log:
        log("grid", "{folder}/{unit}"),
    benchmark:
        bench("grid", "{folder}/{unit}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(3000),
        runtime=30,
    params:
        options=options(CONFIG.grid),
        version=VERSIONS["grid"],
    shell:
        "m2m grid --unit {wildcards.unit} --t1w {input.t1w} --brain {input.brain}"
        " --wm {input.wm} --anat-status {input.anat} --fa {input.fa} --v1 {input.v1}"
        " --b0 {input.b0} --dwi-mask {input.mask} --dti-status {input.dti}"
        " --out-fa {output.fa} --out-target-mask {output.target} --picture {output.picture}"
        " --status {output.status} --options {params.options:q} > {log} 2>&1"


rule cut_slices:
    """Slices of three orientations, normalised per volume inside the brain, memory-mapped later."""
    input:
        t1w=unit_file("t1w"),
        brain=unit_file("brain"),
        anat=unit_file("anat-status"),
        fa=if_paired("fa"),
        target=if_paired("target-mask"),
        grid=if_paired("grid-status"),
    output:
        axial=f"{ROOT}/slices/{{unit}}_axial.npy",
        coronal=f"{ROOT}/slices/{{unit}}_coronal.npy",
        sagittal=f"{ROOT}/slices/{{unit}}_sagittal.npy",
        record=f"{ROOT}/slices/{{unit}}_slices.json",
    log:
        log("cut_slices", "{unit}"),
    benchmark:
        bench("cut_slices", "{unit}")
    conda:
        M2M_ENV
    resources:
        mem_mb=memory(2000),
        runtime=15,
    params:
        fa=flag("--fa", "fa"),
        target=flag("--target-mask", "target"),
        grid=flag("--grid-status", "grid"),
        options=options(CONFIG.slices),
        version=VERSIONS["slices"],
    shell:
        "m2m slices --unit {wildcards.unit} --t1w {input.t1w} --brain {input.brain}"
        " --anat-status {input.anat} {params.fa} {params.target} {params.grid}"
        " --axial {output.axial} --coronal {output.coronal} --sagittal {output.sagittal}"
        " --record {output.record} --options {params.options:q} > {log} 2>&1"


rule quality:
    """Everybody's status and quality numbers, and the cohort's flow; no model is fitted from it."""
    input:
        units=UNITS,
        split=SPLIT,
        record=SPLIT_RECORD,
        dti=per_unit("dti-status", "paired", "dwi-only"),
        anat=per_unit("anat-status", "paired", "t1w-only"),
        grid=per_unit("grid-status", "paired"),
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
        runtime=60,
    params:
        root=dataset_root,
        version=VERSIONS["quality"],
    shell:
        "m2m quality --units {input.units} --split {input.split} --split-record {input.record}"
        " --root {params.root} --table {output.table} --flow {output.flow} > {log} 2>&1"
