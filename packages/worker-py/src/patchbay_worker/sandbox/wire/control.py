"""What a worker and its zygote say to each other. No user data ever goes this way."""

from __future__ import annotations

import signal
import struct
from typing import Final

ASK: Final = signal.SIGUSR2
"""Asks a job for the line that it is at, before it is killed. A job's init passes it on."""
READY: Final = b"ready"
MAP: Final = b"map"
"""The zygote asks for its map of ids, and hears the same when it is written."""
FAILED: Final = b"failed "
"""With JSON: the layer that cannot be had on this machine, and why."""
FORK: Final = b"fork"
"""Comes with three descriptors: the job's socket, the writing ends of its log and of its status pipe."""
FORKED: Final = struct.Struct("<i")
"""Pid, with a pidfd; or a negative errno."""
STATUS: Final = struct.Struct("<iq")
"""Written to the status pipe at the end: wait status, CPU time in microseconds."""
