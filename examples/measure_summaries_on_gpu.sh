#!/usr/bin/env bash
# Measures summaries of held-out meetings on the GPUs of a machine, without network.
#
#   examples/measure_summaries_on_gpu.sh
#
# The GPU machine needs PyTorch, Triton and transformers; other packages come as wheels. The models'
# GGUF files are in $NSA_CACHE_DIR/models (see measure_answers_on_gpu.sh).
#
#   DATA       meetings with summaries, as JSON Lines
#   WHEELS     typer and what it needs, platformdirs, bm25s, gguf
#   OUT        rows and reports; summaries that have a row are not made again
#   BUDGET     seconds for all (230)
#   SYSTEMS    models, ways and processes, as for `measure_summaries.py`
#   KNOWN      rows of an earlier call (.bench/known.jsonl, if it is there)
#   LIMIT      number of meetings, the shortest first (all)
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
DATA=${DATA:-.bench/meetings.jsonl.xz}
WHEELS=${WHEELS:-.bench/wheels}
OUT=${OUT:-.bench/summaries}
BUDGET=${BUDGET:-230}
BIG=${BIG:-qwen2.5-coder-1.5b}
SMALL=${SMALL:-qwen2.5-coder-0.5b}
BASELINES=beginning,map-reduce
SYSTEMS=${SYSTEMS:-$BIG:nsa=3 $BIG:$BASELINES=5 $SMALL:nsa=2 $SMALL:$BASELINES=4}
began=$(date +%s)

if [ "$(ls "$WHEELS" 2>/dev/null)" ]; then
    $PYTHON -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
        --target /tmp/nsa_site "$WHEELS"/*.whl || exit 1
fi
export PYTHONPATH=$PWD:$PWD/kernels:$PWD/models:$PWD/examples:/tmp/nsa_site PYTHONUNBUFFERED=1
export NSA_CACHE_DIR=${NSA_CACHE_DIR:-/tmp/nsa_cache} NSA_OFFLINE=1
mkdir -p "$OUT/work"

KNOWN=${KNOWN:-$(ls .bench/known.jsonl 2>/dev/null)}
for _ in first again; do  # again what lost its process, such as for memory
    left=$((BUDGET - $(date +%s) + began))
    [ $left -gt 20 ] || break
    "$PYTHON" examples/measure_summaries.py --data "$DATA" --out "$OUT/all.jsonl" \
        --work "$OUT/work" --seconds $left ${LIMIT:+--limit $LIMIT} ${KNOWN:+--known "$KNOWN"} \
        $(printf -- '--system %s ' $SYSTEMS)
    echo "summarized after $(($(date +%s) - began)) s"
done
tail -qn 1 "$OUT"/work/*.log
"$PYTHON" -m nsa_cli eval summaries --data "$DATA" --held-out --report --out "$OUT/all.jsonl" \
    2>&1 | tee "$OUT/report.txt"
