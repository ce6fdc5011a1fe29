#!/bin/sh
# How fast is `phasescope analyze` beside tools that read the same file? Prints ratios; asserts
# nothing. Usage: benches/analyze.sh [MIB]
#
# BENCH_OLD=PROGRAM: beside another build of phasescope, turn by turn, so that the machine's mood falls
# on both alike; the median of BENCH_PAIRS (15) ratios of time, and of peak memory.
set -eu
cd "$(dirname "$0")/.."
mib=${1:-1024}
folder=${BENCH_DIR:-target/bench}
program=target/release/phasescope
mkdir -p "$folder"
cargo build --release --quiet --bin phasescope --example grow

# Best wall time of some runs, and peak resident memory, of a command. Output is thrown away.
measure() {
    runs=$1; shift
    best=; peak=0
    for _ in $(seq "$runs"); do
        /usr/bin/time -f '%e %M' -o "$folder/time" "$@" >/dev/null 2>&1 || true
        read -r seconds memory <"$folder/time"
        best=$(awk -v a="${best:-1e9}" -v b="$seconds" 'BEGIN{print (b<a)?b:a}')
        peak=$(awk -v a="$peak" -v b="$memory" 'BEGIN{print (b>a)?b:a}')
    done
}

# Runs both programs in turn on a file; prints new over old.
pair() {
    [ -n "${BENCH_OLD:-}" ] || return 0
    : >"$folder/pairs"
    for n in $(seq "${BENCH_PAIRS:-15}"); do
        # Who goes first changes.
        order="$program $BENCH_OLD"
        [ $((n % 2)) = 0 ] || order="$BENCH_OLD $program"
        for p in $order; do
            start=$(date +%s%N)
            /usr/bin/time -f '%M' -o "$folder/time" "$p" analyze -q "$1" >/dev/null 2>&1 || true
            end=$(date +%s%N)
            echo "$n $([ "$p" = "$program" ] && echo new || echo old) $((end - start)) $(tail -n 1 "$folder/time")"
        done
    done >"$folder/pairs"
    awk '{ t[$1, $2] = $3; m[$1, $2] = $4 } END { for (i = 1; (i, "new") in t; i++)
        print t[i, "new"] / t[i, "old"], m[i, "new"] / m[i, "old"], t[i, "new"] / 1e6, t[i, "old"] / 1e6 }' \
        "$folder/pairs" >"$folder/ratios"
    middle() { sort -g -k "$1,$1" "$folder/ratios" | awk -v k="$1" '{ v[NR] = $k } END { print v[int((NR + 1) / 2)] }'; }
    printf '  new build over old one: time %.3f (%.0f over %.0f ms), peak memory %.3f (medians of %s pairs)\n' \
        "$(middle 1)" "$(middle 3)" "$(middle 4)" "$(middle 2)" "$n"
}

row() { # name, seconds, peak KiB, cat's seconds, own seconds, bytes, packets
    awk -v n="$1" -v s="$2" -v m="$3" -v c="$4" -v own="$5" -v b="$6" -v p="$7" 'BEGIN {
        if (s < 0.001) s = 0.001
        printf "  %-44s %8.3f s %9.0f MiB/s %11.0f packets/s %7.1f MiB peak %7.2f x cat %7.1f x slower\n",
            n, s, b/1048576/s, p/s, m/1024, c/s, s/own }'
}

case_of() { # label, file
    file=$2
    bytes=$(stat -c %s "$file")
    packets=$("$program" capinfo --format json "$file" | awk -F'[:,]' '/"packets"/{print $2; exit}')
    printf '%s: %s MiB, %s packets\n' "$1" "$((bytes / 1048576))" "$packets"
    cat "$file" >/dev/null
    measure 3 cat "$file"; cat_s=$best; cat_m=$peak
    measure 3 "$program" analyze -q "$file"; own_s=$best; own_m=$peak
    row "cat FILE > /dev/null" "$cat_s" "$cat_m" "$cat_s" "$own_s" "$bytes" "$packets"
    row "phasescope analyze FILE" "$own_s" "$own_m" "$cat_s" "$own_s" "$bytes" "$packets"
    pair "$file"
    if command -v tcpdump >/dev/null; then
        measure 3 tcpdump -r "$file" -w /dev/null
        row "tcpdump -r FILE -w /dev/null" "$best" "$peak" "$cat_s" "$own_s" "$bytes" "$packets"
    fi
    if command -v tshark >/dev/null; then
        measure 1 tshark -r "$file" -q -z conv,tcp
        row "tshark -r FILE -q -z conv,tcp" "$best" "$peak" "$cat_s" "$own_s" "$bytes" "$packets"
    fi
}

date -u +'%Y-%m-%d'
grep -m1 'model name' /proc/cpuinfo || true
grow=target/release/examples/grow
if [ ! -e "$folder/small-$mib.pcap" ]; then
    "$grow" fixtures/kvm/kvm-loaded.pcap.zst "$mib" --segments 1448 >"$folder/small-$mib.pcap"
fi
case_of "1448-byte segments" "$folder/small-$mib.pcap"
if [ ! -e "$folder/large-$mib.pcap" ]; then
    "$grow" fixtures/kvm/kvm-loaded.pcap.zst "$mib" >"$folder/large-$mib.pcap"
fi
case_of "segments of up to 60 KB (offload)" "$folder/large-$mib.pcap"
