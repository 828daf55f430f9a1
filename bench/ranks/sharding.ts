/** Runs bench/sharding.py on one mesh after the other: what a hook adds to a pass, as ratios within one run. */
import { keep, nameOf, onRanks, type Sizes } from './torchrun.js';

const MESHES: readonly Sizes[] = [{ tp: 1 }, { tp: 2 }, { dp: 2 }, { pp: 2 }];

type Between = readonly [number, number];
interface Case {
  readonly case: string;
  readonly medianMs: number;
  readonly ratio: number;
  readonly msPerHook: number;
  /** Of 95 % of the resampled rounds, as every `Between` here. */
  readonly msPerHookBetween: Between;
  /** Between ranks, and by the formula of bench/wire.py. */
  readonly wireBytes?: number;
  readonly formulaBytes?: number;
}
interface Measured {
  readonly mesh: Sizes;
  readonly cases: readonly Case[];
  /** What our edit adds in parts of what FlexModel's hook adds. */
  readonly ofFlexModel?: number;
  readonly ofFlexModelBetween?: Between;
}

function show({ mesh, cases, ofFlexModel, ofFlexModelBetween: share }: Measured): void {
  process.stdout.write(`\n${nameOf(mesh)}\n`);
  for (const { case: what, medianMs, ratio, msPerHook, msPerHookBetween, wireBytes, formulaBytes } of cases) {
    const [low, high] = msPerHookBetween.map(signed);
    const moved = wireBytes === undefined ? '' : `   moves ${wireBytes} bytes, formula ${formulaBytes}`;
    process.stdout.write(
      `  ${what.padEnd(34)} ${medianMs.toFixed(2).padStart(9)} ms ${ratio.toFixed(2).padStart(6)} x ${signed(msPerHook).padStart(9)} (${low} to ${high}) ms per hook${moved}\n`,
    );
  }
  if (ofFlexModel !== undefined && share !== undefined) {
    process.stdout.write(`  our edit adds ${ofFlexModel} of what FlexModel's hook adds (${share.join(' to ')})\n`);
  }
}

function signed(value: number): string {
  return `${value >= 0 ? '+' : ''}${value.toFixed(3)}`;
}

/** Prints every mesh and keeps the numbers in bench/results/<name>.json. */
export async function benchSharding(
  rounds: number,
  name = 'sharding',
  meshes: readonly Sizes[] = MESHES,
  duel = false,
): Promise<void> {
  const results: Measured[] = [];
  for (const mesh of meshes) {
    const measured = await onRanks<Measured>('sharding.py', mesh, { rounds, duel: Number(duel) });
    show(measured);
    results.push(measured);
  }
  keep(name, results);
}
