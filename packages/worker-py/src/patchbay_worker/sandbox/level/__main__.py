"""Prints the level that this machine reaches as JSON, for `patchbay doctor`. Not here: finding it (choose.py)."""

import json

from patchbay_worker.sandbox.level.choose import cgroup_of, choose
from patchbay_worker.sandbox.settings import SandboxSettings

if __name__ == "__main__":
    settings = SandboxSettings.from_environment()
    cgroup, told = cgroup_of(settings)
    choice = choose(settings, cgroup)
    if choice.zygote is not None:
        choice.zygote.close()
    if cgroup is not None:
        cgroup.close()
    refusal = choice.refusal.to_json() if choice.refusal is not None else None
    print(json.dumps({"level": choice.level, "probes": [*choice.probes, told], "refusal": refusal}))
