#!/usr/bin/env bash
# Trains both twins from scratch on GPUs, compares them and times steps, in parts of a few minutes.
#
#   examples/measure_training_on_gpu.sh steps             times steps at 8k, 16k, 32k and 64k
#   examples/measure_training_on_gpu.sh shards train      makes shards of TEXTS, trains the twins
#   examples/measure_training_on_gpu.sh train             continues where the last call saved
#   examples/measure_training_on_gpu.sh long plot         continues with CONTEXT64; draws the curves
#   examples/measure_training_on_gpu.sh twins measure     trains and measures both at once, on GPUS
#   examples/measure_training_on_gpu.sh decode report     times decoding; compares the twins
#
# Every part saves as it goes, and a call that is killed is continued by the same call. A part that
# fails or takes too long does not end the others.
#
#   TEXTS      folder of text or of JSON Lines, also .gz and .xz (.bench/texts)
#   SHARDS     folder of shards ($WORK/shards)
#   WORK       folder for shards and models, which are large (.bench/training)
#   OUT        folder for small results: steps.jsonl and logs.tgz ($WORK/out)
#   CONFIG     model and settings (examples/pretrain_60m.toml)
#   CONFIG_DENSE   the same for dense attention in `twins` (CONFIG), such as one of as many weights
#   TRAINING   further lines for [training] in CONFIG, such as "compile = false"
#   TOKENS     tokens of each twin (150000000); the schedule follows them, so both see the same
#   MINUTES    most minutes of a twin in one call (4), without the start
#   CONTEXT64, TOKENS64   context (65536) and tokens (20000000) of the part `long`
#   ONLY       twins to train ("nsa dense")
#   GPUS       number of the GPU of each twin in `twins`, `measure` and `decode` ("0 1")
#   LAST       further arguments of `nsa pretrain` in `twins`, such as "--shards FOLDER"
#   FIRST      settings of a stage before, in `twins`, with its number of tokens; none if unset
#   FIRST_DENSE, FIRST_LAST   the same as CONFIG_DENSE and LAST, for that stage
#   MEASURE, DECODE     further arguments of `examples/compare_twins.py`
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
GPUS=(${GPUS:-0 1})
LOGS=$WORK/logs
mkdir -p "$OUT" "$LOGS"
export PYTHONPATH="$PWD:$PWD/kernels:$PWD/models${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=0
if [ -n "${WHEELS:-}" ]; then
    [ -d /tmp/nsa_site ] || "$PYTHON" -m pip install --quiet --no-deps --no-index --no-compile \
        --target /tmp/nsa_site "$WHEELS"/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:/tmp/nsa_site"
fi

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
}

# Write a configuration with further lines for [training].
configure() {
    {
        cat "$3"
        printf '%s\n' "$2"
    } >"$1"
}

# Train a twin on a GPU; a run that fails continues with settings that need less of the machine.
twin_on() {
    local attention=$1 config=$CONFIG
    [ "$attention" = dense ] && config=${CONFIG_DENSE:-$CONFIG}
    export CUDA_VISIBLE_DEVICES=$2
    local first=${FIRST:-} start=
    [ "$attention" = dense ] && first=${FIRST_DENSE:-$first}
    if [ -n "$first" ]; then
        configure "$WORK/$attention-first.toml" "${TRAINING:-}" "$first"
        failed=0
        # shellcheck disable=SC2086
        twin "$attention-first" "$attention" "$WORK/$attention-first.toml" ${FIRST_LAST:-}
        [ "$failed" = 0 ] || return 1
        start="--start-from $WORK/$attention-first"
    fi
    for lines in "${TRAINING:-}" "cuda_graphs = true" ""; do
        configure "$WORK/$attention.toml" "$lines" "$config"
        failed=0
        # shellcheck disable=SC2086
        twin "$attention" "$attention" "$WORK/$attention.toml" --tokens "$TOKENS" $start ${LAST:-}
        [ "$failed" = 0 ] && return 0
    done
    return 1
}

# Run a part of compare_twins.py for a twin on a GPU.
compare_on() {
    local what=$1 attention=$2
    export CUDA_VISIBLE_DEVICES=$3
    shift 3
    rm -f "$OUT/$what-$attention.jsonl"
    part "$what-$attention" 600 "$PYTHON" examples/compare_twins.py "$what" "$WORK/$attention" \
        --out "$OUT/$what-$attention.jsonl" "$@"
    return "$failed"
}

# Run a command for each twin at once, with the number of its GPU.
at_once() {
    local jobs=() number=0
    for attention in $ONLY; do
        "$1" ${2:+"$2"} "$attention" "${GPUS[number]:-0}" "${@:3}" &
        jobs+=($!)
        number=$((number + 1))
    done
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
}

# Train a twin into WORK/NAME and keep its logs.
twin() {
    local name=$1 attention=$2 config=$3
    shift 3
    part "$name" "$(awk "BEGIN {print int($MINUTES * 60 + 120)}")" \
        "$PYTHON" -m nsa_cli pretrain "$WORK/$name" --shards "$SHARDS" --config "$config" \
        --attention "$attention" --minutes "$MINUTES" "$@"
    mkdir -p "$LOGS/$name"
    for file in log.jsonl heldout.jsonl pretrain.json config.json; do
        [ -f "$WORK/$name/$file" ] && cp "$WORK/$name/$file" "$LOGS/$name/"
    done
}
configure "$WORK/config.toml" "${TRAINING:-}" "$CONFIG"

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
            twin "$attention" "$attention" "$WORK/config.toml" --tokens "$TOKENS"
        done
        ;;
    long)
        for attention in $ONLY; do
            twin "$attention-64k" "$attention" "$WORK/config.toml" --start-from "$WORK/$attention" \
                --context "$CONTEXT64" --tokens "$TOKENS64"
        done
        ;;
    twins) at_once twin_on "" ;;
    measure)
        # shellcheck disable=SC2086
        at_once compare_on measure --shards "$SHARDS" ${MEASURE:-}
        ;;
    decode)
        # shellcheck disable=SC2086
        at_once compare_on decode ${DECODE:-}
        ;;
    report)
        "$PYTHON" examples/compare_twins.py report "$OUT"/measure-{nsa,dense}.jsonl \
            --json "$OUT/report.json" --runs "$WORK"/{nsa,dense} |
            tee "$OUT/report.md"
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
        echo "unknown part '$each'; see the head of this file" >&2
        exit 2
        ;;
    esac
    tar czf "$OUT/logs.tgz" -C "$WORK" logs
done
exit $failed
