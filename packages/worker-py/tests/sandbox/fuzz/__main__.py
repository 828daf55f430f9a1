"""`npm run fuzz -- --minutes N [--seed S] [--target T]`: mutates until the time is over. An input that breaks a target
is kept in the corpus, where `npm test` tries it again; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from .corpus import inputs_of, keep
from .mutate import mutated
from .targets import TARGETS, Refused

REPORT_S = 10.0
POOL = 2_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="npm run fuzz --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS, action="append")
    asked = parser.parse_args()
    rng, names = random.Random(asked.seed), asked.target or list(TARGETS)
    pools = {name: inputs_of(name) for name in names}
    end, tell = time.monotonic() + asked.minutes * 60, time.monotonic() + REPORT_S
    tried, taken, broken = Counter[str](), Counter[str](), 0
    while (now := time.monotonic()) < end:
        name = rng.choice(names)
        pool = pools[name]
        data = mutated(rng.choice(pool), pool, rng)
        tried[name] += 1
        try:
            TARGETS[name](data)
        except Refused:
            pass
        except Exception:
            broken += 1
            print(f"{name} broke on {keep(name, data)}", file=sys.stderr)
            traceback.print_exc()
        else:
            taken[name] += 1
            if len(pool) < POOL:  # what passes is a better start than what is refused
                pool.append(data)
        if now > tell:
            tell = now + REPORT_S
            print({name: (tried[name], taken[name]) for name in names}, file=sys.stderr)
    for name in names:
        print(f"{name}: {tried[name]} inputs, {taken[name]} taken, seed {asked.seed}")
    print(f"{broken} broke a target")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
