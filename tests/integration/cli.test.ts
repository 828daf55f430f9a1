/** The command line from `up` to `down`: what a shell user and an outside test see. */
import assert from 'node:assert/strict';
import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { stackInfo, type StackInfo } from '@patchbay/protocol';
import { Patchbay, readSafetensors, type JobSpec } from '@patchbay/sdk';
import {
  attributeOf,
  outsideOf,
  pathsOf,
  startReceiver,
  type Receiver,
  type ReceivedSpan,
} from '../support/otlp-receiver.js';
import { eventually, processesNaming } from '../support/processes.js';
import { ROOT } from '../support/stack.js';

const DOCUMENT: JobSpec = {
  version: 1,
  model: 'tiny-facts',
  hooks: [
    {
      name: 'svd',
      moduleName: 'model.layers.2.mlp.gate_proj',
      expectedShape: [null, null, 512],
      edit: {
        kind: 'python',
        source:
          "def edit(current_module, inputs, save_ctx, modules):\n    print('seen', tuple(inputs.shape))\n    save_ctx.total = inputs.sum()\n    return inputs * 2\n",
      },
    },
  ],
  runs: [{ name: 'clean', inputs: { text: ['The capital of France is'] }, return: { logits: 'last', topK: 3 } }],
};

describe('patchbay on the command line', () => {
  let home: string;
  let job: string;
  let info: StackInfo;
  let collector: Receiver;
  const patchbay = (...args: string[]): SpawnSyncReturns<string> =>
    spawnSync(process.execPath, [join(ROOT, 'packages/cli/bin/patchbay.js'), ...args], {
      cwd: ROOT,
      encoding: 'utf8',
      timeout: 120_000,
      env: {
        ...process.env,
        PATCHBAY_HOME: home,
        NO_COLOR: '1',
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_BSP_SCHEDULE_DELAY: '100',
      },
    });
  const json = (...args: string[]): unknown => {
    const { status, stdout, stderr } = patchbay(...args, '--json');
    assert.equal(status, 0, `${args.join(' ')}: ${stderr}${stdout}`);
    return JSON.parse(stdout);
  };

  before(async () => {
    collector = await startReceiver();
    home = mkdtempSync(join(tmpdir(), 'pb-cli-'));
    job = join(home, 'job.json');
    writeFileSync(job, JSON.stringify(DOCUMENT));
    info = stackInfo.parse(json('up', '--model', 'tiny-facts', '--tp', '2', '--detach'));
    assert.ok(info.processes.length >= 4, 'redis, ray, gateway and orchestrator are named');
  });
  after(async () => {
    patchbay('down');
    collector.close();
    const left = await eventually(
      () => processesNaming(home),
      (pids) => pids.length === 0,
      10_000,
    );
    rmSync(home, { recursive: true, force: true });
    assert.deepEqual(left, [], 'nothing of the stack is left');
  });

  it('runs a job and writes the files of the contract', () => {
    const out = join(home, 'out');
    const { status, stderr } = patchbay('run', job, '--out', out);
    assert.equal(status, 0, stderr);
    const result = JSON.parse(readFileSync(join(out, 'result.json'), 'utf8')) as {
      state: string;
      hooks: { calls: number; route: string }[];
    };
    assert.equal(result.state, 'completed');
    assert.deepEqual(
      result.hooks.map(({ calls, route }) => ({ calls, route })),
      [{ calls: 1, route: 'root' }],
    );
    assert.deepEqual(readdirSync(out).sort(), [
      'activations.safetensors',
      'logs.txt',
      'outputs.safetensors',
      'result.json',
      'save_ctx.safetensors',
    ]);
    assert.match(readFileSync(join(out, 'logs.txt'), 'utf8'), /seen \(1, 5, 512\)/);
    const activations = readSafetensors(readFileSync(join(out, 'activations.safetensors')));
    assert.deepEqual([...activations.get('clean/svd/model.layers.2.mlp.gate_proj/0')!.shape], [1, 5, 512]);
  });

  it('submits, lists, shows, follows and cancels', () => {
    const { jobId } = json('submit', job) as { jobId: string };
    const out = join(home, 'out-2');
    assert.equal(patchbay('result', jobId, '--out', out).status, 0);
    assert.ok(existsSync(join(out, 'result.json')));
    assert.match(patchbay('jobs').stdout, new RegExp(jobId));
    assert.equal((json('job', jobId) as { state: string }).state, 'completed');
    assert.match(patchbay('logs', jobId).stdout, /seen/);
    const events = patchbay('events', jobId, '--json').stdout.trim().split('\n');
    const parsed = events.map((line) => JSON.parse(line) as { type: string; state?: string });
    assert.deepEqual(
      parsed.flatMap((event) => (event.type === 'state' ? [event.state] : [])),
      ['queued', 'placing', 'running', 'completed'],
    );
    assert.equal((json('cancel', jobId) as { state: string }).state, 'completed', 'a finished job stays as it is');
  });

  it('traces a job from the script to the hook on each rank, in one tree', async () => {
    const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces` });
    const provider = new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] });
    trace.setGlobalTracerProvider(provider);
    let jobId: string;
    try {
      await using pb = new Patchbay({ redisUrl: info.redisUrl, httpUrl: info.http, token: info.token });
      const handle = await pb.jobs.submit(DOCUMENT);
      await handle.result();
      jobId = handle.id;
      await provider.shutdown();
    } finally {
      trace.disable();
    }
    const ofThis = (): ReceivedSpan[] =>
      collector.spans.filter((span) => attributeOf(span, 'patchbay.job.id') === jobId);
    const spans = await eventually(ofThis, (found) => found.some(({ name }) => name === 'job'), 10_000);
    const rank = (number: number): string[] =>
      ['', ' > forward', ' > forward > hook svd', ' > prepare', ' > write'].map(
        (below) => `submit > job > attempt > gang > rank ${number}${below}`,
      );
    assert.deepEqual(pathsOf(spans), [
      'submit',
      'submit > job',
      'submit > job > attempt',
      'submit > job > attempt > gang',
      ...rank(0),
      ...rank(1),
      'submit > job > attempt > place',
      'submit > job > queue',
    ]);
    assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
    assert.deepEqual(outsideOf(spans, ['submit']), [], 'but of the submission, which was over before the job was');
  });

  it('validates without running', () => {
    assert.equal(patchbay('validate', job).status, 0);
    const bad = join(home, 'bad.json');
    writeFileSync(bad, JSON.stringify({ ...DOCUMENT, hooks: [{ moduleName: 'model.layers.9' }] }));
    const { status, stdout } = patchbay('validate', bad, '--json');
    assert.equal(status, 1);
    assert.equal(
      (JSON.parse(stdout) as { error?: { code: string }; code?: string }).error?.code ??
        (JSON.parse(stdout) as { code: string }).code,
      'PB_HOOK_MODULE_NOT_FOUND',
    );
  });

  it('exits 2 on wrong usage and 1 on an unknown job', () => {
    assert.equal(patchbay('frobnicate').status, 2);
    assert.equal(patchbay('run').status, 2);
    assert.equal(patchbay('job', 'no-such-job').status, 1);
  });

  it('tells the sandbox level truthfully', () => {
    const models = JSON.stringify(json('models'));
    assert.match(models, /"sandboxLevel":"(isolated|confined|filtered)"/);
  });
});
