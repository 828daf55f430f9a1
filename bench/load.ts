/**
 * Jobs that do nothing, through SDK, Redis and one orchestrator to ranks that answer at once: what the queue itself costs,
 * and whether its memory grows. Ranks are played by the fake cluster of the orchestrator's tests, in this process.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { keys } from '@patchbay/protocol';
import { Patchbay, type JobSpec } from '@patchbay/sdk';
import { Redis } from 'ioredis';
import { FakeCluster } from '../packages/orchestrator/test/support/fake-cluster.js';
import { startRedis } from '../tests/support/redis.js';
import { quantiles } from './quantiles.js';

const MAIN = fileURLToPath(new URL('../packages/orchestrator/dist/main.js', import.meta.url));
const MODEL = 'nothing';
const REPLICAS = 64;
const CLOCK_TICKS = 100;
const BACKLOG = 8000;
const BACKLOGS = 3;

const residentMb = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);

async function startOne(env: NodeJS.ProcessEnv, profile: string): Promise<{ child: ChildProcess; http: string }> {
  const flags = profile === '' ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`];
  const child = spawn(process.execPath, ['--max-semi-space-size=32', ...flags, MAIN], {
    env: { ...process.env, PATCHBAY_HTTP_PORT: '0', PATCHBAY_LOG_LEVEL: 'warn', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { child, http: (JSON.parse(line) as { http: string }).http };
}

const nothingOf = (submitter: string): JobSpec => ({
  model: MODEL,
  labels: { submitter },
  runs: [{ inputs: { tokenIds: [[1]] } }],
});

async function stream(pb: Patchbay, submitters: number, jobs: number): Promise<{ ms: number[]; seconds: number }> {
  const ms: number[] = [];
  let left = jobs;
  const one = async (name: string): Promise<void> => {
    while (left-- > 0) {
      const start = performance.now();
      await (await pb.jobs.submit(nothingOf(name))).result();
      ms.push(performance.now() - start);
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: submitters }, (_, index) => one(`s${index}`)));
  return { ms, seconds: (performance.now() - start) / 1000 };
}

/** Seconds until a queue is empty that nobody adds to and nobody waits for any more: what one orchestrator does by itself. */
async function drainBacklog(open: () => Patchbay, redis: Redis, jobs: number, onStart: () => void): Promise<number> {
  await using pb = open();
  await pb.models.drain(MODEL);
  {
    await using submits = open();
    let left = jobs;
    const one = async (name: string): Promise<void> => {
      while (left-- > 0) await submits.jobs.submit(nothingOf(name));
    };
    await Promise.all(Array.from({ length: 64 }, (_, index) => one(`s${index}`)));
  }
  onStart();
  const start = performance.now();
  await pb.models.drain(MODEL, { draining: false });
  while ((await redis.zcard(keys.open)) > 0) await sleep(10);
  const seconds = (performance.now() - start) / 1000;
  const { jobs: failed } = await pb.jobs.list({ state: 'failed', limit: 1 });
  assert.deepEqual(failed, []);
  return seconds;
}

/** CPU seconds of a process so far. */
function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number) as [number, number];
  return (user + system) / CLOCK_TICKS;
}

/** @param profile - a folder for the CPU profile of the orchestrator; none without */
export async function benchLoad(jobs: number, profile: string): Promise<void> {
  const redis = await startRedis();
  const home = mkdtempSync(join(tmpdir(), 'pb-load-'));
  const cluster = new FakeCluster();
  await cluster.listen();
  const { child, http } = await startOne({
    PATCHBAY_REDIS_URL: redis.url,
    PATCHBAY_HOME: home,
    PATCHBAY_GATEWAY: cluster.address,
  }, profile); // prettier-ignore
  try {
    const open = (): Patchbay => new Patchbay({ redisUrl: redis.url, httpUrl: http });
    await using pb = open();
    await pb.models.deploy({ name: MODEL, model: '/nothing', replicas: REPLICAS });
    await stream(pb, 8, 500);
    const parts = { orchestrator: child.pid!, redis: redis.pid, here: process.pid };
    const cpu = (busy: number[], count: number): string =>
      Object.values(parts)
        .map((pid, index) => (((cpuSeconds(pid) - busy[index]!) / count) * 1e6).toFixed(0))
        .join(', ');
    cluster.starts.length = 0;
    const commands = new Redis(redis.url.replace('unix://', ''));
    for (let round = 0; round < BACKLOGS; round++) {
      let busy: number[] = [];
      const seconds = await drainBacklog(open, commands, BACKLOG, () => (busy = Object.values(parts).map(cpuSeconds)));
      assert.equal(cluster.starts.splice(0).length, BACKLOG);
      process.stdout.write(
        `a backlog of ${BACKLOG} jobs: ${(BACKLOG / seconds).toFixed(0)} jobs/s; CPU us a job: ${cpu(busy, BACKLOG)}\n`,
      );
    }
    commands.disconnect();
    process.stdout.write(
      'submitters     jobs   jobs/s     p50     p95     p99 ms   CPU us a job: orchestrator, Redis, SDK with ranks   orchestrator MB before, after\n',
    );
    for (const submitters of [1, 8, 64]) {
      const count = submitters === 1 ? Math.ceil(jobs / 10) : jobs;
      const before = residentMb(child.pid!);
      const busy = Object.values(parts).map(cpuSeconds);
      const { ms, seconds } = await stream(pb, submitters, count);
      const us = cpu(busy, count);
      cluster.starts.length = 0;
      const rate = (count / seconds).toFixed(0).padStart(9);
      const memory = `${before}, ${residentMb(child.pid!)}`;
      process.stdout.write(
        `${String(submitters).padStart(10)}${String(count).padStart(9)}${rate}${quantiles(ms)}      ${us.padEnd(44)} ${memory}\n`,
      );
    }
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
    cluster.die();
    await redis.close();
    rmSync(home, { recursive: true, force: true });
  }
}
