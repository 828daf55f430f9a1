/** The pictures that the dashboard makes of real results, value by value: attention, logit lens, causal trace, cuts, files. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { causalTrace } from '../../examples/03-causal-trace.js';
import { logitLens } from '../../examples/05-logit-lens.js';
import { attentionHooks } from '../../examples/11-attention.js';
import { dashboardPage, type DashboardPage } from './support/dashboard-page.js';
import { connect, deploymentOf } from '../support/stack.js';

const MODEL = deploymentOf(2);

describe('pictures of the dashboard', function () {
  this.timeout(60_000);
  const opened = dashboardPage();
  let dashboard: DashboardPage;
  let page: Page;
  before(() => {
    dashboard = opened.current;
    page = dashboard.page;
  });

  it('shows attention by head with its tokens, cut out by dragging, and takes away what is shown', async () => {
    await using client = connect();
    const hooks = attentionHooks({ layer: 2, heads: 8, keyHeads: 4 });
    const inputs = { text: ['The capital of France is'] };
    const job = await client.jobs.submit({ model: MODEL, runs: [{ name: 'clean', inputs, hooks }] });
    const tensor = (await job.result()).saveCtx.tensor('attention.layer-2');
    await dashboard.open(`/jobs/${job.id}`, 'head 7');
    await page.getByRole('button', { name: 'head 3' }).click();
    const map = page.getByRole('img', { name: /layer-2, head 3: heat map of 5 by 5/ });
    await map.waitFor();
    await dashboard.check('attention');
    const shown = (await map.locator('title').allTextContents()).map((text) => text.split(': '));
    const expected = Array.from({ length: 5 }, (_, row) => [...tensor.slice(3, row).toFloat32()]).flat();
    assert.deepEqual(shown.map(([, value]) => Number(value)), expected); // prettier-ignore
    assert.equal(shown[24]![0], '4 ·is, 4 ·is');

    const cells = map.locator('g > rect');
    const [from, to] = [(await cells.nth(5 * 2 + 1).boundingBox())!, (await cells.nth(5 * 3 + 3).boundingBox())!];
    await page.mouse.move(from.x + 3, from.y + 3);
    await page.mouse.down();
    await page.mouse.move(to.x + 8, to.y + 8, { steps: 3 });
    await page.mouse.up();
    const part = page.getByRole('img', { name: /heat map of 2 by 3/ });
    await part.waitFor();
    const cut = [2, 3].flatMap((row) => expected.slice(5 * row + 1, 5 * row + 4));
    assert.deepEqual((await part.locator('title').allTextContents()).map((text) => Number(text.split(': ')[1])), cut); // prettier-ignore
    const figure = page.locator('figure').filter({ has: part });
    const files = new Map<string, string>();
    for (const kind of ['SVG', 'CSV', 'PNG']) {
      const [download] = await Promise.all([
        page.waitForEvent('download'),
        figure.getByRole('button', { name: kind }).click(),
      ]);
      files.set(kind, readFileSync(await download.path(), 'latin1'));
    }
    assert.match(files.get('SVG')!, /^<svg /);
    assert.match(files.get('PNG')!, /^.PNG/);
    const rows = files.get('CSV')!.trim().split(/\r?\n/).map((line) => line.split(',')); // prettier-ignore
    assert.deepEqual(rows.slice(1).flatMap((row) => row.slice(1).map(Number)), cut); // prettier-ignore
    await page.getByRole('button', { name: 'Zoom out' }).click();
    await map.waitFor();
  });

  it('shows a logit lens as a grid of tokens, a causal trace as a heat map', async () => {
    await using client = connect();
    const newest = async (): Promise<string> => (await client.jobs.list({ limit: 1 })).jobs[0]!.id;
    const lens = await logitLens(client, MODEL, 4);
    await dashboard.open(`/jobs/${await newest()}`, 'Top token, layer by text');
    const grid = page.getByRole('img', { name: /grid of 4 by 5 tokens/ });
    const shown = (await grid.locator('title').allTextContents()).map((text) => text.split(' ')[0]);
    assert.deepEqual(shown, lens.cells.flat().map(({ token }) => token.replace(' ', '·'))); // prettier-ignore
    assert.equal(await page.getByRole('img', { name: /^layer-/ }).count(), 0, 'its runs are not drawn again');

    const { map } = await causalTrace(client, MODEL, 4);
    await page.goto(`${dashboard.http}/jobs/${await newest()}`);
    const picture = page.getByRole('img', { name: /layer by position: .*heat map of 4 by 5/ });
    await picture.waitFor();
    const values = (await picture.locator('title').allTextContents()).map((text) => Number(text.split(': ').at(-1)));
    const expected = map.values.flat();
    assert.equal(values.length, expected.length);
    for (const [at, value] of values.entries()) assert.ok(Math.abs(value - expected[at]!) < 1e-3, `${at}: ${value}`);
  });
});
