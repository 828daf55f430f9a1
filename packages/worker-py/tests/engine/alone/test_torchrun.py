"""The engine without Ray: one job under torchrun, files beside result.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from support.gang import free_port
from support.plain_hooks import plain_logits

TOKENS = [[5, 9, 31, 4]]
MODULE = "model.layers.1.mlp.gate_proj"


def torchrun(model: Path, folder: Path, document: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    job = folder / "job.json"
    job.write_text(json.dumps({"version": 1, "model": "m", **document}), encoding="utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    program = ["-m", "patchbay_worker.engine", "--model", str(model), "--tp", "2", "--job", str(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [*launch, *program, "--out", str(folder / "out")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_job_from_the_command_line(llama: Path, tmp_path: Path) -> None:
    source = "def edit(current_module, inputs, save_ctx, modules):\n    print('here')\n    return inputs * 2\n"
    hook = {"name": "h", "moduleName": MODULE, "edit": {"kind": "python", "source": source}}
    run = {"name": "r", "inputs": {"tokenIds": TOKENS}, "return": {"logits": "all"}}
    ended = torchrun(llama, tmp_path, {"hooks": [hook], "runs": [run]})
    assert ended.returncode == 0, ended.stderr
    want = plain_logits(llama, TOKENS, (MODULE, "forward", lambda value: value * 2))
    found = load_file(tmp_path / "out" / "outputs.safetensors")["r/logits"]
    torch.testing.assert_close(found, want, atol=2e-5, rtol=0)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["hooks"][0]["route"] == "root"
    assert load_file(tmp_path / "out" / "activations.safetensors").keys() == {f"r/h/{MODULE}/0"}
    assert (tmp_path / "out" / "logs.txt").read_text() == "here\n"


def test_a_refused_job_says_why(llama: Path, tmp_path: Path) -> None:
    ended = torchrun(
        llama, tmp_path, {"hooks": [{"moduleName": "nothing"}], "runs": [{"inputs": {"tokenIds": TOKENS}}]}
    )
    assert ended.returncode != 0
    assert '"code": "PB_HOOK_MODULE_NOT_FOUND"' in ended.stderr
    assert not (tmp_path / "out").exists()
