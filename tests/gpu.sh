#!/usr/bin/env bash
# What a GPU does with Setun, in one run that gives itself SETUN_GPU_SECONDS, with a table at its end.
#
#   tests/gpu.sh build   where there is Rust, gcc and make: puts all that the other needs into target/gpu
#   tests/gpu.sh         on a machine with an NVIDIA GPU, its driver and python3; PyTorch is what it is compared with
#
# The steps are those of tests/python/gpu_report.py. All of it goes to gpu.log in the folder as it happens. The exit status
# is 1 when something was wrong; a speed that was not reached is only shown.
#
#   SETUN_GPU_FOLDER    the folder; default: target/gpu
#   SETUN_GPU_TEXT      the text to train on; default: tinyshakespeare.txt in ../shared/data, or what `build` has copied
#   SETUN_GPU_SECONDS   for everything; default: 465
#   SETUN_GPU_STEPS     only these, "parity kernels"; default: all
#   SETUN_GPU_TINY      not empty: a trial without a GPU, on the emulated driver (make -C cuda emulate)
#   PYTHON              default: python3
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
folder=${SETUN_GPU_FOLDER:-target/gpu}
python=${PYTHON:-python3}

build() {
    set -e
    mkdir -p "$folder"
    local text=${SETUN_GPU_TEXT:-../shared/data/tinyshakespeare.txt} test
    test=$(cargo test --lib --no-run --target-dir target --message-format json |
        sed -n 's/.*"executable":"\([^"]*setun-[^"]*\)".*/\1/p' | tail -n 1)
    make -C c_examples all
    gather "$test" target/release/libsetun.so c_examples/build "$text"
}

# gather TESTS LIBRARY PROGRAMS TEXT: what the machine with the GPU needs, without what only debuggers read.
gather() {
    strip --strip-debug -o "$folder/tests" "$1"
    strip --strip-unneeded -o "$folder/libsetun.so.0" "$2"
    cp -f "$3"/{train,benchmark} tests/python/{gpu_report,gpu_profile,pytorch_speed,kmeans_pytorch,train_program}.py \
        c_examples/python/setun.py "$folder"
    if [ -f "$4" ]; then
        cp -f "$4" "$folder/tinyshakespeare.txt"
    else
        echo "there is no $4: size M will not be trained (SETUN_GPU_TEXT names another text)"
    fi
    rm -f "$folder"/{results.jsonl,steps.tsv,gpu.log}
    local kilobytes
    kilobytes=$(du -sk "$folder" | cut -f1)
    echo "made: $folder, $kilobytes KiB"
    if [ "$kilobytes" -gt 65536 ]; then
        echo "$folder has more than 64 MiB"
        return 1
    fi
}

left() { echo $((deadline - SECONDS)); }

# step NAME SECONDS KEPT STEP [OPTIONS]: a step of gpu_report.py, which gets at most SECONDS, and leaves KEPT for those
# after it. Of a step whose name begins with ~, a failure is shown and not counted.
step() {
    local name=${1#\~} counted=1 seconds=$2 start=$SECONDS status=0 how
    [ "$name" = "$1" ] || counted=0
    local most=$(($(left) - $3))
    shift 3
    case " ${SETUN_GPU_STEPS:-$1} " in *" $1 "*) ;; *) return ;; esac
    [ "$most" -lt "$seconds" ] && seconds=$most
    printf '\n== %s (at %d s, at most %d s)\n' "$name" "$SECONDS" "$seconds"
    if [ "$seconds" -lt 8 ]; then
        how="no time left"
        [ "$counted" = 0 ] || late=1
    else
        # Python ends what it started by itself; this is for a Python that does not.
        timeout --kill-after=5 $((seconds + 5)) \
            "$python" -u "$folder/gpu_report.py" "$@" --limit "$seconds" ${tiny:+--tiny} &
        child=$!
        wait $child || status=$?
        child=
        case $status in
        0) how=ok ;;
        3) how=skipped ;;
        124 | 137) how="timed out" ;;
        *) how="FAILED $status" ;;
        esac
        case $status in 0 | 3) ;; *) [ $counted = 0 ] || failed=1 ;; esac
    fi
    printf '%s\t%s\t%d\n' "$name" "$how" $((SECONDS - start)) >> "$folder/steps.tsv"
    printf -- '-- %s: %s, %d s\n' "$name" "$how" $((SECONDS - start))
}

