"""`python cut.py PID`: cuts the connections of another process, as a broken link would: shuts its TCP sockets down,
and those to a Redis on a unix socket. Prints how many. Listening sockets and pipes stay. Linux, root.
"""

import ctypes
import os
import socket
import sys

_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)


def _is_cut(sock: socket.socket) -> bool:
    try:
        peer = sock.getpeername()
    except OSError:
        return False
    return sock.family in (socket.AF_INET, socket.AF_INET6) or str(peer).endswith("redis.sock")


def _cut(process: int, number: int) -> bool:
    """A descriptor of the same open file: shutting it down is felt by both ends."""
    descriptor = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        return False
    try:
        with socket.socket(fileno=descriptor) as sock:
            if sock.type != socket.SOCK_STREAM or not _is_cut(sock):
                return False
            sock.shutdown(socket.SHUT_RDWR)
            return True
    except OSError:
        return False


def _is_socket(pid: int, number: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    except FileNotFoundError:
        return False  # closed meanwhile


def main(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
        numbers = [int(number) for number in os.listdir(f"/proc/{pid}/fd") if _is_socket(pid, number)]
    except (ProcessLookupError, FileNotFoundError):
        numbers = []  # it ended by itself
    print(sum(_cut(process, number) for number in numbers))


if __name__ == "__main__":
    main(int(sys.argv[1]))
