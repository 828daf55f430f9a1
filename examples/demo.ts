/** `npm run demo`: starts a local stack with a small trained model on two ranks and does the main job three times. */
import { mkdir, writeFile } from 'node:fs/promises';
import { heatmap, toSvg, toTerminal } from '@patchbay/charts';
import { startStack } from '@patchbay/cli/stack';
import { Patchbay, type JobResult } from '@patchbay/sdk';
import { editShardedModule } from './01-edit.js';
import { flipAnswer } from './02-patch.js';
import { causalTrace } from './03-causal-trace.js';

const OUT = 'out/demo';
const MODEL = 'tiny-facts';
const LAYERS = 4;

const say = (text = ''): void => void process.stdout.write(`${text}\n`);
const answer = (result: JobResult, run: string): string => result.runs[run]!.topK![0]![0]!.token;

function report(name: string, result: JobResult): Record<string, unknown> {
  const { timings, hooks, fingerprint } = result.json;
  const summary = {
    timings,
    hooks: hooks.length,
    routes: [...new Set(hooks.map((hook) => hook.route))],
    gatheredBytes: hooks.reduce((sum, hook) => sum + hook.gatheredBytes, 0),
    edits: hooks.reduce((sum, hook) => sum + hook.calls, 0),
    sandboxLevel: fingerprint?.sandboxLevel,
  };
  say(
    `   ${name}: ${timings['totalMs']?.toFixed(0)} ms, ${summary.edits} hook calls by ${summary.routes.join(' + ')}, ${summary.gatheredBytes} bytes gathered`,
  );
  return summary;
}

const started = Date.now();
const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());

await mkdir(OUT, { recursive: true });
say(`Starting Redis, Ray, gateway, orchestrator and ${MODEL} on two ranks ...`);
await using stack = await startStack({
  model: MODEL,
  tp: 2,
  signal: interrupt.signal,
  onProgress: (text) => void process.stderr.write(`   ${text}\n`),
});
interrupt.signal.addEventListener('abort', () => void stack.stop().finally(() => process.exit(130)));
const ready = Date.now();
await using pb = new Patchbay({ redisUrl: stack.info.redisUrl, httpUrl: stack.info.http, token: stack.info.token });

say('\n(a) An editing function on a sharded module: it runs once and sees all 512 columns.');
const edited = await editShardedModule(pb, MODEL);
const first = Date.now();
const singular = edited.saveCtx.tensor('activation_singular_values');
say(
  `   singular values ${JSON.stringify(singular.shape)}: ${[...singular.toFloat32()].map((value) => value.toFixed(2)).join(' ')}`,
);
say(`   "The capital of France is" ->${answer(edited, 'clean')}; edited ->${answer(edited, 'edited')}`);
const jobs: Record<string, unknown> = { edit: report('job', edited) };

say('\n(b) The residual stream of one run, put into another.');
const patched = await flipAnswer(pb, MODEL);
say(
  `   "The capital of Italy is" ->${answer(patched, 'italy')}; with the residual of France ->${answer(patched, 'patched')}`,
);
jobs['patch'] = report('job', patched);

say('\n(c) Causal tracing: which layer and position carry the answer?');
const { result, map } = await causalTrace(pb, MODEL, LAYERS);
say(toTerminal(map, process.stdout.isTTY));
await writeFile(`${OUT}/causal-trace.svg`, toSvg(heatmap(map)));
jobs['trace'] = report('job', result);

const summary = {
  stackReadySeconds: (ready - started) / 1000,
  firstResultSeconds: (first - started) / 1000,
  totalSeconds: (Date.now() - started) / 1000,
  answers: { italy: answer(patched, 'italy'), patched: answer(patched, 'patched') },
  jobs,
  causalTrace: map.values,
  fingerprint: result.json.fingerprint,
};
await writeFile(`${OUT}/summary.json`, `${JSON.stringify(summary, null, 2)}\n`);
say(
  `\nStack ready after ${summary.stackReadySeconds.toFixed(1)} s, all done after ${summary.totalSeconds.toFixed(1)} s.`,
);
say(`Sandbox level: ${result.json.fingerprint?.sandboxLevel} (trusted = edits run with the worker's rights).`);
say(`Written: ${OUT}/summary.json, ${OUT}/causal-trace.svg`);
if (summary.answers.italy === summary.answers.patched) throw new Error('the patch did not flip the answer');
