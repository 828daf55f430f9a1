"""One job as a rank meets it: its key, its context, and how what the engine gives back becomes the `done` frame.
Not here: the order of prepare, go and execute (`loop.py`).
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

from patchbay_worker.artifacts.result_files import place_files
from patchbay_worker.artifacts.transfer import ArtifactStore
from patchbay_worker.engine.config import Checkpoint, JobContext, JobOutput
from patchbay_worker.frames import Frame
from patchbay_worker.spans import SpanLog


def encode_json(value: Any) -> bytes:
    try:
        return _dump(value)
    except ValueError:
        return _dump(_finite(value))


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode(errors="replace")


def _finite(value: Any) -> Any:
    """JSON has no NaN; a reader would refuse the whole result for one."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


class JobFrame:
    """An `execute` frame, taken apart."""

    def __init__(self, frame: Frame, store: ArtifactStore) -> None:
        fields = frame.fields
        self.key: dict[str, Any] = {name: fields[name] for name in ("job", "attempt", "epoch")}
        self.document = frame.body
        self.deadline_unix_ms = int(fields["deadlineUnixMs"]) or None
        self.resume = {run: Checkpoint(**at) for run, at in json.loads(fields.get("resume") or "{}").items()}
        self.spans = SpanLog(wanted=bool(fields.get("traceparent")))
        self.store = store
        store.use(str(fields["artifactUrl"]), str(fields["ticket"]))

    def is_of(self, frame: Frame) -> bool:
        """Verdicts on an earlier attempt may still be in the queue."""
        return all(frame.fields.get(name) == value for name, value in self.key.items())

    def context(self, document: dict[str, Any]) -> JobContext:
        return JobContext(
            job_id=self.key["job"],
            attempt=self.key["attempt"],
            document=document,
            deadline_unix_ms=self.deadline_unix_ms,
            fetch_artifact=self.store.get,
            store_artifact=self.store.put,
            resume=self.resume,
            spans=self.spans,
        )


def _written(output: JobOutput) -> dict[str, bytes]:
    files = {}
    if any(output.files.values()):
        from patchbay_worker.artifacts.write import write_safetensors  # imports torch

        files = {name: write_safetensors(tensors) for name, tensors in output.files.items() if tensors}
    if output.logs:
        files["logs.txt"] = output.logs.encode(errors="replace")
    return files


def finish(output: JobOutput, job: JobFrame) -> bytes:
    """Places the files and returns the result as JSON. Raises what the artifact store answers."""
    started = time.perf_counter()
    files = _written(output)
    placed = place_files(files, job.store)
    transfer_ms = round((time.perf_counter() - started) * 1e3, 3)
    timings = {**output.result.get("timings", {}), "transferMs": transfer_ms}
    return encode_json({**output.result, "files": placed, "timings": timings})
