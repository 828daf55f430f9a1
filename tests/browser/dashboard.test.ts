/** The dashboard in a real browser, on real jobs: every page, accessibility, hostile strings, live steps, ten thousand jobs. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { keys } from '@patchbay/protocol';
import type { JobSpec } from '@patchbay/sdk';
import { Redis } from 'ioredis';
import type { Browser, BrowserContext, Page, Response } from 'playwright-core';
import { complaintsOf, findChromium, launch } from '../support/browser.js';
import { checkAnswer, routeOf } from '../support/http-contract.js';
import { ROOT, connect, sharedStack } from '../support/stack.js';

const MODEL = 'facts-tp2';
const HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\u202e';
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SHOTS = join(ROOT, 'out/dashboard');

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

/** A stream has no end, and a page that is left no body any more. */
async function held(response: Response): Promise<void> {
  const [method, url, type] = [response.request().method(), response.url(), response.headers()['content-type'] ?? ''];
  if (routeOf(method, url) === undefined || type.startsWith('text/event-stream')) return;
  const text = await response.text().catch(() => undefined);
  if (text !== undefined) checkAnswer(method, url, response.status(), type, text);
}

describe('dashboard', function () {
  this.timeout(60_000);
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let complaints: string[];
  /** Every answer that the page got, held against the contract. */
  const answers: Promise<void>[] = [];
  const jobs = { good: '', bad: '' };
  let [http, token, redisUrl] = ['', '', ''];

  before(async function () {
    this.timeout(300_000);
    ({ http, token, redisUrl } = sharedStack().info);
    const path = findChromium();
    if (path === undefined) {
      process.stderr.write(
        '  no Chromium: apt-get install chromium, or set PATCHBAY_CHROMIUM; the dashboard is not tested\n',
      );
      this.skip();
    }
    mkdirSync(SHOTS, { recursive: true });
    await using client = connect();
    const [one, other] = [await client.jobs.submit(good), await client.jobs.submit(bad)];
    await one.result();
    await assert.rejects(other.result());
    Object.assign(jobs, { good: one.id, bad: other.id });
    browser = await launch(path);
    context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
    page = await context.newPage();
    complaints = complaintsOf(page);
    page.on('response', (response) => answers.push(held(response)));
    await page.goto(`${http}/?token=${token}`);
  });
  after(async () => browser?.close());

  afterEach(async () => {
    await Promise.all(answers.splice(0));
    assert.deepEqual(complaints?.splice(0) ?? [], []);
    assert.equal(await page?.evaluate('window.pwned'), undefined, 'a string of a job was run');
  });

  const open = async (path: string, text: string): Promise<void> => {
    await page.goto(http + path);
    await page.getByText(text).first().waitFor();
  };

  /** What is inside a picture is drawn by the chart package, whose tests hold its contrasts. */
  const rules = { light: ['wcag2a', 'wcag2aa', 'wcag21aa'], dark: ['color-contrast'] };

  async function check(name: string): Promise<void> {
    for (const scheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`), fullPage: true });
      const found = await page.evaluate<string[]>(
        `(async () => { ${AXE}; const { violations } = await axe.run({ include: [['body']], exclude: [['.chart svg g']] }, { runOnly: ${JSON.stringify(rules[scheme])} });
         return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + html.slice(0, 160) + ' ' + failureSummary)); })()`,
      );
      assert.deepEqual(found, [], `${name}, ${scheme}`);
    }
  }

  it('asks for a token, refuses a wrong one, and keeps the right one out of the address', async () => {
    const stranger = await browser.newContext();
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
    await page.getByText('1 jobs').waitFor();
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

  it('copies a document as code', async () => {
    await open(`/jobs/${jobs.good}`, 'clean/logits');
    await page.getByRole('button', { name: 'curl' }).click();
    await page.getByText('--data-binary').waitFor();
  });

  it('compares two jobs, shows the cluster and the raw queues', async () => {
    await open(`/jobs/${jobs.good}/compare/${jobs.bad}`, 'Documents');
    await check('compare');
    await open('/cluster', MODEL);
    await page.getByText('dim').or(page.getByText('Supervisor')).first().waitFor();
    await check('cluster');
    await page.goto(`${http}/queues`);
    await page.getByText(`jobs-${MODEL}`).first().waitFor();
    const fonts = complaints.splice(0).filter((text) => !text.includes('fonts.googleapis.com'));
    assert.deepEqual(fonts, []);
  });

  it('follows a job live, cancels it by keyboard, and removes it', async () => {
    await page.goto(http);
    await page.getByText('live', { exact: true }).waitFor();
    await page.getByLabel(`Queue of ${MODEL}`).getByRole('button', { name: 'Drain' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Drain' }).press('Enter');
    await page.getByText('draining').waitFor();
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
    await page.getByText('draining').waitFor({ state: 'detached' });
  });

  it('keeps few rows of ten thousand jobs, and reaches the last', async () => {
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
