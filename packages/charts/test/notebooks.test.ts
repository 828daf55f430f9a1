/** Pictures in notebooks: a real tslab kernel shows them; Deno's is played in tests/docs. Both read the same bundle. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { display, heatmap } from '@patchbay/charts';
import { Kernel } from './jupyter.js';

const ROOT = join(import.meta.dirname, '../../..');
const HEATMAP = "heatmap({ title: 'x', rows: ['a'], columns: ['b'], values: [[0.5]] })";
const CELL = `
import * as tslab from 'tslab';
import { display, heatmap } from '@patchbay/charts';
const picture = display(${HEATMAP});
tslab.display.svg(picture.svg);
for (const [type, content] of Object.entries(picture.bundle)) tslab.display.raw(type, content);`;

describe('pictures in notebooks', function () {
  this.timeout(120_000);
  let folder: string;
  let kernel: Kernel;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'pb-tslab-'));
    kernel = await Kernel.start(ROOT, folder);
  });
  after(async () => {
    await kernel?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('are shown by tslab, which knows the types of the packages', async () => {
    const { displays, stderr } = await kernel.run(CELL);
    const { svg, bundle } = display(heatmap({ title: 'x', rows: ['a'], columns: ['b'], values: [[0.5]] }));
    assert.equal(stderr, '');
    assert.deepEqual(displays, [
      { 'image/svg+xml': svg },
      { 'image/svg+xml': bundle['image/svg+xml'] },
      { 'text/plain': bundle['text/plain'] },
    ]);
    const wrong = await kernel.run('picture.nothing');
    assert.match(wrong.stderr, /'nothing' does not exist on type 'Displayable'/);
  });
});
