#!/usr/bin/env bash
# Measures answers to questions about real documents on the GPUs of a machine, without network.
#
#   examples/measure_answers_on_gpu.sh put PART...   keep parts of the models' GGUF files
#   examples/measure_answers_on_gpu.sh run           ask, and report
#
# The GPU machine needs PyTorch, Triton and transformers; other packages come as wheels.
#
#   PARSED     documents that `python -m nsa_cli.evaluation.document_suite.parse` made
#   WHEELS     typer and what it needs, platformdirs, bm25s, gguf
#   PARTS      where parts are kept: MODEL.gguf.00, MODEL.gguf.01 and so on, by `split -d`
#   OUT        rows and reports; questions that have a row are not asked again
#   BUDGET     seconds for all (480)
#   SYSTEMS    models, options and ways, as for `measure_answers.py`
#   PROCESSES  processes of each system (4); a machine of two GPUs and 32 cores takes 24 in all
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
MODEL=${MODEL:-qwen2.5-coder-0.5b}
PARTS=${PARTS:-/tmp/nsa_parts}
PARSED=${PARSED:-.bench/parsed}
WHEELS=${WHEELS:-.bench/wheels}
OUT=${OUT:-.bench/answers}
BUDGET=${BUDGET:-480}
SYSTEMS=${SYSTEMS:-$MODEL:nsa,words,more $MODEL:chunks,gold}
PROCESSES=${PROCESSES:-4}
QUESTIONS=tests/evaluation/documents
began=$(date +%s)

left() {
    local seconds=$((BUDGET - $(date +%s) + began))
    echo $((seconds > 1 ? seconds : 1))
}

if [ "${1:-}" = put ]; then
    shift
    mkdir -p "$PARTS" && cp "$@" "$PARTS"/ && ls -l "$PARTS"
    exit
fi
[ "${1:-}" = run ] || { echo "usage: $0 put PART... | run" >&2; exit 2; }

$PYTHON -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target /tmp/nsa_site "$WHEELS"/*.whl || exit 1
export PYTHONPATH=$PWD:$PWD/kernels:$PWD/models:/tmp/nsa_site PYTHONUNBUFFERED=1
export NSA_CACHE_DIR=${NSA_CACHE_DIR:-/tmp/nsa_cache} NSA_OFFLINE=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
mkdir -p "$NSA_CACHE_DIR/models" "$OUT"
for name in $(ls "$PARTS" | sed 's/\.gguf\..*//' | sort -u); do
    gguf=$NSA_CACHE_DIR/models/$name.gguf
    [ -s "$gguf" ] || cat "$PARTS/$name".gguf.* > "$gguf"  # its SHA-256 is checked when it is loaded
done

"$PYTHON" examples/measure_answers.py --documents "$PARSED" --out "$OUT/all.jsonl" \
    --work "$OUT" --seconds "$(left)" --processes "$PROCESSES" $(printf -- '--system %s ' $SYSTEMS)
echo "asked after $(($(date +%s) - began)) s"
tail -qn 1 "$OUT"/*.log
report() { "$PYTHON" -m nsa_cli eval documents --data "$QUESTIONS" --report --out "$OUT/all.jsonl" "$@"; }
report --json > "$OUT/report.json"
report 2>&1 | tee "$OUT/report.txt"
