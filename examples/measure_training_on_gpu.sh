#!/usr/bin/env bash
# Trains both twins from scratch on one GPU and times their steps, in parts of a few minutes.
#
#   examples/measure_training_on_gpu.sh steps             times steps at 8k, 16k, 32k and 64k
#   examples/measure_training_on_gpu.sh shards train      makes shards of TEXTS, trains the twins
#   examples/measure_training_on_gpu.sh train             continues where the last call saved
#   examples/measure_training_on_gpu.sh long plot         continues with CONTEXT64; draws the curves
#
# Every part saves as it goes, and a call that is killed is continued by the same call. A part that
# fails or takes too long does not end the others.
#
#   TEXTS      folder of text or of JSON Lines, also .gz and .xz (.bench/texts)
#   SHARDS     folder of shards ($WORK/shards)
#   WORK       folder for shards and models, which are large (.bench/training)
#   OUT        folder for small results: steps.jsonl and logs.tgz ($WORK/out)
#   CONFIG     model and settings (examples/pretrain_60m.toml)
#   TRAINING   further lines for [training] in CONFIG, such as "compile = false"
#   TOKENS     tokens of each twin (150000000); the schedule follows them, so both see the same
#   MINUTES    most minutes of a twin in one call (4), without the start
#   CONTEXT64, TOKENS64   context (65536) and tokens (20000000) of the part `long`
#   ONLY       twins to train ("nsa dense")
#   WHEELS     folder of wheels that the machine lacks, to install into /tmp/nsa_site; none if unset
#   SIZES, STEPS_ARGS   sizes and further arguments of the part `steps` (60m,130m)
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TEXTS=${TEXTS:-.bench/texts}
WORK=${WORK:-.bench/training}
SHARDS=${SHARDS:-$WORK/shards}
OUT=${OUT:-$WORK/out}
CONFIG=${CONFIG:-examples/pretrain_60m.toml}
TOKENS=${TOKENS:-150000000}
MINUTES=${MINUTES:-4}
CONTEXT64=${CONTEXT64:-65536}
TOKENS64=${TOKENS64:-20000000}
ONLY=${ONLY:-nsa dense}
SIZES=${SIZES:-60m,130m}
LOGS=$WORK/logs
mkdir -p "$OUT" "$LOGS"
export PYTHONPATH="$PWD:$PWD/kernels:$PWD/models${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=0
if [ -n "${WHEELS:-}" ]; then
    [ -d /tmp/nsa_site ] || "$PYTHON" -m pip install --quiet --no-deps --no-index --no-compile \
        --target /tmp/nsa_site "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:/tmp/nsa_site"
fi
{
    cat "$CONFIG"
    printf '%s\n' "${TRAINING:-}"
} >"$WORK/config.toml"

# Run a command for so many seconds at most; its output goes to a file, too.
part() {
    local name=$1 seconds=$2
    shift 2
    echo "== $name: $*"
    timeout --foreground --signal INT --kill-after 10 "$seconds" "$@" 2>&1 | tee -a "$LOGS/$name.txt"
    local status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        echo "== $name: exit $status" | tee -a "$LOGS/$name.txt"
        failed=1
    fi
    tar czf "$OUT/logs.tgz" -C "$WORK" logs
}

# Train a twin into WORK/NAME and keep its logs.
twin() {
    local name=$1 attention=$2
    shift 2
    part "$name" "$(awk "BEGIN {print int($MINUTES * 60 + 120)}")" \
        "$PYTHON" -m nsa_cli pretrain "$WORK/$name" --shards "$SHARDS" --config "$WORK/config.toml" \
        --attention "$attention" --minutes "$MINUTES" "$@"
    mkdir -p "$LOGS/$name"
    for file in log.jsonl heldout.jsonl pretrain.json config.json; do
        [ -f "$WORK/$name/$file" ] && cp "$WORK/$name/$file" "$LOGS/$name/"
    done
    tar czf "$OUT/logs.tgz" -C "$WORK" logs
}

for each in "$@"; do
    case $each in
    steps)
        # shellcheck disable=SC2086
        part steps 600 "$PYTHON" examples/time_training_steps.py --sizes "$SIZES" \
            --out "$OUT/steps.jsonl" ${STEPS_ARGS:-}
        ;;
    shards)
        [ -f "$SHARDS/shards.json" ] ||
            part shards 3600 "$PYTHON" -m nsa_cli shards "$SHARDS" "$TEXTS"
        ;;
    train)
        for attention in $ONLY; do
            twin "$attention" "$attention" --tokens "$TOKENS"
        done
        ;;
    long)
        for attention in $ONLY; do
            twin "$attention-64k" "$attention" --start-from "$WORK/$attention" \
                --context "$CONTEXT64" --tokens "$TOKENS64"
        done
        ;;
    plot)
        part plot 60 "$PYTHON" -c '
import sys
from pathlib import Path

from nsa_cli.training.pretrain_log import save_plot

runs = [Path(name) for name in sys.argv[2:]]
save_plot([run for run in runs if (run / "log.jsonl").exists()], Path(sys.argv[1]))
' "$OUT/loss.png" "$WORK/nsa" "$WORK/dense" "$WORK/nsa-64k" "$WORK/dense-64k"
        ;;
    *)
        echo "unknown part '$each'; give some of: steps shards train long plot" >&2
        exit 2
        ;;
    esac
done
exit $failed
