/** A sample of the fault matrix; the whole of it is `npm run faults`. PATCHBAY_FAULT_SEED chooses another sample. */
import { shuffled, withScene } from './scene.js';
import { nameOf, strike, type Fault } from './strike.js';

/** Faults that are always tried, since each of them goes another way. */
const ALWAYS: readonly Fault[] = [
  { victim: 'rank 1', blow: 'kill', phase: 'in an edit' },
  { victim: 'orchestrator', blow: 'kill', phase: 'in generation' },
  { victim: 'redis', blow: 'kill', phase: 'queued' },
  { victim: 'orchestrator', blow: 'cut', phase: 'writing' },
];
const SOME: readonly Fault[] = [
  { victim: 'supervisor', blow: 'kill', phase: 'in generation' },
  { victim: 'gateway', blow: 'kill', phase: 'in an edit' },
  { victim: 'rank 0', blow: 'kill', phase: 'in generation' },
  { victim: 'sandbox', blow: 'kill', phase: 'in an edit' },
  { victim: 'zygote', blow: 'kill', phase: 'just finished' },
  { victim: 'orchestrator', blow: 'stop', phase: 'in an edit' },
  { victim: 'rank 0', blow: 'stop', phase: 'in an edit' },
  { victim: 'script', blow: 'cut', phase: 'in generation' },
  { victim: 'script', blow: 'kill', phase: 'in an edit' },
  { victim: 'supervisor', blow: 'cut', phase: 'in collectives' },
  { victim: 'gateway', blow: 'kill', phase: 'loading' },
];

describe('faults', function () {
  this.timeout(300_000);

  it('leave every job with one end, its effect once, and the next job running', async function () {
    const seed = Number(process.env['PATCHBAY_FAULT_SEED'] ?? 1);
    const sample = shuffled(SOME, seed).slice(0, 2);
    await withScene(async (scene) => {
      for (const fault of [...ALWAYS, ...sample]) {
        const outcome = await strike(scene, fault).catch((problem: unknown) => {
          throw new Error(`${nameOf(fault)} (seed ${seed}): ${String(problem)}`, { cause: problem });
        });
        process.stdout.write(`      ${nameOf(fault)}: ${JSON.stringify(outcome)}\n`);
      }
    });
  });
});
