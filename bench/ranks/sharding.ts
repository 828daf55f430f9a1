/** Runs bench/sharding.py on one mesh after the other: what a hook adds to a pass, as ratios within one run. */
import { keep, nameOf, onRanks, type Sizes } from './torchrun.js';

const MESHES: readonly Sizes[] = [{ tp: 1 }, { tp: 2 }, { dp: 2 }, { pp: 2 }];

interface Case {
  readonly case: string;
  readonly medianMs: number;
  readonly ratio: number;
  readonly msPerHook: number;
  /** Between ranks, and by the formula of bench/wire.py. */
  readonly wireBytes?: number;
  readonly formulaBytes?: number;
}
interface Measured {
  readonly mesh: Sizes;
  readonly cases: readonly Case[];
}

function show({ mesh, cases }: Measured): void {
  process.stdout.write(`\n${nameOf(mesh)}\n`);
  for (const { case: what, medianMs, ratio, msPerHook, wireBytes, formulaBytes } of cases) {
    const added = `${msPerHook >= 0 ? '+' : ''}${msPerHook.toFixed(3)}`;
    const moved = wireBytes === undefined ? '' : `   moves ${wireBytes} bytes, formula ${formulaBytes}`;
    process.stdout.write(
      `  ${what.padEnd(34)} ${medianMs.toFixed(2).padStart(9)} ms ${ratio.toFixed(2).padStart(6)} x ${added.padStart(9)} ms per hook${moved}\n`,
    );
  }
}

/** Prints every mesh and keeps the numbers in bench/results/<name>.json. */
export async function benchSharding(rounds: number, name = 'sharding', meshes = MESHES): Promise<void> {
  const results: Measured[] = [];
  for (const mesh of meshes) {
    const measured = await onRanks<Measured>('sharding.py', mesh, { rounds });
    show(measured);
    results.push(measured);
  }
  keep(name, results);
}
