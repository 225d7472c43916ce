#!/usr/bin/env bash
# Measures the kernels on one GPU, each part in a few minutes, and keeps the output of each.
#
#   examples/measure_on_gpu.sh stages tests bench sanitize
#
# OUT is the folder for the outputs (.bench/gpu), PYTHON the interpreter (python3).
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-.bench/gpu}
mkdir -p "$OUT"
export PYTHONPATH="$PWD:$PWD/kernels:$PWD/models${PYTHONPATH:+:$PYTHONPATH}"
failed=0

# Run a command for at most so many seconds; its output goes to a file too.
part() {
    local name=$1 seconds=$2
    shift 2
    echo "== $name: $*"
    timeout "$seconds" "$@" 2>&1 | tee "$OUT/$name.txt"
    local status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        echo "== $name: exit $status" | tee -a "$OUT/$name.txt"
        failed=1
    fi
}

bench() {
    local name=$1 seconds=$2
    shift 2
    part "$name" "$seconds" "$PYTHON" -m nsa_cli bench kernels --out "$OUT/$name.json" "$@"
}

for each in "$@"; do
    case $each in
    stages)
        for tokens in 32768 65536; do
            for selections in random recorded; do
                part "stages-$tokens-$selections" 60 "$PYTHON" examples/time_stages.py \
                    --tokens "$tokens" --selections "$selections"
            done
        done
        ;;
    tests)
        part tests-kernels 580 "$PYTHON" -m pytest -p no:cacheprovider -p no:benchmark -q -x \
            -m gpu -n 4 tests/kernels
        ;;
    model-tests)
        part tests-models 300 "$PYTHON" -m pytest -p no:cacheprovider -p no:benchmark -q \
            -m gpu -n 4 tests/models tests/nsa_cli/kv_store/test_write_behind.py
        ;;
    bench)
        bench paper 170 --lengths 8192,32768,65536 --modes forward,backward --time-limit 140
        bench qwen 130 --shape qwen2.5-0.5b --lengths 8192,65536 --modes forward,backward \
            --time-limit 110
        bench long 60 --lengths 262144 --modes forward
        ;;
    sanitize)
        for tool in memcheck racecheck; do
            part "$tool" 240 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer \
                --tool "$tool" --error-exitcode 9 "$PYTHON" examples/small_shapes.py
        done
        ;;
    *)
        echo "unknown part '$each'; give some of: stages tests model-tests bench sanitize" >&2
        exit 2
        ;;
    esac
done
exit $failed
