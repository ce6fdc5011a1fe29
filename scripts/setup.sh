#!/bin/sh
# Installs what the build needs beside Rust: libpcap's headers, with the system's package manager.
# Does nothing where they are there.
set -eu
for header in /usr/include/pcap.h /usr/include/pcap/pcap.h /usr/local/include/pcap.h /opt/homebrew/include/pcap.h; do
    [ -e "$header" ] && exit 0
done
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing libpcap's headers" >&2
if command -v apt-get >/dev/null; then
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libpcap-dev
elif command -v dnf >/dev/null; then
    $sudo dnf install -y -q libpcap-devel
elif command -v apk >/dev/null; then
    $sudo apk add -q libpcap-dev
elif command -v pacman >/dev/null; then
    $sudo pacman -S --noconfirm --needed libpcap
elif command -v zypper >/dev/null; then
    $sudo zypper -q install -y libpcap-devel
else
    echo "no known package manager: install libpcap's headers by hand, or build with --no-default-features" >&2
    exit 1
fi
