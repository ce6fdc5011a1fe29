#!/bin/sh
# The highest packet rate of a replayed trace at which nothing is dropped: `phasescope live`, and
# `tcpdump -w /dev/null` in the same set-up. A virtual cable in a network namespace; needs root,
# ip, tcpreplay, tcpdump and zstd.
#
#   benches/live.sh [PHASESCOPE [TRACE.pcap.zst]]

set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
phasescope=${1:-$here/target/release/phasescope}
trace=${2:-$here/fixtures/kvm/kvm-loaded.pcap.zst}
seconds=${SECONDS_EACH:-3}

for tool in ip tcpreplay tcpdump zstd; do
    command -v "$tool" >/dev/null || { echo "SKIPPED: live needs $tool"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "SKIPPED: live needs root"; exit 0; }
[ -x "$phasescope" ] || { echo "no $phasescope: cargo build --release first" >&2; exit 1; }

net=ps-bench-$$
work=$(mktemp -d)
trap 'ip netns del $net 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
ip netns add "$net" || { echo "SKIPPED: no network namespace can be made here"; exit 0; }
in_net() { ip netns exec "$net" "$@"; }
in_net ip link add out type veth peer name tap
for end in out tap; do
    in_net sysctl -qw "net.ipv6.conf.$end.disable_ipv6=1"
    in_net ip link set "$end" mtu 65535 up arp off
done
zstd -qdc "$trace" >"$work/trace.pcap"
packets=$("$phasescope" capinfo "$trace" | awk '/packets/ {gsub(",", "", $2); print $2; exit}')

# Replays at $1 packets a second (0: as fast as it goes); sets $sent and $rate.
replay() {
    if [ "$1" = 0 ]; then speed=--topspeed n=$((seconds * 100000)); else speed=--pps=$1 n=$((seconds * $1)); fi
    loops=$((n / packets + 1))
    in_net tcpreplay -q -K --loop="$loops" "$speed" -i out "$work/trace.pcap" >"$work/sent" 2>&1
    sent=$(awk '/Successful packets/ {print $3}' "$work/sent")
    rate=$(sed -n 's/.* \([0-9.]*\) pps$/\1/p' "$work/sent" | head -n 1 | cut -d. -f1)
    mbps=$(sed -n 's/.* \([0-9.]*\) Mbps.*/\1/p' "$work/sent" | head -n 1)
    sleep 2
}

# Runs one of the two at rate $2; true if every packet that was sent was seen. Not by in_net: the
# signal must reach the program, not a shell around it.
try() {
    case $1 in
    phasescope)
        ip netns exec "$net" "$phasescope" live --headless -i tap --report "$work/report.json" >/dev/null 2>"$work/err" &
        ;;
    tcpdump)
        ip netns exec "$net" tcpdump -i tap -B 65536 -Z root -w /dev/null >/dev/null 2>"$work/err" &
        ;;
    esac
    pid=$!
    until in_net ip -d link show tap | grep -q 'promiscuity 1'; do sleep 0.1; done
    replay "$2"
    kill -TERM "$pid"
    wait "$pid" || true
    case $1 in
    phasescope)
        seen=$(sed -n 's/^ *"packets": \([0-9]*\),*$/\1/p' "$work/report.json" | head -n 1)
        told=$(sed -n 's/^ *"dropped_packets": \([0-9]*\),*$/\1/p' "$work/report.json")
        ;;
    tcpdump)
        seen=$(sed -n 's/^\([0-9]*\) packets captured$/\1/p' "$work/err")
        told=$(sed -n 's/^\([0-9]*\) packets dropped by kernel$/\1/p' "$work/err")
        ;;
    esac
    lost=$((sent - seen))
    echo "  $1: asked for $2, sent $rate packets/s ($mbps Mbit/s), $lost of $sent lost, $told told"
    [ "$lost" = 0 ]
}

echo "$(basename "$trace"), $packets packets, $(nproc) cores"
for tool in phasescope tcpdump; do
    best=none
    for pps in 10000 20000 40000 80000 120000 160000 240000 320000 0; do
        try "$tool" "$pps" || break
        best="$rate packets/s, $mbps Mbit/s"
        # The sender cannot go faster: nor can the measurement.
        if [ "$pps" != 0 ] && [ "$rate" -lt $((pps * 3 / 4)) ]; then
            best="$best (the sender's limit)"
            break
        fi
    done
    echo "$tool: $best"
done
