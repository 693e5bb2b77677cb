"""Simulated participants: raw T1w and DWI with their ground truth, as a BIDS dataset."""

if files.simulated:

    rule participants:
        """Age, sex and site of simulated participants, and the dataset's tables (BIDS)."""
        input:
            subjects.tables_of_anatomies,
        output:
            participants=f"{files.rawdata}/participants.tsv",
            sidecar=f"{files.rawdata}/participants.json",
            description=f"{files.rawdata}/dataset_description.json",
            readme=f"{files.rawdata}/README",
            truth=f"{files.truth}/dataset_description.json",
            labels=f"{files.truth}/desc-bundles_dseg.tsv",
        log:
            log("participants", "participants"),
        benchmark:
            bench("participants", "participants")
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1000),
            runtime=minutes(10),
        params:
            root=files.dataset_root,
            config=files.config,
            options=digest(CONFIG.cohort.simulation),
            version=VERSIONS["participants"],
        shell:
            "m2m participants --root {params.root:q} --config {params.config:q}"
            " > {log:q} 2>&1"

    rule simulate:
        """One participant's raw T1w and DWI of every visit, from the MNI152 anatomy and a multi-tensor model.

        Fonov et al. (2011) NeuroImage 54:313; Garyfallidis et al. (2014) Front Neuroinform 8:8.
        """
        input:
            subjects.parts_of_participant,
        output:
            **subjects.further_simulated(),
            t1w=subjects.simulated_scan("anat", "T1w.nii.gz"),
            dwi=subjects.simulated_scan("dwi", "dwi.nii.gz"),
            bval=subjects.simulated_scan("dwi", "dwi.bval"),
            bvec=subjects.simulated_scan("dwi", "dwi.bvec"),
            truth_fa=subjects.simulated_truth("truth-fa"),
            truth_tensor=subjects.simulated_truth("truth-tensor"),
            truth_bundles=subjects.simulated_truth("truth-bundles"),
        log:
            log("simulate", "sub-{participant}"),
        benchmark:
            bench("simulate", "sub-{participant}")
        group:
            shards.of("simulation", subjects.place_of_participant)
        conda:
            M2M_ENV
        resources:
            mem_mb=memory(1500),
            runtime=minutes(15),
        params:
            root=files.dataset_root,
            config=files.config,
            options=digests.subject,
            version=VERSIONS["simulate"],
        shell:
            "m2m simulate --root {params.root:q} --config {params.config:q}"
            " --subject sub-{wildcards.participant} > {log:q} 2>&1"

    if subjects.anatomies:

        rule group_maps:
            """A group's FA registered to MNI152, its bundles and their directions (Yeh 2022, Nat Commun 13:4933)."""
            input:
                **subjects.group_parts(),
            output:
                subjects.group_maps(),
            log:
                log("group_maps", "group_maps"),
            benchmark:
                bench("group_maps", "group_maps")
            conda:
                M2M_ENV
            resources:
                mem_mb=memory(3000),
                runtime=minutes(30),
            params:
                root=files.dataset_root,
                config=files.config,
                version=VERSIONS["group-maps"],
            shell:
                "m2m group-maps --root {params.root:q} --config {params.config:q}"
                " > {log:q} 2>&1"
