#!/bin/sh
# Fuzz the C extensions for SECONDS each (default 60) under AddressSanitizer and
# UndefinedBehaviorSanitizer.
#
#     tests/fuzz/run_c.sh [SECONDS [CORPUS]]
#
# SEED, if set, is where its chance starts: the same code is then given the same inputs. Prints the
# number of executions. Ends with another code than 0 on a find, and leaves the input in the current
# folder as crash-*. CORPUS, if given, has a folder for each, read and added to.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
corpus=${2:-$work/corpus}

for target in rle kernel; do
    mkdir -p "$corpus/$target"
    clang -g -O2 -std=c11 -Wall -Wextra -fsanitize=address,undefined,fuzzer \
        -fno-sanitize-recover=all -o "$work/$target" "$here/${target}_fuzz.c" -lm

    # Failing inputs are written to the current folder: see -artifact_prefix of libFuzzer.
    if "$work/$target" -seed="${SEED:-0}" -max_total_time="$seconds" -max_len=4096 -use_value_profile=1 -timeout=20 \
        -print_final_stats=1 "$corpus/$target" >"$work/log" 2>&1; then
        sed -n "s/^stat::number_of_executed_units: */$target, executions: /p" "$work/log"
    else
        cat "$work/log"
        exit 1
    fi
done
