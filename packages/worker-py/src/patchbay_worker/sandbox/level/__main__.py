"""Prints the level that this machine reaches as JSON, for `patchbay doctor`. Not here: finding it (choose.py)."""

import json

from patchbay_worker.sandbox.level.choose import choose
from patchbay_worker.sandbox.settings import SandboxSettings

if __name__ == "__main__":
    choice = choose(SandboxSettings.from_environment())
    if choice.zygote is not None:
        choice.zygote.close()
    refusal = choice.refusal.to_json() if choice.refusal is not None else None
    print(json.dumps({"level": choice.level, "probes": choice.probes, "refusal": refusal}))
