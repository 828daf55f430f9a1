/** `npm run bench -- hooks | job [options]`: speed as ratios and differences within one run. Never part of the tests. */
import { parseArgs } from 'node:util';
import { benchHooks } from './hooks.js';
import { benchJob } from './job.js';

const USAGE = `npm run bench -- <what>
  hooks [--rounds N]                   forward with hooks against the forward without, TP 1 and 2
  job   [--jobs N] [--gap MS] [--tp N] from the SDK call to the result, by phase`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '30' },
    jobs: { type: 'string', default: '300' },
    gap: { type: 'string', default: '20' },
    tp: { type: 'string', default: '2' },
  },
});

const benches: Record<string, () => Promise<void>> = {
  hooks: () => benchHooks(Number(values.rounds)),
  job: () => benchJob({ jobs: Number(values.jobs), gapMs: Number(values.gap), tp: Number(values.tp) }),
};
const bench = benches[positionals[0] ?? ''];
if (bench === undefined) {
  process.stderr.write(`${USAGE}\n`);
  process.exit(2);
}
await bench();
