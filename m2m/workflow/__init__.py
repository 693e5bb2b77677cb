"""The workflow's Python: where files lie, who is in, what each rule asks for.

Rules read like a methods section; what they call is here, where it can be imported and tested. A
function or class is given what it uses: the checked configuration, Snakemake's checkpoints, the
wildcards of a job. No heavy library, since every job of a cluster parses the workflow again.
"""
