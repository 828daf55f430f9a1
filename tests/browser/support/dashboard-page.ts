/** The dashboard open in a real browser: every answer held against the contract, every complaint of the page a failure. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Browser, Page, Response } from 'playwright-core';
import { complaintsOf, findChromium, launch } from './browser.js';
import { checkAnswer, routeOf } from '../../support/http-contract.js';
import { ROOT, sharedStack } from '../../support/stack.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SHOTS = join(ROOT, 'out/dashboard');
/** What is inside a picture is drawn by the chart package, whose tests hold its contrasts. */
const RULES = { light: ['wcag2a', 'wcag2aa', 'wcag21aa'], dark: ['color-contrast'] };

/** A stream has no end, and a page that is left no body any more. */
async function held(response: Response): Promise<void> {
  const [method, url, type] = [response.request().method(), response.url(), response.headers()['content-type'] ?? ''];
  if (routeOf(method, url) === undefined || type.startsWith('text/event-stream')) return;
  const text = await response.text().catch(() => undefined);
  if (text !== undefined) checkAnswer(method, url, response.status(), type, text);
}

export class DashboardPage {
  readonly complaints: string[];
  private readonly answers: Promise<unknown>[] = [];

  private constructor(
    readonly browser: Browser,
    readonly page: Page,
    readonly http: string,
  ) {
    this.complaints = complaintsOf(page);
    const broken = (problem: unknown): number => this.complaints.push(String(problem));
    page.on('response', (response) => this.answers.push(held(response).catch(broken)));
  }

  /** Undefined where there is no browser; that is said. */
  static async start(): Promise<DashboardPage | undefined> {
    const path = findChromium();
    if (path === undefined) {
      process.stderr.write(
        '  no Chromium: apt-get install chromium, or set PATCHBAY_CHROMIUM; the dashboard is not tested\n',
      );
      return undefined;
    }
    mkdirSync(SHOTS, { recursive: true });
    const { http, token } = sharedStack().info;
    const browser = await launch(path);
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
    const dashboard = new DashboardPage(browser, await context.newPage(), http);
    await dashboard.page.goto(`${http}/?token=${token}`);
    return dashboard;
  }

  async open(path: string, text: string): Promise<void> {
    await this.page.goto(this.http + path);
    await this.page.getByText(text).first().waitFor();
  }

  /** Screenshots and axe, light and dark. */
  async check(name: string): Promise<void> {
    for (const scheme of ['light', 'dark'] as const) {
      await this.page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await this.page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`), fullPage: true });
      const found = await this.page.evaluate<string[]>(
        `(async () => { ${AXE}; const { violations } = await axe.run({ include: [['body']], exclude: [['.chart svg g']] }, { runOnly: ${JSON.stringify(RULES[scheme])} });
         return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + html.slice(0, 160) + ' ' + failureSummary)); })()`,
      );
      assert.deepEqual(found, [], `${name}, ${scheme}`);
    }
  }

  /** What was answered, and complained of, until now. */
  async forget(): Promise<void> {
    await Promise.all(this.answers.splice(0));
    this.complaints.splice(0);
  }

  /** After a test: nothing was odd, and no string of a job was run. */
  async settle(): Promise<void> {
    await Promise.all(this.answers.splice(0));
    assert.deepEqual(this.complaints.splice(0), []);
    assert.equal(await this.page.evaluate('window.pwned'), undefined, 'a string of a job was run');
  }
}

/** Called in a `describe`: the page is there in its tests, which are skipped where there is no browser. */
export function dashboardPage(): { readonly current: DashboardPage } {
  let dashboard: DashboardPage | undefined;
  before(async function () {
    this.timeout(300_000);
    dashboard = await DashboardPage.start();
    if (dashboard === undefined) this.skip();
  });
  after(async () => dashboard?.browser.close());
  afterEach(() => dashboard?.settle());
  return {
    get current() {
      return dashboard!;
    },
  };
}
