#!/bin/sh
# Run every fuzz target for SECONDS (default 600 each), JOBS at a time (default 1).
#
#     tests/fuzz/long.sh [SECONDS [JOBS]]
#
# SEED, if set, is where the chance of each starts: the same code is then given the same inputs.
# Prints the number of executions of each. Ends with another code than 0 after a find, having shown
# what the target said; the input that did it is in $TMPDIR (/tmp) as fuzz-TARGET-crash-*, and
# `python tests/fuzz/TARGET.py FILE` runs it again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
temporary=${TMPDIR:-/tmp}
seed=${SEED:-0} # for libFuzzer 0 is "another one each time"
[ "$seed" = 0 ] || export PYTHONHASHSEED="$seed"

if [ "${1:-}" != one ]; then
    printf '%s\n' "$here/run_c.sh" "$here"/fuzz_*.py |
        xargs -n 1 -P "${2:-1}" "$0" one "${1:-600}"
    exit
fi

seconds=$2
target=$3
name=$(basename "$target" .py)
if [ "$name" = run_c.sh ]; then
    exec "$target" "$seconds"
fi
log=$(mktemp)
# A target ends without clearing up. What is made anew for each execution is made in memory.
work=$(mktemp -d)
FUZZ_MEMORY=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
export FUZZ_MEMORY
trap 'rm -rf "$log" "$work" "$FUZZ_MEMORY"' EXIT
if TMPDIR="$work" "$python" "$target" -seed="$seed" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 \
    -artifact_prefix="$temporary/fuzz-$name-" >"$log" 2>&1; then
    sed -n "s/^Done \([0-9]*\) runs.*/$name, executions: \1/p" "$log"
else
    echo "$name"
    tail -n 60 "$log"
    exit 1
fi
