#!/bin/sh
# How do time and memory grow with the number of connections, of migrations, and of bytes? Prints a
# table; asserts nothing. The captures come through pipes: nothing is stored.
set -eu
cd "$(dirname "$0")/.."
program=target/release/phasescope
grow=target/release/examples/grow
folder=${BENCH_DIR:-target/bench}
mkdir -p "$folder"
cargo build --release --quiet --bin phasescope --example grow

row() { # label, unit's number, file
    /usr/bin/time -f '%e %U %M' -o "$folder/time" "$program" analyze -q --format json -o "$folder/scale.json" "$3" 2>/dev/null || true
    # A capture without a migration ends with 3, which time tells in a line of its own.
    tail -n 1 "$folder/time" >"$folder/time.last"
    read -r seconds user memory <"$folder/time.last"
    awk -v l="$1" -v n="$2" -v s="$seconds" -v u="$user" -v m="$memory" 'BEGIN {
        printf "  %-40s %8.2f s %8.2f s user %8.2f us each %8.1f MiB peak\n", l, s, u, u * 1e6 / n, m / 1024 }'
}

for n in 10 1000 100000 1000000; do
    python3 benches/crowd.py "$n" >"$folder/scale.pcap"
    row "$n connections, 1000 at once" "$n" "$folder/scale.pcap"
done
for n in 10000 100000 1000000; do
    python3 benches/crowd.py "$n" "$n" >"$folder/scale.pcap"
    row "$n connections, all at once" "$n" "$folder/scale.pcap"
done
for mib in 1 12 120; do
    "$grow" fixtures/kvm/kvm-offline.pcap.zst "$mib" >"$folder/scale.pcap"
    "$program" analyze -q --format json -o "$folder/scale.json" "$folder/scale.pcap" || true
    n=$(grep -c '"outcome"' "$folder/scale.json")
    row "$n migrations" "$n" "$folder/scale.pcap"
done
mkfifo "$folder/scale.fifo"
for mib in 1024 4096 16384; do
    "$grow" fixtures/kvm/kvm-loaded.pcap.zst "$mib" --segments 1448 >"$folder/scale.fifo" &
    row "$mib MiB through a pipe" "$mib" "$folder/scale.fifo"
    wait
done
rm -f "$folder/time.last" "$folder/scale.pcap" "$folder/scale.json" "$folder/scale.fifo"
