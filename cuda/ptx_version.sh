#!/bin/sh
# ptx_version.sh ptxas file.ptx: sets the file's .version to the least that ptxas takes it with, so that drivers older than
# the compiler take it too.
set -eu
# Those of CUDA 11.0 to 11.2; src/backend/cuda/mod.rs wants a driver that takes the last.
for version in 7.0 7.1 7.2; do
    sed "s/^\.version .*/.version $version/" "$2" > "$2.lowered"
    if "$1" -arch=sm_80 -o /dev/null "$2.lowered" 2>"$2.words"; then
        mv "$2.lowered" "$2"
        rm -f "$2.words"
        exit 0
    fi
done
cat "$2.words" >&2
rm -f "$2.lowered" "$2.words"
exit 1
