/** What is special about a store in a directory: several orchestrators may start while others write. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { LocalStore } from '../../src/artifacts/local-store.js';

const content = Buffer.alloc(200_000, 'patchbay');
const sha256 = createHash('sha256').update(content).digest('hex');

describe('artifacts in a directory that is shared', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pb-store-'));
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('that another orchestrator is just taking in are left alone by one that starts; what it left long ago is not', async () => {
    const incoming = join(directory, 'incoming');
    const [one, other] = [new LocalStore(directory, 1_000_000), new LocalStore(directory, 1_000_000)];
    await one.prepare();
    writeFileSync(join(incoming, 'abandoned'), 'half');
    utimesSync(join(incoming, 'abandoned'), new Date(0), new Date(0));
    const upload = new PassThrough();
    const stored = one.put(sha256, upload);
    upload.write(content.subarray(0, 1000));
    while (readdirSync(incoming).length < 2) await new Promise(setImmediate);
    await other.prepare();
    upload.end(content.subarray(1000));
    assert.deepEqual(await stored, { sha256, bytes: content.length });
    assert.deepEqual(await other.head(sha256), { sha256, bytes: content.length });
    assert.deepEqual(readdirSync(incoming), []);
  });
});
