#!/bin/sh
# What a build costs from an empty target directory, as `make demo` makes it, and how large the program
# is without and with the feature `tables`. Prints; asserts nothing. The aims: 4 minutes of CPU, 25 MB
# and 45 MB.
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM

build() { # label, more arguments
    label=$1; shift
    CARGO_TARGET_DIR="$folder" /usr/bin/time -f '%e %U %S' -o "$folder/time" \
        cargo build --release --quiet --bin phasescope "$@"
    read -r wall user system <"$folder/time"
    awk -v l="$label" -v w="$wall" -v u="$user" -v s="$system" -v b="$(stat -c %s "$folder/release/phasescope")" \
        'BEGIN { printf "  %-44s %6.1f min of CPU, %5.1f min by the clock, %5.1f MB\n", l, (u + s) / 60, w / 60, b / 1e6 }'
}

echo "build, $(nproc) cores"
build "make demo, from nothing"
build "and the feature tables" --features tables
