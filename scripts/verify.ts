/**
 * The one gate: format, lint, types, generated code, unit tests, integration tests, in this order, all of them even
 * when an earlier one fails. `--only lint,unit` selects stages. Exits 1 when anything failed or no test ran.
 * Sets nothing up: that is scripts/bootstrap.mjs, which `npm test` runs first.
 */
import { parseArgs } from 'node:util';
import { NO_TESTS, add, type Counts } from './verify/count-tests.js';
import { runStep, type StepOutcome } from './verify/run-step.js';
import { STAGES, steps, type Stage, type Step } from './verify/steps.js';

interface Done {
  readonly step: Step;
  readonly outcome: StepOutcome;
  readonly counts: Counts;
}

function selectedStages(): readonly Stage[] {
  const { values } = parseArgs({ options: { only: { type: 'string' } } });
  if (values.only === undefined) return STAGES;
  const names = values.only.split(',');
  const unknown = names.find((name) => !(STAGES as readonly string[]).includes(name));
  if (unknown === undefined) return STAGES.filter((stage) => names.includes(stage));
  process.stderr.write(`verify: no stage '${unknown}'; there are ${STAGES.join(', ')}\n`);
  process.exit(2);
}

/** A runner that fails without naming a failed test (a crash, a limit, a broken import) counts as one failure. */
function countsOf(step: Step, outcome: StepOutcome): Counts {
  if (step.count === undefined) return NO_TESTS;
  const counts = step.count(outcome.output);
  return outcome.ok || counts.failed > 0 ? counts : { ...counts, failed: 1 };
}

async function run(step: Step): Promise<Done> {
  const title = `== ${step.stage}: ${step.name}`;
  process.stdout.write(`${title}\n`);
  const outcome = await runStep(step);
  const verdict = outcome.ok ? 'ok' : `FAILED (${outcome.reason})`;
  const shown = outcome.ok && step.count === undefined ? '' : `\n${outcome.output}`;
  process.stdout.write(`${shown}${title} ${verdict} ${outcome.seconds.toFixed(1)} s\n`);
  return { step, outcome, counts: countsOf(step, outcome) };
}

/** Two at a time, for two cores; steps with a stack of their own take both, so they come last and one by one. */
async function runAll(selected: readonly Stage[]): Promise<Done[]> {
  const chosen = steps().filter(({ stage }) => selected.includes(stage));
  const [together, alone] = [
    chosen.filter(({ stage }) => stage !== 'integration'),
    chosen.filter(({ stage }) => stage === 'integration'),
  ];
  const waiting = [...together].sort((a, b) => Number(b.longest ?? false) - Number(a.longest ?? false));
  const done = new Map<Step, Done>();
  const lane = async (queue: Step[]): Promise<void> => {
    for (let step = queue.shift(); step !== undefined; step = queue.shift()) done.set(step, await run(step));
  };
  await Promise.all([lane(waiting), lane(waiting)]);
  await lane(alone);
  return chosen.map((step) => done.get(step)!);
}

function summary(done: readonly Done[]): string {
  const rows = done.map(({ step, outcome, counts }) => {
    const tests =
      step.count === undefined ? '' : `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
    const seconds = `${outcome.seconds.toFixed(1)} s`.padStart(9);
    return `${outcome.ok ? 'ok    ' : 'FAILED'} ${step.stage.padEnd(12)}${step.name.padEnd(28)}${seconds}  ${tests}`.trimEnd();
  });
  return `\n${rows.join('\n')}\n`;
}

const selected = selectedStages();
const done = await runAll(selected);
const total = done.map(({ counts }) => counts).reduce(add, NO_TESTS);
const broken = done.filter(({ outcome, counts }) => !outcome.ok || counts.failed > 0);
process.stdout.write(summary(done));
if (broken.length > 0) process.stdout.write(`\nverify: ${broken.map(({ step }) => step.name).join(', ')} failed\n`);
if (done.some(({ step }) => step.count !== undefined)) {
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  process.stdout.write(`\n${total.passed} passed, ${total.failed} failed${skipped}\n`);
}
const testsAsked = selected.includes('unit') || selected.includes('integration');
process.exitCode = broken.length > 0 || (testsAsked && total.passed === 0) ? 1 : 0;
