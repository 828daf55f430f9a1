/** `npm run bench -- hooks | sharding | flexmodel | memory | sandbox | job | load | cancel [options]`: speed as ratios and differences within one run. Never part of the tests. */
import { parseArgs } from 'node:util';
import { benchCancel } from './cancel.js';
import { benchJob } from './job.js';
import { benchLoad } from './load.js';
import { benchMemory } from './ranks/memory.js';
import { benchSandbox } from './sandbox.js';
import { benchSharding } from './ranks/sharding.js';

const USAGE = `npm run bench -- <what>
  hooks [--rounds N]                   raw torch hook, reads and python edits at tp 1 and 2, as ratios to the plain forward
  sharding [--rounds N]                passes with hooks against passes without, on every mesh, in time and in bytes
                                       between ranks; with PATCHBAY_FLEXMODEL
                                       (a checkout of it) FlexModel's own hook beside them
  flexmodel [--rounds N]               only what tells our edit's time from FlexModel's, at tp 2: many rounds in little time
  memory [--jobs N]                    what ranks and the sandbox hold while one gang runs many jobs of every mode
  sandbox [--jobs N]                   round trips, life and memory of a sandbox against this process, and a whole job
                                       against "trusted" (--jobs 0: without)
  job   [--jobs N] [--gap MS] [--tp N] from the SDK call to the result, by phase
  load   [--jobs N] [--profile FOLDER] jobs that do nothing: jobs/s, quantiles, CPU and memory at 1, 8, 64 submitters
  cancel [--rounds N]                  from the cancel to the next job running, by situation`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '30' },
    jobs: { type: 'string', default: '300' },
    gap: { type: 'string', default: '20' },
    tp: { type: 'string', default: '2' },
    profile: { type: 'string', default: '' },
  },
});

const benches: Record<string, () => Promise<void>> = {
  hooks: () => benchSharding(Number(values.rounds), 'hooks', [{ tp: 1 }, { tp: 2 }]),
  sharding: () => benchSharding(Number(values.rounds)),
  flexmodel: () => benchSharding(Number(values.rounds), 'flexmodel', [{ tp: 2 }], true),
  memory: () => benchMemory(Number(values.jobs)),
  sandbox: () => benchSandbox(1_000, Math.min(100, Number(values.jobs))),
  load: () => benchLoad(Number(values.jobs), values.profile),
  cancel: () => benchCancel(Number(values.rounds)),
  job: () => benchJob({ jobs: Number(values.jobs), gapMs: Number(values.gap), tp: Number(values.tp) }),
};
const bench = benches[positionals[0] ?? ''];
if (bench === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exit(2);
}
await bench();
