/** `patchbay upload` into the artifact store of an orchestrator whose ranks are played. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Patchbay } from '@patchbay/sdk';
import { TOKEN } from '../../../orchestrator/test/support/rig.js';
import { played } from '../../../../tests/support/played-command.js';

describe('upload', function () {
  this.timeout(60_000);
  const on = played();

  it('stores a file under its digest, tells how far it is, and refuses what is no file', async () => {
    const content = Buffer.alloc(5_000_000, 'patchbay');
    const file = join(on.rig.home, 'steering.safetensors');
    writeFileSync(file, content);
    const { status, stdout, stderr } = await on.start('upload', file, '--json').ended;
    assert.equal(status, 0, stderr);
    const artifact = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    assert.deepEqual(JSON.parse(stdout), { artifact, bytes: content.byteLength });
    assert.match(stderr, /^steering\.safetensors 5\/5 MB$/m);
    const pb = new Patchbay({ httpUrl: on.rig.http, redisUrl: on.rig.redis.url, token: TOKEN });
    assert.ok(content.equals(await pb.artifacts.download(artifact)));
    assert.equal((await on.start('upload', join(on.rig.home, 'nowhere')).ended).status, 2);
  });
});
