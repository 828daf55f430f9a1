/**
 * `npm run faults [-- --only TEXT]`: every fault, one after the other, as a table. `npm run soak -- --minutes N [--seed N]`:
 * faults by chance under a stream of jobs. Exits 1 when anything did not hold.
 */
import { parseArgs } from 'node:util';
import { random, withScene } from './scene.js';
import { BLOWS, PHASES, nameOf, strike, type Fault } from './strike.js';
import { VICTIMS, type Scene } from './victims.js';

const ALL: readonly Fault[] = VICTIMS.flatMap((victim) =>
  BLOWS.flatMap((blow) => PHASES.map((phase) => ({ victim, blow, phase }))),
);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', default: '' },
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
  },
});
let broken = 0;

async function one(scene: Scene, fault: Fault): Promise<void> {
  const name = nameOf(fault).padEnd(44);
  try {
    const outcome = await strike(scene, fault);
    const told =
      outcome === undefined
        ? 'no such process in this phase'
        : `${outcome.state} ${outcome.code ?? ''} in attempt ${outcome.attempts}, next result after ${(outcome.recoveryMs / 1000).toFixed(1)} s`;
    process.stdout.write(`ok     ${name} ${told}\n`);
  } catch (problem) {
    broken += 1;
    process.stdout.write(`FAILED ${name} ${String(problem)}\n`);
  }
}

const matrix = (scene: Scene): Promise<void> =>
  ALL.filter((fault) => nameOf(fault).includes(values.only)).reduce(
    (before, fault) => before.then(() => one(scene, fault)),
    Promise.resolve(),
  );

async function soak(scene: Scene): Promise<void> {
  const next = random(Number(values.seed));
  const end = Date.now() + Number(values.minutes) * 60_000;
  let struck = 0;
  for (; Date.now() < end; struck++) await one(scene, ALL[Math.floor(next() * ALL.length)]!);
  process.stdout.write(`${struck} faults, seed ${values.seed}, ${broken} broken\n`);
}

await withScene(positionals[0] === 'soak' ? soak : matrix);
process.exitCode = broken > 0 ? 1 : 0;
