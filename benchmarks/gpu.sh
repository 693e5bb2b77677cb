#!/usr/bin/env bash
# Speed on a GPU, in less than ten minutes: inference, training (bf16, compiled, two processes where there are
# two GPUs) and the translation of a whole volume. Writes benchmarks/gpu.md, or the file that is named.
#
#   benchmarks/gpu.sh [FILE]
#
# Without a GPU nothing is measured and nothing written: exit code 3. A part that fails or takes too long is named in
# the file; the exit code is then 1. TINY=1 runs all parts on the CPU in small sizes, to try the script.
set -uo pipefail

cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python}
out=${1:-benchmarks/gpu.md}
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())') || exit 1

inference=(--devices cuda)
training=(--size 256 --batch 8)
volume=()
processes=$gpus
if [[ -n ${TINY:-} ]]; then
    inference=(--devices cpu --size 64 --rounds 1)
    training=(--size 64 --batch 2 --rounds 1)
    volume=(--spacing-mm 6 --rounds 1)
    processes=2
elif [[ $gpus -eq 0 ]]; then
    echo "benchmarks/gpu.sh: PyTorch finds no GPU here; nothing was measured and $out was not written." >&2
    exit 3
fi

parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
text=$parts/gpu.md
code=0

# part TITLE SECONDS COMMAND: run a benchmark for so many seconds at most, and append its table, or why there is none.
part() {
    local title=$1 seconds=$2 failed=0
    shift 2
    rm -f "$parts/table.md"
    timeout "$seconds" "$@" --out "$parts/table.md" || failed=$?
    printf '## %s\n\n' "$title" >> "$text"
    if [[ $failed -eq 0 ]]; then
        cat "$parts/table.md" >> "$text"
    else
        echo "No result: exit code $failed (124: more than $seconds s)." >> "$text"
        code=1
    fi
    echo >> "$text"
}

printf '`benchmarks/gpu.sh`%s, %s GPUs.\n\n' "${TINY:+, small sizes on the CPU: to try the script}" "$gpus" > "$text"
part "Inference" 120 "$python" benchmarks/inference.py "${inference[@]}"
part "Training" 120 "$python" benchmarks/training.py "${training[@]}"
part "Training, compiled" 150 "$python" benchmarks/training.py "${training[@]}" --compile
if [[ $processes -gt 1 ]]; then
    part "Training, two processes" 100 "$python" -m torch.distributed.run --standalone --nproc-per-node 2 \
        benchmarks/training.py "${training[@]}"
fi
part "A whole volume" 100 "$python" benchmarks/volume.py "${volume[@]}"
mv "$text" "$out"
exit $code
