#!/bin/sh
# Run every fuzz target for SECONDS (default 600 each), one after the other, C first.
#
#     tests/fuzz/long.sh [SECONDS]
#
# Prints the number of executions of each. Ends with another code than 0 on the first find, after
# what the target said; the input that did it is in $TMPDIR (/tmp) as fuzz-TARGET-crash-*, and
# `python tests/fuzz/TARGET.py FILE` runs it again.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-600}
python=${PYTHON:-$here/../../.venv/bin/python}
temporary=${TMPDIR:-/tmp}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

echo "rle_fuzz.c"
"$here/run_c.sh" "$seconds"
for target in "$here"/fuzz_*.py; do
    name=$(basename "$target" .py)
    echo "$name"
    if "$python" "$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 \
        -artifact_prefix="$temporary/fuzz-$name-" >"$log" 2>&1; then
        sed -n 's/^Done \([0-9]*\) runs.*/executions: \1/p' "$log"
    else
        tail -n 60 "$log"
        exit 1
    fi
done
