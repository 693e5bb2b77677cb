"""Jobs that go wrong on purpose, for the Slurm profile: see tests/test_slurm.py.

A job's memory holds two Snakemakes of more than 100 MB each, beside what the rule runs.
"""


def grows(amount):
    """An amount that doubles with the second attempt."""

    def need(wildcards, attempt):
        return amount * attempt

    return need


rule timed:
    """Longer than its first time limit: the test brings that limit forward."""
    output:
        "timed",
    resources:
        mem_mb=500,
        runtime=grows(1),
    shell:
        "touch begun; test {resources.runtime} -gt 1 || sleep 600; touch {output}"


rule hungry:
    """Larger than its first memory."""
    output:
        "hungry",
    resources:
        mem_mb=grows(500),
        runtime=5,
    shell:
        """python3 -c 'import time; held = b"1" * 600_000_000; time.sleep(12)'; touch {output}"""


rule waits:
    """Waits for a file, so that the test has its time."""
    output:
        "waited",
    resources:
        mem_mb=grows(500),
        runtime=10,
    shell:
        "touch begun; until test -e go; do sleep .2; done; touch {output}"
