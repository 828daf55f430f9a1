/**
 * The bare path: script -> BullMQ -> gRPC -> a socket per rank -> forward, and back by Redis, with nothing of the product in between.
 * What it takes beyond the forward is what this machine asks of any such design, so it is what ours is a ratio to.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { QUEUE, type BareJob } from './names.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const JOB_BYTES = 1200;

export interface BarePath extends AsyncDisposable {
  /** One job from the call to the result, in milliseconds. */
  run(): Promise<{ readonly wallMs: number; readonly forwardMs: number }>;
}

/** A process that says one line when it is ready and ends with its standard input. */
async function start(
  command: readonly [string, ...string[]],
  env: NodeJS.ProcessEnv = {},
): Promise<[ChildProcess, string]> {
  const child = spawn(command[0], command.slice(1), {
    cwd: root,
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return [child, line];
}

export async function openBarePath(redisUrl: string, model: string, tp: number): Promise<BarePath> {
  const redisAt = redisUrl.replace('unix://', '');
  const python = process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python');
  const sources = ['packages/worker-py/src', 'packages/protocol/gen/py'].map((folder) => join(root, folder)).join(':');
  const [gang, port] = await start([python, 'bench/bare/gang.py', model, String(tp)], {
    PYTHONPATH: sources,
    OMP_NUM_THREADS: '1',
  });
  const consumer = [process.execPath, '--max-semi-space-size=32', '--import', 'tsx', 'bench/bare/consumer.ts'] as const;
  const [orchestrator] = await start([...consumer, redisAt, `127.0.0.1:${port}`]);
  const redis = new Redis(redisAt, { maxRetriesPerRequest: null });
  const events = new Redis(redisAt);
  const queue = new Queue<BareJob>(QUEUE, { connection: redis });
  const body = 'x'.repeat(JOB_BYTES);
  return {
    async run() {
      const id = randomUUID(); // Redis may keep those of an earlier start
      const started = performance.now();
      const told = events.xread('BLOCK', 60_000, 'STREAMS', `bare:events:${id}`, '0');
      void redis.hset(`bare:job:${id}`, { body });
      await queue.add('job', { id, body }, { removeOnComplete: true });
      const [, [[, fields]]] = (await told)![0] as unknown as [string, [[string, string[]]]];
      return { wallMs: performance.now() - started, forwardMs: Number(fields[1]) };
    },
    async [Symbol.asyncDispose]() {
      await queue.close();
      for (const connection of [redis, events]) connection.disconnect();
      for (const child of [orchestrator, gang]) child.stdin?.end();
      await Promise.all([orchestrator, gang].map((child) => once(child, 'exit')));
    },
  };
}
