/** Traces: what a collector gets of a job, and that nothing is asked of anybody where none is configured. */
import assert from 'node:assert/strict';
import {
  attributeOf,
  outsideOf,
  pathsOf,
  startReceiver,
  type Receiver,
  type ReceivedSpan,
} from '../../../../tests/support/otlp-receiver.js';
import { held, type FakeJob } from '../support/fake-cluster.js';
import { Rig } from '../support/rig.js';

const PARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
/** A gang whose clock counts more than there was. */
const GANG = {
  name: 'gang',
  startMs: 0,
  endMs: 60_000,
  children: [
    {
      name: 'rank 0',
      startMs: 0.5,
      endMs: 59_999,
      children: [{ name: 'hook svd', startMs: 1, endMs: 2, attributes: { module: 'lm_head', calls: 1 } }],
    },
  ],
};

describe('traces', () => {
  let rig: Rig;
  let receiver: Receiver;
  beforeEach(async () => {
    receiver = await startReceiver();
  });
  afterEach(() => receiver.close());

  /** Runs `work` on an orchestrator that is given the receiver, and returns what has arrived when it is closed. */
  async function traced(work: () => Promise<void>): Promise<ReceivedSpan[]> {
    process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = receiver.url;
    try {
      rig = await Rig.start();
    } finally {
      delete process.env['OTEL_EXPORTER_OTLP_ENDPOINT'];
    }
    try {
      await rig.deploy('m');
      await work();
    } finally {
      await rig.close();
    }
    return receiver.spans;
  }

  const submit = async (traceparent: string): Promise<string> => {
    const document = { version: 1, model: 'm', runs: [{ inputs: { tokenIds: [[1]] } }] };
    const headers = { traceparent, 'content-type': 'application/json' };
    const response = await rig.fetch('/api/jobs', { method: 'POST', body: JSON.stringify(document), headers });
    assert.equal(response.status, 201);
    return ((await response.json()) as { jobId: string }).jobId;
  };

  const complete = (job: FakeJob): void => {
    job.running();
    job.spans(GANG);
    job.done();
  };

  it('are one tree per job, from the submitter to the hooks of a rank, each span within the one around it', async () => {
    let id = '';
    const spans = await traced(async () => {
      rig.cluster.script.start = complete;
      id = await submit(PARENT);
      await rig.until(id, 'completed');
    });
    assert.deepEqual(pathsOf(spans), [
      'job',
      'job > attempt',
      'job > attempt > gang',
      'job > attempt > gang > rank 0',
      'job > attempt > gang > rank 0 > hook svd',
      'job > attempt > place',
      'job > queue',
    ]);
    assert.deepEqual(outsideOf(spans), []);
    assert.deepEqual([...new Set(spans.map(({ traceId }) => traceId))], [PARENT.slice(3, 35)]);
    assert.equal(spans.find(({ name }) => name === 'job')!.parentSpanId, PARENT.slice(36, 52));
    assert.ok(spans.every((span) => attributeOf(span, 'patchbay.job.id') === id));
    assert.equal(
      attributeOf(
        spans.find(({ name }) => name === 'hook svd')!,
        'patchbay.module',
      ),
      'lm_head',
    );
    const attempt = spans.find(({ name }) => name === 'attempt')!;
    assert.ok(rig.cluster.starts[0]!.traceparent.includes(attempt.spanId), 'the gang is told what it is part of');
  });

  it('have every attempt of a job, and why it did not end well', async () => {
    const spans = await traced(async () => {
      const next = held(rig.cluster);
      const id = await rig.submit('m');
      (await next()).failed({ code: 'PB_GANG_LOST', retryable: true });
      (await next()).failed({ code: 'PB_EDIT_FAILED' });
      await rig.until(id, 'failed');
    });
    assert.deepEqual(pathsOf(spans).filter((path) => !/place|queue/.test(path)), ['job', 'job > attempt', 'job > attempt']); // prettier-ignore
    assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1, 'of a submitter who has no trace, too');
    const attempts = spans.filter(({ name }) => name === 'attempt');
    assert.deepEqual(
      attempts.map((span) => [attributeOf(span, 'patchbay.attempt'), span.status.message]),
      [
        [1, 'PB_GANG_LOST'],
        [2, 'PB_EDIT_FAILED'],
      ],
    );
    assert.deepEqual(outsideOf(spans), []);
  });

  it('are not made of a job whose submitter is in a trace that is not recorded', async () => {
    const spans = await traced(async () => {
      await rig.until(await submit(PARENT.replace(/01$/, '00')), 'completed');
      await rig.until(await submit('00-not-a-trace'), 'completed');
    });
    assert.equal(spans.filter(({ name }) => name === 'job').length, 1, 'one with a broken header is its own');
    assert.deepEqual(
      rig.cluster.starts.map(({ traceparent }) => traceparent !== ''),
      [false, true],
    );
  });

  it('are off unless a collector is named', async () => {
    rig = await Rig.start();
    try {
      await rig.deploy('m');
      await rig.until(await submit(PARENT), 'completed');
      assert.equal(rig.cluster.starts[0]!.traceparent, '');
    } finally {
      await rig.close();
    }
    assert.deepEqual(receiver.spans, []);
  });
});
