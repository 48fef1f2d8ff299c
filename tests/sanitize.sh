#!/bin/sh
# Run the tests of the C extensions, built under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#     tests/sanitize.sh [PYTEST ARGUMENTS]
#
# Works on a copy of the package, so what is installed stays as it is. PYTHON names the
# interpreter with the test requirements; default: the one of .venv, else python3. Needs gcc.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As in the checkout: the corpus is looked for beside it.
mkdir "$work/main"
[ ! -d "$root/../shared" ] || ln -s "$root/../shared" "$work/shared"
cp -R "$root/node" "$root/tests" "$root/pyproject.toml" "$work/main/"
cd "$work/main"
rm -f node/*/_*.so

include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
for extension in node/pixels/_rle node/network/_kernel; do
    gcc -g -O1 -std=c11 -Wall -Wextra -shared -fPIC -fvisibility=hidden \
        -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
        -DPy_LIMITED_API=0x030B0000 "-I$include" -o "$extension.abi3.so" "$extension.c"
done

# Python itself is not built with the sanitizer, so the runtime comes first, leaks are not counted,
# and each object gets memory of its own.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so)"
export ASAN_OPTIONS=detect_leaks=0:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1
export PYTHONMALLOC=malloc PYTHONPATH="$work/main"

for extension in node.pixels._rle node.network._kernel; do
    "$python" -c "import $extension as it; assert it.__file__.startswith('$work'), it"
done
"$python" -m pytest -q -p no:cacheprovider tests/pixels/test_rle.py tests/pixels/test_rle_corpus.py \
    tests/network/test_kernel.py "$@"
