/**
 * `npm run faults [-- --only TEXT,TEXT] [--minutes N] [--seed N] [--write]`: faults in an order that follows from the seed, all of them or as
 * many as there is time for; `--write` renews their rows in docs/faults.md. `npm run soak -- --minutes N [--seed N]`: faults by
 * chance under a stream of jobs. Exits 1 when anything did not hold. `--logs FOLDER` keeps the logs of the stack.
 */
import { parseArgs } from 'node:util';
import { BLOWS } from './blows.js';
import { PHASES } from './phases.js';
import { random, shuffled, withScene, type Stage } from './scene.js';
import { nameOf, strike, type Fault, type Outcome } from './strike.js';
import { Stream } from './stream.js';
import { writePage } from './table.js';
import { VICTIMS } from './victims.js';

const ALL: readonly Fault[] = VICTIMS.flatMap((victim) =>
  BLOWS.flatMap((blow) => PHASES.map((phase) => ({ victim, blow, phase }))),
);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string', default: '' },
    minutes: { type: 'string' },
    seed: { type: 'string', default: '1' },
    logs: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
  },
});
let broken = 0;
const held = new Map<string, { fault: Fault; outcome: Outcome | undefined }>();

const told = ({ state, code, attempts, recoveryMs, besidesMs }: Outcome): string =>
  `${state} ${code ?? ''} in attempt ${attempts}, next result after ${(recoveryMs / 1000).toFixed(1)} s, besides loading ${(besidesMs / 1000).toFixed(1)} s`;

async function one(scene: Stage, fault: Fault): Promise<void> {
  const name = nameOf(fault);
  try {
    const outcome = await strike(scene, fault);
    held.set(name, { fault, outcome });
    process.stdout.write(
      `ok     ${name.padEnd(44)} ${outcome === undefined ? 'no such process in this phase' : told(outcome)}\n`,
    );
  } catch (problem) {
    broken += 1;
    process.stdout.write(`FAILED ${name.padEnd(44)} ${new Date().toISOString()} ${String(problem)}\n`);
  }
}

const wanted = (fault: Fault): boolean => values.only.split(',').some((text) => nameOf(fault).includes(text));

const deadline = (minutes: number): number => Date.now() + Number(values.minutes ?? minutes) * 60_000;

async function matrix(scene: Stage): Promise<void> {
  const end = deadline(Number.POSITIVE_INFINITY);
  for (const fault of shuffled(ALL, Number(values.seed)).filter(wanted))
    if (Date.now() < end) {
      await one(scene, fault);
      if (values.write) writePage(ALL, held, scene); // so that nothing is lost with a run that is broken off
    }
}

async function soak(scene: Stage): Promise<void> {
  const next = random(Number(values.seed));
  const end = deadline(10);
  const stream = new Stream(scene, next);
  let struck = 0;
  for (; Date.now() < end; struck++) await one(scene, ALL[Math.floor(next() * ALL.length)]!);
  const { jobs, problems } = await stream.end();
  for (const problem of problems) process.stdout.write(`FAILED ${problem}\n`);
  broken += problems.length;
  process.stdout.write(`${struck} faults, ${jobs} other jobs, seed ${values.seed}, ${broken} broken\n`);
}

await withScene(positionals[0] === 'soak' ? soak : matrix, values.logs);
process.exitCode = broken > 0 ? 1 : 0;
