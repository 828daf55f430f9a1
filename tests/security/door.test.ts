/** Doors of a whole stack that are not HTTP: Ray and the gateway, asked by a stranger on the same host, and with their tokens. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sharedStack, stackHome } from '../support/stack.js';

const run = promisify(execFile);
const PYTHON = process.env['PATCHBAY_PYTHON'] ?? join(import.meta.dirname, '../../.venv/bin/python');

/** Calls a method with each token and prints the codes of the answers. */
const ASK = `
import json, sys, grpc
address, method, tokens = json.loads(sys.argv[1])
found = []
with grpc.insecure_channel(address) as channel:
    call = channel.unary_stream(method)
    for token in tokens:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        try:
            next(iter(call(b"", metadata=metadata, timeout=20)), None)
            found.append("OK")
        except grpc.RpcError as problem:
            found.append(problem.code().name)
print(json.dumps(found))
`;

async function answers(address: string, method: string, tokens: readonly string[]): Promise<string[]> {
  const { stdout } = await run(PYTHON, ['-c', ASK, JSON.stringify([address, method, tokens])]);
  return JSON.parse(stdout) as string[];
}

describe('doors of a stack', () => {
  it('Ray asks for its token', async () => {
    const token = readFileSync(join(stackHome(), 'run/ray-token'), 'utf8').trim();
    const { rayAddress } = sharedStack().info;
    const method = '/ray.rpc.NodeInfoGcsService/GetAllNodeInfo';
    assert.deepEqual(await answers(rayAddress, method, ['', 'wrong', 'a'.repeat(token.length), token]), [
      ...Array.from({ length: 3 }, () => 'UNAUTHENTICATED'),
      'OK',
    ]);
  });

  it('the gateway asks for its token', async () => {
    const { gateway, processes } = sharedStack().info;
    const { pid } = processes.find(({ name }) => name === 'gateway')!;
    const entry = readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .find((each) => /^PATCHBAY_GATEWAY_TOKEN=/.test(each));
    const token = entry!.slice(entry!.indexOf('=') + 1);
    assert.deepEqual(await answers(gateway, '/patchbay.v1.Gateway/Health', ['', 'wrong', `${token}x`, token]), [
      ...Array.from({ length: 3 }, () => 'UNAUTHENTICATED'),
      'OK',
    ]);
  });
});
