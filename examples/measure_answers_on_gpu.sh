#!/usr/bin/env bash
# Measures answers to questions about real documents on one GPU, without network.
#
#   examples/measure_answers_on_gpu.sh put PART...   keep parts of the model's GGUF file
#   examples/measure_answers_on_gpu.sh run           ask, and report
#
# The GPU machine needs PyTorch, Triton and transformers; other packages come as wheels.
#
#   PARSED     documents that `python -m nsa_cli.evaluation.document_suite.parse` made
#   WHEELS     typer and what it needs, platformdirs, bm25s, gguf
#   PARTS      where parts are kept, joined in the order of their names
#   OUT        rows and reports; rows that are there are not asked again
#   BUDGET     seconds for all (480); LIMIT and ONLY as of `nsa eval documents`
#   READING, BASELINES   the ways to ask
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
MODEL=${MODEL:-qwen2.5-coder-0.5b}
PARTS=${PARTS:-/tmp/nsa_parts}
PARSED=${PARSED:-.bench/parsed}
WHEELS=${WHEELS:-.bench/wheels}
OUT=${OUT:-.bench/answers}
BUDGET=${BUDGET:-480}
READING=${READING:-nsa,pages-ranked}
BASELINES=${BASELINES:-chunks,gold}
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
gguf=$NSA_CACHE_DIR/models/$MODEL.gguf
[ -s "$gguf" ] || cat "$PARTS"/* > "$gguf"  # checked by its SHA-256 when it is loaded

ask() {  # name of the rows, then options
    local rows=$OUT/$1.jsonl
    [ "$1" = warm ] && rows=/tmp/nsa_warm$RANDOM.jsonl
    shift
    timeout "$(left)" "$PYTHON" -m nsa_cli eval documents --data $QUESTIONS \
        --documents "$PARSED" --model "$MODEL" --out "$rows" \
        ${LIMIT:+--limit "$LIMIT"} ${ONLY:+--only "$ONLY"} "$@"
}

# Weights are prepared and kernels compiled once, before four processes want them.
for adapter in "" --no-adapter; do
    LIMIT=2 ONLY=form-tsp-3 ask warm --ways nsa,chunks --max-tokens 8 $adapter -q \
        > "$OUT/warm$adapter.log" 2>&1 &
done
wait
tail -n 3 "$OUT"/warm*.log
echo "warm after $(($(date +%s) - began)) s"

ask default-reading --ways "$READING" --signals > "$OUT/default-reading.log" 2>&1 &
ask default-baselines --ways "$BASELINES" > "$OUT/default-baselines.log" 2>&1 &
ask plain-reading --ways nsa,find --no-adapter > "$OUT/plain-reading.log" 2>&1 &
ask plain-baselines --ways "$BASELINES" --no-adapter > "$OUT/plain-baselines.log" 2>&1 &
wait
echo "asked after $(($(date +%s) - began)) s"
tail -n 4 "$OUT"/{default,plain}-*.log
cat "$OUT"/{default,plain}-{reading,baselines}.jsonl > "$OUT/all.jsonl"
$PYTHON -m nsa_cli eval documents --data $QUESTIONS --report --out "$OUT/all.jsonl" --json \
    > "$OUT/report.json"
$PYTHON -m nsa_cli eval documents --data $QUESTIONS --report --out "$OUT/all.jsonl" 2>&1 |
    tee "$OUT/report.txt"
