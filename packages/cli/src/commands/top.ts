/** `patchbay top`: queues and ranks, again and again, until Ctrl-C; one NDJSON line per look with `--json`. @module */
import type { Deployment, JobStatus } from '@patchbay/protocol';
import type { Patchbay } from '@patchbay/sdk';
import { openClient } from '../client.js';
import { count, defineCommand, flag } from '../define-command.js';
import { age, table } from '../output.js';
import { pause } from '../processes/wait.js';

interface Look {
  readonly at: number;
  readonly models: readonly {
    name: string;
    status: string;
    waiting: number;
    running: number;
    ranks: readonly Rank[];
  }[];
  readonly jobs: readonly JobStatus[];
}
interface Rank {
  readonly replica: number;
  readonly rank: number;
  readonly node: string;
  readonly pid: number;
  readonly state: string;
}

const LATEST = 10;
/** Cursor home, clear to the end. */
const REDRAW = '\u001b[H\u001b[J';

const ranksOf = ({ replicas }: Deployment): Rank[] =>
  replicas.flatMap(({ index, state, ranks }) => ranks.map((rank) => ({ replica: index, ...rank, state })));

async function look(client: Patchbay, signal: AbortSignal): Promise<Look> {
  const [deployments, queued, running, latest] = await Promise.all([
    client.models.list({ signal }),
    client.jobs.list({ state: 'queued', limit: 200, signal }),
    client.jobs.list({ state: 'running', limit: 200, signal }),
    client.jobs.list({ limit: LATEST, signal }),
  ]);
  const of = (jobs: readonly JobStatus[], name: string): number => jobs.filter(({ model }) => model === name).length;
  const models = deployments.map((one) => ({
    name: one.spec.name,
    status: one.status,
    waiting: of(queued.jobs, one.spec.name),
    running: of(running.jobs, one.spec.name),
    ranks: ranksOf(one),
  }));
  return { at: Date.now(), models, jobs: latest.jobs };
}

function draw({ at, models, jobs }: Look): string {
  const queues = table(
    ['MODEL', 'STATUS', 'WAITING', 'RUNNING', 'RANKS'],
    models.map(({ name, status, waiting, running, ranks }) => [
      name,
      status,
      String(waiting),
      String(running),
      String(ranks.length),
    ]),
  );
  const ranks = table(
    ['RANK', 'MODEL', 'REPLICA', 'STATE', 'NODE', 'PID'],
    models.flatMap(({ name, ranks: all }) =>
      all.map(({ rank, replica, state, node, pid }) => [
        String(rank),
        name,
        String(replica),
        state,
        node.slice(0, 16),
        String(pid),
      ]),
    ),
  );
  const latest = table(
    ['JOB', 'STATE', 'MODEL', 'AGE'],
    jobs.map((job) => [job.id, job.state, job.model, age(job.createdAt, at)]),
  );
  return [`patchbay top  ${new Date(at).toLocaleTimeString()}  (Ctrl-C ends it)`, queues, ranks, latest].join('\n\n');
}

export const top = defineCommand({
  name: 'top',
  summary: 'Watch queues, ranks and the latest jobs',
  args: {
    once: flag('look once and end'),
    interval: count('seconds between two looks; default 2', { value: 'seconds' }),
  },
  examples: ['patchbay top', 'patchbay top --once --json'],
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    const live = process.stdout.isTTY && !out.json && !args.once;
    for (;;) {
      const seen = await look(client, signal);
      out.data(seen, () => (live ? REDRAW : '') + draw(seen));
      if (args.once) return undefined;
      await pause((args.interval ?? 2) * 1000, signal);
      if (signal.aborted) return undefined;
    }
  },
});
