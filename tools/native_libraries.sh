#!/bin/sh
# Make LightGBM loadable on a machine without libgomp: link the copy that scikit-learn ships.
# Usage: native_libraries.sh VENV
set -eu
venv=$1
lightgbm_loads() { "$venv/bin/python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; }
[ "$(uname -s)" = Linux ] || exit 0
lightgbm_loads && exit 0
shipped=$(find "$venv" -path '*scikit_learn.libs/libgomp*' | head -n 1)
if [ -z "$shipped" ]; then
    echo "libgomp is missing and LightGBM needs it. On Debian and Ubuntu: apt-get install libgomp1" >&2
    exit 1
fi
mkdir -p "$venv/native"
ln -sf "$(cd "$(dirname "$shipped")" && pwd)/$(basename "$shipped")" "$venv/native/libgomp.so.1"
