/** The dashboard in a real browser, on real jobs: every page, accessibility, hostile strings, live steps, ten thousand jobs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { keys } from '@patchbay/protocol';
import type { JobSpec } from '@patchbay/sdk';
import { Redis } from 'ioredis';
import type { Locator, Page } from 'playwright-core';
import { dashboardPage, type DashboardPage } from './support/dashboard-page.js';
import { ROOT, TINY_FACTS, connect, sharedStack } from '../support/stack.js';

const MODEL = 'facts-tp2';
const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\u202e';

const python = (source: string): object => ({ kind: 'python', source });
const SIGNATURE = 'def edit(current_module, inputs, save_ctx, modules):';

const good: JobSpec = {
  model: MODEL,
  labels: { note: HOSTILE },
  hooks: [
    { name: 'resid', moduleName: 'model.layers.*', save: 'post' },
    {
      name: 'say',
      moduleName: 'model.layers.1',
      edit: python(
        `${SIGNATURE}\n    print(${JSON.stringify(HOSTILE)})\n    save_ctx.note = ${JSON.stringify(HOSTILE)}\n    return inputs`,
      ),
    },
  ] as never,
  runs: [
    { name: 'clean', inputs: { text: ['The capital of France is'] }, return: { topK: 5, logits: 'all' } },
    { name: 'story', mode: 'generate', maxNewTokens: 4, inputs: { text: ['The capital of Italy is'] } },
  ] as never,
};
const bad: JobSpec = {
  model: MODEL,
  hooks: [
    {
      name: 'bad',
      moduleName: 'model.layers.1',
      edit: python(`${SIGNATURE}\n    x = 1\n    raise ValueError(${JSON.stringify(HOSTILE)})`),
    },
  ] as never,
  runs: [{ inputs: { text: ['The capital of France is'] } }] as never,
};

describe('dashboard', function () {
  this.timeout(60_000);
  const opened = dashboardPage();
  let dashboard: DashboardPage;
  let page: Page;
  const jobs = { good: '', bad: '' };
  let [http, token, redisUrl] = ['', '', ''];

  before(async function () {
    this.timeout(60_000);
    ({ http, token, redisUrl } = sharedStack().info);
    await using client = connect();
    const [one, other] = [await client.jobs.submit(good), await client.jobs.submit(bad)];
    await one.result();
    await assert.rejects(other.result());
    Object.assign(jobs, { good: one.id, bad: other.id });
    dashboard = opened.current;
    page = dashboard.page;
  });

  const open = (path: string, text: string): Promise<void> => dashboard.open(path, text);
  const check = (name: string): Promise<void> => dashboard.check(name);

  it('asks for a token, refuses a wrong one, and keeps the right one out of the address', async () => {
    const stranger = await dashboard.browser.newContext();
    const other = await stranger.newPage();
    await other.goto(http);
    await other.getByLabel('Token').fill('wrong');
    await other.getByRole('button', { name: 'Sign in' }).click();
    await other.getByText('the token is missing or wrong').waitFor();
    await other.getByLabel('Token').fill(token);
    await other.getByRole('button', { name: 'Sign in' }).click();
    await other.getByRole('heading', { name: 'Queues' }).waitFor();
    assert.equal(new URL(page.url()).search, '');
    assert.equal(await other.evaluate('document.cookie'), '', 'scripts cannot read the session');
    await stranger.close();
  });

  it('shows queues and jobs, found by text', async () => {
    await open('/', jobs.bad);
    await check('queues');
    await page.getByLabel('Text').fill(jobs.bad.slice(0, 13));
    await page.getByText('1 job').waitFor();
    await page.getByRole('listbox').press('Enter');
    await page.waitForURL(`${http}/jobs/${jobs.bad}`);
  });

  it('shows a job: answers, tensors, hooks, and everything of it as text', async () => {
    await open(`/jobs/${jobs.good}`, 'clean/logits');
    for (const text of ['·Paris', 'Hook map', 'Time by phase']) await page.getByText(text).first().waitFor();
    await page.getByRole('log').getByText('<script>window.pwned=1</script>').waitFor();
    assert.match(await page.getByRole('log').innerText(), /\\u202e/, 'a sign that turns the text is shown as such');
    await page.getByRole('button', { name: 'clean/resid/model.layers.2/0' }).click();
    await page.getByRole('img', { name: /heat map of 5 by 128/ }).waitFor();
    await check('job');
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'PNG' }).first().click(),
    ]);
    assert.deepEqual([...readFileSync(await download.path()).subarray(1, 4)], [...Buffer.from('PNG')]);
  });

  it('marks the line of the source that failed', async () => {
    await open(`/jobs/${jobs.bad}`, 'Traceback');
    assert.match(await page.locator('.source .marked').innerText(), /raise ValueError/);
    await check('failed');
  });

  it('copies a document as code that runs as it stands', async function () {
    this.timeout(120_000);
    await open(`/jobs/${jobs.good}`, 'clean/logits');
    const folder = mkdtempSync(join(ROOT, 'tests/node_modules/.copied-'));
    const env = { ...process.env, PATCHBAY_REDIS_URL: redisUrl, PATCHBAY_HTTP_URL: http, PATCHBAY_TOKEN: token };
    const card = page.getByRole('region', { name: 'Document' });
    const ways = {
      TypeScript: ['job.mts', process.execPath, '--import', join(ROOT, 'node_modules/tsx/dist/loader.mjs')],
      curl: ['job.sh', 'sh'],
      Python: ['job.py', 'python3'],
    } as const;
    try {
      for (const [kind, [file, command, ...args]] of Object.entries(ways)) {
        await card.getByRole('button', { name: kind }).click();
        await card.getByRole('button', { name: kind, pressed: true }).waitFor();
        writeFileSync(join(folder, file), await card.locator('pre').innerText());
        const ran = spawnSync(command, [...args, file], { cwd: folder, env, encoding: 'utf8', timeout: 60_000 });
        assert.equal(ran.status, 0, `${kind}: ${ran.stderr}`);
        if (kind === 'TypeScript') assert.match(ran.stdout, / Paris/);
        else assert.match(ran.stdout, /["']jobId["']/, kind);
      }
      await using client = connect();
      const { jobs: [newest] } = await client.jobs.list({ limit: 1 }); // prettier-ignore
      const again = client.jobs.get(newest!.id);
      assert.equal((await again.result()).runs['clean']?.topK?.[0]?.[0]?.token, ' Paris');
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it('deploys a model from the cluster page, shows who holds what, drains and undeploys it', async function () {
    this.timeout(180_000);
    await open('/cluster', 'Deploy a model');
    const form = page.getByRole('region', { name: 'Deploy a model' });
    const ranksPerLayer = form.getByLabel('Ranks per layer (tp)');
    await form.getByLabel('Replicas').fill('0');
    await form.getByLabel('CPU slots per rank').fill('0');
    await form.getByRole('button', { name: 'Deploy' }).click();
    await form.getByRole('alert').first().waitFor();
    const refused = await form.locator('[aria-invalid]').all();
    const names = await Promise.all(refused.map((field) => field.getAttribute('name')));
    assert.deepEqual(names, ['model', 'replicas', 'cpusPerRank']);
    assert.match(await form.getByRole('alert').nth(1).innerText(), />=1.*PB_REQUEST_INVALID/s);
    assert.equal(await page.evaluate('document.activeElement.name'), 'model');
    await check('refused');
    await form.getByLabel('Replicas').fill('1');
    await form.getByLabel('Model').fill(TINY_FACTS);
    await form.getByLabel('Name').fill('by-hand');
    await ranksPerLayer.fill('2');
    await form.getByLabel('Ranks over the nodes').selectOption('spread');
    await form.getByLabel('CPU slots per rank').fill('0.5');
    // the page is drawn again with what the cluster says, and what was typed stays
    await page.waitForResponse('**/api/cluster');
    const drawn = 'new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))';
    await page.evaluate(drawn);
    assert.equal(await ranksPerLayer.inputValue(), '2');
    await form.getByRole('button', { name: 'Deploy' }).click();
    const card = page.getByLabel('Deployment by-hand');
    await card.locator('header .state-ready').waitFor({ timeout: 120_000 });
    const ranks = card.getByLabel('Ranks of by-hand').getByRole('row');
    const texts = await ranks.allInnerTexts();
    assert.equal(texts.length, 3);
    assert.match(texts[1]!, /all\s+all\s+1 of 2.*MiB.*MiB/s);
    assert.match(texts[2]!, /2 of 2/);
    await card.getByText('kinds of activation').click();
    const gate = card.getByRole('row').filter({ hasText: 'mlp.gate_proj' });
    assert.match(
      await gate.first().innerText(),
      /model\.layers\.\*\.mlp\.gate_proj\s+forward\s+\[B, S, 512\]\s+2\s+0 – 255\s+256 – 511/,
    );
    await card.getByText('spread, 0.5 CPU per rank').waitFor();
    await check('deployed');
    await drainAndResume(card, 'by-hand');
    await card.getByRole('button', { name: 'Undeploy' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Undeploy' }).click();
    await card.waitFor({ state: 'detached', timeout: 60_000 });
    await form.getByLabel('Model').fill('/nowhere/at/all');
    await form.getByRole('button', { name: 'Deploy' }).click();
    await form.getByRole('alert').waitFor({ timeout: 60_000 });
    assert.match(await form.getByRole('alert').innerText(), /PB_MODEL_LOAD_FAILED/);
    assert.equal(await form.getByLabel('Model').getAttribute('aria-invalid'), 'true');
  });

  /** On the card of a deployment: a job that comes meanwhile waits, and runs afterwards. */
  async function drainAndResume(card: Locator, model: string): Promise<void> {
    const confirm = async (action: string): Promise<void> => {
      await card.getByRole('button', { name: action, exact: true }).click();
      await page.getByRole('dialog').getByRole('button', { name: action, exact: true }).click();
    };
    await confirm('Drain');
    await card.getByRole('status').getByText('drained', { exact: true }).waitFor();
    await using client = connect();
    const job = await client.jobs.submit({ model, runs: [{ inputs: { text: ['The capital of France is'] } }] });
    await card.getByRole('status').getByText('drained, 1 waiting').waitFor();
    await check('drained');
    await confirm('Resume');
    await job.result();
    await card.getByRole('status').waitFor({ state: 'detached' });
    await card.getByText('0 running, 0 waiting').waitFor();
  }

  it('says what it cannot draw, such as the result of another version', async () => {
    const path = `/api/jobs/${jobs.good}/result`;
    await page.route(`**${path}`, (route) => route.fulfill({ json: { jobId: jobs.good, state: 'completed' } }));
    await page.goto(`${http}/jobs/${jobs.good}`);
    await page.getByRole('alert').getByText('this cannot be drawn').waitFor();
    await page.unroute(`**${path}`);
    // the answer was not the service's
    await dashboard.forget();
    await page.getByRole('button', { name: 'Try again' }).click();
    await page.getByText('clean/logits').first().waitFor();
  });

  it('fits a narrow window on every page', async () => {
    await page.setViewportSize({ width: 390, height: 800 });
    try {
      const pages = {
        '/': jobs.bad,
        '/cluster': 'Supervisor',
        [`/jobs/${jobs.good}`]: 'clean/logits',
        [`/jobs/${jobs.bad}`]: 'Traceback',
        [`/jobs/${jobs.good}/compare/${jobs.bad}`]: 'Documents',
      };
      for (const [path, text] of Object.entries(pages)) {
        await open(path, text);
        const over = await page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth');
        assert.equal(over, 0, `${path} is wider than the window`);
      }
    } finally {
      await page.setViewportSize({ width: 1360, height: 900 });
    }
  });

  it('is used without a mouse: to a job, a tensor, a part of it', async () => {
    await open('/', jobs.good);
    await page.getByRole('listbox').focus();
    for (let pressed = 0; new URL(page.url()).pathname === '/' && pressed < 2; pressed++) {
      await page.keyboard.press('Home');
      await page.keyboard.press('Enter');
      await page.waitForURL(/\/jobs\//).catch(() => undefined);
    }
    await open(`/jobs/${jobs.good}`, 'clean/logits');
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate('document.activeElement.textContent'), 'Skip to content');
    await page.getByRole('button', { name: 'clean/resid/model.layers.2/0' }).focus();
    await page.keyboard.press('Enter');
    await page.getByLabel('Columns shown').focus();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('16');
    await page.getByRole('img', { name: /heat map of 5 by 16/ }).waitFor();
  });

  it('compares two jobs, shows the cluster and the raw queues', async () => {
    await open(`/jobs/${jobs.good}/compare/${jobs.bad}`, 'Documents');
    await check('compare');
    await open('/cluster', MODEL);
    await page.getByText('dim').or(page.getByText('Supervisor')).first().waitFor();
    await check('cluster');
    await page.goto(`${http}/queues`);
    await page.getByText(`jobs-${MODEL}`).first().waitFor();
    const fonts = dashboard.complaints.splice(0).filter((text) => !text.includes('fonts.googleapis.com'));
    assert.deepEqual(fonts, []);
  });

  it('follows a job live, cancels it by keyboard, and removes it', async () => {
    await page.goto(http);
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByLabel(`Queue of ${MODEL}`).getByRole('button', { name: 'Drain' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).press('Enter');
    await page.getByText('drained', { exact: true }).waitFor();
    await using client = connect();
    const job = await client.jobs.submit(good);
    await page.getByText(job.id).waitFor();
    await open(`/jobs/${job.id}`, 'Next in the queue.');
    await page.getByRole('button', { name: 'Cancel', exact: true }).press('Enter');
    await page.getByRole('button', { name: 'Cancel the job' }).press('Enter');
    await page.locator('.state-cancelled').first().waitFor();
    await page.getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await page.getByRole('heading', { name: 'Queues' }).waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Resume' }).click();
    await page.getByText(/^drain(ed|ing)/).waitFor({ state: 'detached' });
  });

  it('keeps few rows of ten thousand jobs, and reaches the last', async function () {
    this.timeout(150_000);
    const redis = new Redis(redisUrl.startsWith('unix://') ? { path: redisUrl.slice(7) } : (redisUrl as never));
    const ids = Array.from({ length: 10_000 }, (_, index) => `bulk-${String(index).padStart(5, '0')}`);
    try {
      for (let from = 0; from < ids.length; from += 1_000) {
        const pipeline = redis.pipeline();
        ids.slice(from, from + 1_000).forEach((id, offset) => {
          const at = 1_000 + from + offset;
          const fields = {
            model: 'bulk',
            state: 'completed',
            attempt: 1,
            labels: '{}',
            createdAt: at,
            updatedAt: at + 5,
          };
          pipeline.hset(keys.job(id), fields).zadd(keys.jobs, at, id);
        });
        await pipeline.exec();
      }
      await page.goto(`${http}/?model=bulk`);
      await page.getByText('bulk-09999').waitFor();
      const list = page.getByRole('listbox');
      const rows = (): Promise<number> => page.getByRole('option').count();
      assert.ok((await rows()) < 60);
      // a key that comes before the list has grown finds the old end, so it is pressed until the list is whole
      const whole = page.getByText(/^10,?000 jobs$/);
      for (const end = Date.now() + 60_000; Date.now() < end && !(await whole.isVisible());) {
        await list.press('End');
        await page.evaluate('new Promise((resolve) => requestAnimationFrame(resolve))');
      }
      await whole.waitFor();
      await list.press('End');
      await page.getByText('bulk-00000').waitFor();
      assert.ok((await rows()) < 60);
    } finally {
      await redis.del(...ids.map((id) => keys.job(id)));
      await redis.zrem(keys.jobs, ...ids);
      redis.disconnect();
    }
  });
});
