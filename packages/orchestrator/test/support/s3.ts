/** An S3 of a test's own (moto), with one bucket; what AWS's tools read from the environment names it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CreateBucketCommand, ListMultipartUploadsCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';

const PYTHON = join(import.meta.dirname, '../../../../.venv/bin/python');
const SCRIPT = `
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
print("%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()`;

const BUCKET = 'results';

export interface TestS3 {
  readonly location: string;
  /** Keys in the bucket, and uploads that have begun. */
  contents(): Promise<{ keys: string[]; begun: number }>;
  close(): Promise<void>;
}

export async function startS3(): Promise<TestS3> {
  const server = spawn(PYTHON, ['-c', SCRIPT], { stdio: ['pipe', 'pipe', 'ignore'] });
  const [address] = (await once(createInterface(server.stdout), 'line')) as [string];
  const environment = {
    AWS_ENDPOINT_URL_S3: `http://${address.replace('0.0.0.0', '127.0.0.1')}`,
    AWS_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
  };
  Object.assign(process.env, environment);
  const client = new S3Client({ forcePathStyle: true });
  await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
  return {
    location: `s3://${BUCKET}/artifacts`,
    contents: async () => {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: BUCKET }));
      return { keys: Contents.map(({ Key }) => Key!), begun: Uploads.length };
    },
    close: async () => {
      client.destroy();
      for (const name of Object.keys(environment)) delete process.env[name];
      const ended = once(server, 'exit');
      server.kill();
      await ended;
    },
  };
}
