#!/usr/bin/env bash
# m2m itself, from the checkout that holds this file, into the environment just built.
set -euo pipefail
python -m pip install --quiet --no-deps --editable "$(dirname "$0")/.."
