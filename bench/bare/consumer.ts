/** The orchestrator of the bare path: takes a job from the queue, hands its bytes to the gang, writes what comes back. path.ts starts it. */
import { Client, credentials } from '@grpc/grpc-js';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { PUBLISH, QUEUE, type BareJob } from './names.js';

const [redisAt, gang] = process.argv.slice(2) as [string, string];
const asIs = (bytes: Buffer): Buffer => bytes;
const client = new Client(gang, credentials.createInsecure());
const stream = client.makeBidiStreamRequest('/bare.Gang/Run', asIs, asIs);
const waiting: ((answer: Buffer) => void)[] = [];
stream.on('data', (answer: Buffer) => waiting.shift()?.(answer));
const results = new Redis(redisAt);

const worker = new Worker<BareJob>(
  QUEUE,
  async ({ data }) => {
    const answer = await new Promise<Buffer>((resolve) => {
      waiting.push(resolve);
      stream.write(Buffer.from(data.body));
    });
    await results.eval(PUBLISH, 2, `bare:job:${data.id}`, `bare:events:${data.id}`, answer.toString());
  },
  { connection: new Redis(redisAt, { maxRetriesPerRequest: null }) },
);
await worker.waitUntilReady();
process.stdout.write('ready\n');
process.stdin.resume().on('end', () => process.exit(0));
