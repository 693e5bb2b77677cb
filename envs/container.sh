#!/bin/sh
# Steps by which envs/Dockerfile and envs/m2m.def make the image; CI takes the same ones (.ci/run, tests/test_wheel.py).
set -eu
step=$1
shift
case "$step" in
    packages) # of Debian, by name
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
        rm -rf /var/lib/apt/lists/*
        ;;
    python) # m2m from a folder, as its lock file pins it
        python -m pip install --no-cache-dir --constraint "$1/constraints.txt" "$1[workflow,train,evaluate,report,cluster]"
        ;;
    check) # that it starts
        m2m --help > /dev/null
        snakemake --version
        ;;
esac