header() {
    echo "Setun on a GPU, $(date -u '+%Y-%m-%d %H:%M:%S') UTC"
    if command -v nvidia-smi > /dev/null; then
        timeout 20 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit \
            --format=csv,noheader 2>&1
    else
        echo "there is no nvidia-smi"
    fi
    uname -srm
    sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | sort | uniq -c | sed 's/^ */CPU cores: /'
    "$python" --version
}

# The table, whatever came before. `ended` is set when a signal ended the run.
finish() {
    trap '' INT TERM HUP
    if [ -n "${child:-}" ]; then
        kill "$child" 2> /dev/null
        wait "$child" 2> /dev/null
    fi
    printf '\n==================== table ====================\n'
    header_line
    timeout 30 "$python" "$folder/gpu_report.py" table
    grep -q $'\tok\t' "$folder/steps.tsv" 2> /dev/null || { failed=1; echo "no step ran to its end"; }
    [ -z "${ended:-}" ] || { failed=1; echo "the run was ended by a signal after $SECONDS s"; }
    if [ "$failed" = 0 ]; then
        echo "nothing was wrong${late:+ in what there was time for}; $SECONDS s"
    else
        echo "SOMETHING WAS WRONG: see above; $SECONDS s"
    fi
}

# leave STATUS: when the log is written.
leave() {
    exec >&3 2>&3
    wait "$logger"
    exit "$1"
}

header_line() {
    command -v nvidia-smi > /dev/null &&
        timeout 20 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1 | sed 's/, /, driver /'
    date -u '+%Y-%m-%d %H:%M UTC'
}

run() {
    failed=0 child='' ended='' late='' tiny=${SETUN_GPU_TINY:-}
    deadline=${SETUN_GPU_SECONDS:-465}
    trap 'ended=1; finish; leave 1' INT TERM HUP
    rm -f "$folder/results.jsonl" "$folder/steps.tsv"
    # The C library's loader resolves a relative folder against wherever a program stands.
    LD_LIBRARY_PATH=$(cd "$folder" && pwd)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
    [ -z "${SETUN_GPU_TEXT:-}" ] || export SETUN_GPU_TEXT
    header
    # What is right comes first, then what has targets. Those after the kernels share what is left.
    step "parity of every operation" 80 60 parity
    step "the device; training and generation" 50 60 device
    step "first loss, and the same bits twice" 45 60 first
    step "~ceilings of PyTorch" 40 60 ceilings
    step "~speed of every kernel" 70 60 kernels
    step "~k-means beside PyTorch" 60 180 clusters
    step "size M, ternary" 110 70 train --seconds 90
    step "~size M, plain" 35 90 speed
    step "~kernels of a training step" 40 90 profile
    step "~size M of PyTorch" 85 75 pytorch
    step "size M, f32" 90 70 train --seconds 60 --f32
    step "compute-sanitizer" 60 30 sanitizer
    step "the CPU levels" 60 5 cpu
    finish
    return "$failed"
}

case ${1:-} in
build) build ;;
gather) shift && mkdir -p "$folder" && gather "$@" ;;
'')
    if [ ! -x "$folder/tests" ] || [ ! -f "$folder/gpu_report.py" ]; then
        echo "there is nothing in $folder: run tests/gpu.sh build where there is Rust" >&2
        exit 2
    fi
    # The log goes on when a signal to all ends the run.
    exec 3>&1 > >(trap '' INT TERM HUP; exec tee "$folder/gpu.log") 2>&1
    logger=$!
    run
    leave $?
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
