#!/usr/bin/env bash
# Trains both twins from scratch on one GPU and times their steps, in parts of a few minutes.
#
#   examples/measure_training_on_gpu.sh steps             times steps at 8k, 16k, 32k and 64k
#   examples/measure_training_on_gpu.sh shards train      makes shards of TEXTS, trains the twins
#   examples/measure_training_on_gpu.sh train             continues where the last call saved
#   examples/measure_training_on_gpu.sh long plot         continues with CONTEXT64; draws the curves
#
# Every part saves as it goes, and a call that is killed is continued by the same call.
#
#   TEXTS      folder of text or of JSON Lines, also .gz and .xz (.bench/texts)
#   WORK       folder for shards and models, which are large (.bench/training)
#   OUT        folder for logs and small results; files of a machine that is given back ($WORK/out)
#   CONFIG     model and settings (examples/pretrain_60m.toml)
#   TOKENS     tokens of each twin (150000000); the schedule follows them, so both see the same
#   MINUTES    most minutes of a twin in one call (4)
#   CONTEXT64, TOKENS64   context (65536) and tokens (20000000) of the part `long`
#   ONLY       twins to train ("nsa dense")
#   WHEELS     folder of wheels that the machine lacks, to install into /tmp/nsa_site; none if unset
#   SIZE, STEPS_ARGS   size and further arguments of the part `steps` (60m)
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
TEXTS=${TEXTS:-.bench/texts}
WORK=${WORK:-.bench/training}
OUT=${OUT:-$WORK/out}
CONFIG=${CONFIG:-examples/pretrain_60m.toml}
TOKENS=${TOKENS:-150000000}
MINUTES=${MINUTES:-4}
CONTEXT64=${CONTEXT64:-65536}
TOKENS64=${TOKENS64:-20000000}
ONLY=${ONLY:-nsa dense}
SIZE=${SIZE:-60m}
mkdir -p "$OUT" "$WORK"
export PYTHONPATH="$PWD:$PWD/kernels:$PWD/models${PYTHONPATH:+:$PYTHONPATH}"
failed=0
if [ -n "${WHEELS:-}" ]; then
    [ -d /tmp/nsa_site ] || "$PYTHON" -m pip install --quiet --no-deps --no-index \
        --target /tmp/nsa_site "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:/tmp/nsa_site"
fi

# Run a command; its output goes to a file, too.
part() {
    local name=$1
    shift
    echo "== $name: $*"
    "$@" 2>&1 | tee -a "$OUT/$name.txt"
    local status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        echo "== $name: exit $status" | tee -a "$OUT/$name.txt"
        failed=1
    fi
}

# Train a twin into WORK/NAME and keep its logs.
twin() {
    local name=$1 attention=$2
    shift 2
    part "$name" "$PYTHON" -m nsa_cli pretrain "$WORK/$name" --shards "$WORK/shards" \
        --attention "$attention" --minutes "$MINUTES" "$@"
    mkdir -p "$OUT/$name"
    for file in log.jsonl heldout.jsonl pretrain.json config.json; do
        [ -f "$WORK/$name/$file" ] && cp "$WORK/$name/$file" "$OUT/$name/"
    done
}

for each in "$@"; do
    case $each in
    steps)
        # shellcheck disable=SC2086
        part steps "$PYTHON" examples/time_training_steps.py --size "$SIZE" \
            --out "$OUT/steps.jsonl" ${STEPS_ARGS:-}
        ;;
    shards)
        [ -f "$WORK/shards/shards.json" ] ||
            part shards "$PYTHON" -m nsa_cli shards "$WORK/shards" "$TEXTS"
        ;;
    train)
        for attention in $ONLY; do
            twin "$attention" "$attention" --config "$CONFIG" --tokens "$TOKENS"
        done
        ;;
    long)
        for attention in $ONLY; do
            twin "$attention-64k" "$attention" --start-from "$WORK/$attention" \
                --config "$CONFIG" --context "$CONTEXT64" --tokens "$TOKENS64"
        done
        ;;
    plot)
        part plot "$PYTHON" -c '
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
