#!/bin/sh
# Fuzz the RLE kernel for SECONDS (default 60) under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#     tests/fuzz/run_c.sh [SECONDS [CORPUS]]
#
# Prints the number of executions. Ends with another code than 0 on a find, and leaves the input in
# the current folder as crash-*. A CORPUS folder, if given, is read and added to.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
corpus=${2:-$work/corpus}
mkdir -p "$corpus"

clang -g -O2 -std=c11 -Wall -Wextra -fsanitize=address,undefined,fuzzer \
    -fno-sanitize-recover=all -o "$work/rle_fuzz" "$here/rle_fuzz.c"

# Failing inputs are written to the current folder: see -artifact_prefix of libFuzzer.
if "$work/rle_fuzz" -max_total_time="$seconds" -max_len=4096 -use_value_profile=1 -timeout=20 \
    -print_final_stats=1 "$corpus" >"$work/log" 2>&1; then
    sed -n 's/^stat::number_of_executed_units: */executions: /p' "$work/log"
else
    cat "$work/log"
    exit 1
fi
