"""Python code of the workflow: paths of files, selection of participants, inputs of rules.

The rules stay short; the functions that they call are here, where they can be imported and tested.
Functions and classes receive what they use as arguments: the validated configuration, Snakemake's
checkpoints, the wildcards of a job. No heavy library is imported, since every job of a cluster
parses the workflow again.
"""
