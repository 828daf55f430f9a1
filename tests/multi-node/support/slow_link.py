"""slow_link.py TAP TAP MILLISECONDS: makes two tap devices and copies every frame from one to the other, late. For
kernels without netem; runs until it is killed, and its devices go with it.
"""

import contextlib
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
LARGEST_FRAME = 65536


def open_tap(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def main(one: str, two: str, milliseconds: str) -> None:
    first, second = open_tap(one), open_tap(two)
    other = {first: second, second: first}
    late = float(milliseconds) / 1e3
    on_the_way: deque[tuple[float, int, bytes]] = deque()
    print("ready", flush=True)
    while True:
        wait = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
        for device in select.select(list(other), [], [], wait)[0]:
            frame = os.read(device, LARGEST_FRAME)
            on_the_way.append((time.monotonic() + late, other[device], frame))
        while on_the_way and on_the_way[0][0] <= time.monotonic():
            _, device, frame = on_the_way.popleft()
            with contextlib.suppress(OSError):  # that end is down: lost, as on a wire
                os.write(device, frame)


main(*sys.argv[1:])
