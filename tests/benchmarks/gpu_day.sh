#!/usr/bin/env bash
# One run for a machine with a CUDA GPU, without a network and in under eight minutes: the tests that need a device, then
# the speed of models of 0.5B and 8B in bfloat16, with fused kernels and without, against the matrix rate of the card and
# a padded forward pass. Needs `pip install -e '.[test,cuda]'`. Writes what to copy into README.md beside this file to a folder (default: gpu_day).
#
#   bash tests/benchmarks/gpu_day.sh [FOLDER]
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-gpu_day}
mkdir -p "$folder"

{
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
    python -c 'import torch, transformers; print("torch", torch.__version__, "transformers", transformers.__version__)'
    python -c 'from prefscope.scoring.fused_kernels import kernel_packages; print("fused kernels:", kernel_packages() or "none")'
} | tee "$folder/machine.txt"

timeout 120 pytest -n 0 -q -m gpu 2>&1 | tee "$folder/tests.txt"

speed() { # name, then the shape
    local name=$1
    shift
    timeout 170 python tests/benchmarks/engine.py --dtype bfloat16 --prompt 300 --response 250 "$@" 2>&1 |
        tee "$folder/$name.txt"
}
speed 0.5B --hidden 896 --inner 4864 --layers 24 --vocab 151936 --pairs 160
speed 8B --hidden 4096 --inner 14336 --layers 32 --vocab 128256 --pairs 80
