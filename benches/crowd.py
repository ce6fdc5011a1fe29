#!/usr/bin/env python3
"""Writes a capture of many TCP connections to standard output: N of them, of which at most WIDTH are
open at once, each with an HTTP-like request and answer. For benches/scale.sh.

usage: crowd.py N [WIDTH]"""

import struct
import sys

SYN, ACK, FIN, PSH = 2, 16, 1, 8


def main():
    count = int(sys.argv[1])
    width = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    out = sys.stdout.buffer
    out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
    server = bytes([10, 9, 0, 1])
    clock = 0
    ask, tell = b"x" * 100, b"y" * 300
    # What each connection sends: from the client, flags, sequence, acknowledgment, payload.
    script = [
        (True, SYN, 0, 0, b""),
        (False, SYN | ACK, 0, 1, b""),
        (True, PSH | ACK, 1, 1, ask),
        (False, PSH | ACK, 1, 101, tell),
        (True, FIN | ACK, 101, 301, b""),
        (False, FIN | ACK, 301, 102, b""),
    ]
    for first in range(0, count, width):
        batch = range(first, min(first + width, count))
        for from_client, flags, seq, ack, data in script:
            for n in batch:
                client = struct.pack(">I", 0x0A0A0000 + n // 50000)
                ports = (1024 + n % 50000, 8080)
                ends = (client, server) if from_client else (server, client)
                tcp = struct.pack(">HHIIBBHHH", *(ports if from_client else ports[::-1]), seq, ack, 80, flags, 65535, 0, 0)
                ip = struct.pack(">BBHHHBBH", 69, 0, 40 + len(data), 0, 0, 64, 6, 0) + ends[0] + ends[1]
                frame = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + tcp + data
                clock += 1000
                out.write(struct.pack("<IIII", clock // 10**9, clock % 10**9, len(frame), len(frame)) + frame)


main()
