"""What a worker and its zygote say to each other. No user data ever goes this way."""

from __future__ import annotations

import struct
from typing import Final

READY: Final = b"ready"
FORK: Final = b"fork"
"""Comes with three descriptors: the job's socket, the writing ends of its log and of its status pipe."""
FORKED: Final = struct.Struct("<i")
"""Pid, with a pidfd; or a negative errno."""
STATUS: Final = struct.Struct("<iq")
"""Written to the status pipe at the end: wait status, most memory used in KiB."""
