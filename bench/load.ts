/**
 * Jobs that do nothing, through SDK, Redis and one orchestrator to ranks that answer at once: what the queue itself costs,
 * and whether its memory grows. Ranks are played by the fake cluster of the orchestrator's tests, in this process.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Patchbay } from '@patchbay/sdk';
import { FakeCluster } from '../packages/orchestrator/test/support/fake-cluster.js';
import { startRedis } from '../tests/support/redis.js';
import { quantiles } from './quantiles.js';

const MAIN = fileURLToPath(new URL('../packages/orchestrator/dist/main.js', import.meta.url));
const MODEL = 'nothing';
const REPLICAS = 64;

const residentMb = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);

async function startOne(env: NodeJS.ProcessEnv): Promise<{ child: ChildProcess; http: string }> {
  const child = spawn(process.execPath, ['--max-semi-space-size=32', MAIN], {
    env: { ...process.env, PATCHBAY_HTTP_PORT: '0', PATCHBAY_LOG_LEVEL: 'warn', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  return { child, http: (JSON.parse(line) as { http: string }).http };
}

async function stream(pb: Patchbay, submitters: number, jobs: number): Promise<{ ms: number[]; seconds: number }> {
  const ms: number[] = [];
  let left = jobs;
  const one = async (name: string): Promise<void> => {
    while (left-- > 0) {
      const start = performance.now();
      const spec = { model: MODEL, labels: { submitter: name }, runs: [{ inputs: { tokenIds: [[1]] } }] };
      await (await pb.jobs.submit(spec)).result();
      ms.push(performance.now() - start);
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: submitters }, (_, index) => one(`s${index}`)));
  return { ms, seconds: (performance.now() - start) / 1000 };
}

export async function benchLoad(jobs: number): Promise<void> {
  const redis = await startRedis();
  const home = mkdtempSync(join(tmpdir(), 'pb-load-'));
  const cluster = new FakeCluster();
  await cluster.listen();
  const { child, http } = await startOne({
    PATCHBAY_REDIS_URL: redis.url,
    PATCHBAY_HOME: home,
    PATCHBAY_GATEWAY: cluster.address,
  });
  try {
    await using pb = new Patchbay({ redisUrl: redis.url, httpUrl: http });
    await pb.models.deploy({ name: MODEL, model: '/nothing', replicas: REPLICAS });
    await stream(pb, 8, 500);
    process.stdout.write('submitters     jobs   jobs/s     p50     p95     p99 ms   orchestrator MB before, after\n');
    for (const submitters of [1, 8, 64]) {
      const count = submitters === 1 ? Math.ceil(jobs / 10) : jobs;
      const before = residentMb(child.pid!);
      const { ms, seconds } = await stream(pb, submitters, count);
      cluster.starts.length = 0;
      const rate = (count / seconds).toFixed(0).padStart(9);
      const memory = `${before}, ${residentMb(child.pid!)}`;
      process.stdout.write(
        `${String(submitters).padStart(10)}${String(count).padStart(9)}${rate}${quantiles(ms)}      ${memory}\n`,
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
