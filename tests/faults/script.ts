/**
 * A user's script, as a process that a fault can hit: submits a job, follows its events, waits for the result, and prints what
 * it has seen as one line of JSON. Its argument is the JSON of a `ScriptOrder`.
 */
import { Patchbay } from '@patchbay/sdk';
import { specOf, type Kind } from './specs.js';

export interface ScriptOrder {
  readonly redisUrl: string;
  readonly httpUrl: string;
  readonly token: string;
  readonly jobId: string;
  readonly kind: Kind;
  readonly model: string;
}

/** What the script prints. */
export interface Seen {
  readonly cursors: readonly string[];
  readonly state: string;
}

const { jobId, kind, model, ...client } = JSON.parse(process.argv[2]!) as ScriptOrder;
await using pb = new Patchbay(client);
const job = await pb.jobs.submit(specOf(kind, model), { jobId });
const cursors: string[] = [];
for await (const { cursor } of job.events()) cursors.push(cursor);
const { json } = await job.result();
process.stdout.write(`${JSON.stringify({ cursors, state: json.state } satisfies Seen)}\n`);
