/**
 * The sandbox as its users meet it: every attack gets its typed error with the user's own line, its texts are bounded, a job that
 * runs beside it and the next one on the same ranks are right, and no secret of the stack is in anything that comes back.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isPatchbayError, type PatchbayError } from '@patchbay/protocol';
import type { JobResult, JobSpec, Patchbay } from '@patchbay/sdk';
import { OPERATOR, connect, deploymentOf, sharedStack, stackHome } from '../support/stack.js';
import { ATTACKS, PROBES, type Target } from './attacks.js';

const PROMPT = { text: ['The capital of France is'] };
const MODULE = 'model.layers.1.mlp.gate_proj';
const EDIT_TIMEOUT_MS = 2_000;
const LONGEST_MESSAGE = 4_000;
const LOG_BYTES = 65_536;
/** The first line of a body is the second one of the source. */
const BEFORE_BODY = 1;

const source = (body: string): string =>
  `def edit(current_module, inputs, save_ctx, modules):\n${body.replace(/^/gm, '    ')}\n`;
const jobOf = (model: string, body: string): JobSpec => ({
  model,
  limits: { editTimeoutMs: EDIT_TIMEOUT_MS, editMemoryBytes: 256 * 2 ** 20 },
  hooks: [{ name: 'attack', moduleName: MODULE, edit: { kind: 'python', source: source(body) } }],
  runs: [{ name: 'r', inputs: PROMPT, return: { topK: 1 } }],
});
const topToken = (result: JobResult): string | undefined => result.runs['r']?.topK?.[0]?.[0]?.token;

describe('attacks through the SDK', () => {
  let client: Patchbay;
  let folder: string;
  let listener: Server;
  let victim: ChildProcess;
  let target: Target;
  let connections = 0;
  /** Everything that came back, to be searched for secrets. */
  const seen: string[] = [];

  before(async () => {
    client = connect();
    folder = mkdtempSync(join(tmpdir(), 'pb-security-'));
    const file = join(folder, 'canary');
    writeFileSync(file, 'canary', { mode: 0o644 });
    listener = createServer(() => void connections++).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    victim = spawn('sleep', ['600'], { stdio: 'ignore' });
    target = { port: (listener.address() as AddressInfo).port, pid: victim.pid!, file };
  });
  after(async () => {
    listener.close();
    victim.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
    await client.close();
  });

  const outcome = async (document: JobSpec): Promise<JobResult | PatchbayError> => {
    const job = await client.jobs.submit(document);
    try {
      const result = await job.result({ timeoutMs: 60_000 });
      seen.push(JSON.stringify(result.json));
      if ('logs.txt' in result.files) seen.push(Buffer.from(await result.file('logs.txt')).toString());
      return result;
    } catch (cause) {
      if (!isPatchbayError(cause)) throw cause;
      seen.push(JSON.stringify(cause));
      return cause;
    } finally {
      for await (const event of job.events({ follow: false })) seen.push(JSON.stringify(event));
    }
  };
  /** The next job on the same ranks. */
  const assertHealthy = async (model: string): Promise<void> => {
    const next = await outcome(jobOf(model, 'return inputs'));
    assert.ok(!isPatchbayError(next), JSON.stringify(next));
    assert.equal(topToken(next), ' Paris');
  };

  for (const attack of ATTACKS) {
    it(attack.name, async () => {
      const model = deploymentOf(2);
      const found = await outcome(jobOf(model, attack.body(target)));
      const end = isPatchbayError(found) ? found.code : 'completed';
      assert.ok(attack.ends.includes(end), JSON.stringify(found));
      if (isPatchbayError(found)) {
        assert.equal(found.retryable, false, 'the fault is the edit’s');
        const text = JSON.stringify(found);
        assert.ok(found.message.length < LONGEST_MESSAGE && text.length < 4 * LONGEST_MESSAGE, 'bounded');
        // eslint-disable-next-line no-control-regex -- what a terminal would obey
        assert.doesNotMatch(found.message, /[\u0000-\u0008\u001b]/);
        if (attack.line !== undefined) assert.equal(found.remote?.line, attack.line + BEFORE_BODY);
      } else if ('logs.txt' in found.files) assert.ok(found.files['logs.txt'].bytes <= LOG_BYTES, 'bounded');
      await assertHealthy(model);
    });
  }

  it('names of JavaScript among kept values reach their reader as values', async () => {
    const found = await outcome(jobOf(deploymentOf(1), 'save_ctx["__proto__"] = {"polluted": 1}\nreturn inputs'));
    assert.ok(!isPatchbayError(found), JSON.stringify(found));
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  });

  for (const [name, body] of Object.entries(PROBES)) {
    it(`in vain: ${name}`, async () => {
      const found = await outcome(jobOf(deploymentOf(1), body(target)));
      assert.ok(!isPatchbayError(found), JSON.stringify(found));
      assert.match(String(found.saveCtx.get('said')), /Error$/);
    });
  }

  it('a job beside an attack is right, and its numbers are its own', async () => {
    const quiet = jobOf(deploymentOf(1), 'import time\ntime.sleep(1)\nsave_ctx.n = 7\nreturn inputs');
    const beside = outcome(quiet);
    const bomb = ATTACKS.filter(({ name }) => /^(memory|time)/.test(name)).slice(0, 3);
    for (const attack of bomb) await outcome(jobOf(deploymentOf(2), attack.body(target)));
    const result = await beside;
    assert.ok(!isPatchbayError(result), JSON.stringify(result));
    assert.equal(topToken(result), ' Paris');
    assert.equal(result.saveCtx.get('n'), 7);
  });

  it('a hostile module and a hostile loss end with their own line', async () => {
    const model = deploymentOf(1);
    const build = await outcome({
      ...jobOf(model, 'return inputs'),
      modules: { bad: { kind: 'python', source: 'def build():\n    x = 1\n    import socket; socket.socket()\n' } },
    });
    assert.ok(isPatchbayError(build, 'PB_EDIT_BLOCKED'), JSON.stringify(build));
    assert.equal(build.remote?.line, 3);
    const loss = await outcome({
      model,
      runs: [
        {
          name: 'r',
          mode: 'backward',
          inputs: PROMPT,
          loss: { kind: 'python', source: 'def loss(logits, save_ctx, modules):\n    open("/etc/passwd")\n' },
        },
      ],
    });
    assert.ok(isPatchbayError(loss), JSON.stringify(loss));
    assert.match(loss.code, /^PB_EDIT_(BLOCKED|FAILED)$/);
    assert.equal(loss.remote?.line, 2);
    await assertHealthy(model);
  });

  it('NaN where a token is to be drawn is an error on every rank, not a token', async () => {
    const model = deploymentOf(2);
    for (const temperature of [0, 1]) {
      const found = await outcome({
        model,
        hooks: [
          {
            name: 'nan',
            moduleName: 'lm_head',
            edit: { kind: 'python', source: source('return inputs * float("nan")') },
          },
        ],
        runs: [{ name: 'r', mode: 'generate', inputs: PROMPT, temperature }],
      });
      assert.ok(isPatchbayError(found, 'PB_LOGITS_NOT_FINITE'), JSON.stringify(found));
    }
    await assertHealthy(model);
  });

  it('what the sandbox will refuse is told with its line, by validate and in the result', async () => {
    const document = jobOf(deploymentOf(1), 'import socket\nreturn inputs');
    const said = 'attack, line 2: import socket: an edit has no network';
    assert.ok((await client.validate(document)).warnings.includes(said));
    const result = await outcome(document);
    assert.ok(!isPatchbayError(result), JSON.stringify(result));
    assert.ok(result.warnings.includes(said), String(result.warnings));
  });

  it('more than the operator allows is refused before it runs, and says by how much', async () => {
    const document = jobOf(deploymentOf(1), 'return inputs');
    const most = OPERATOR.sandboxMaxEditMemoryBytes;
    const found = await outcome({ ...document, limits: { editMemoryBytes: most + 1 } });
    assert.ok(isPatchbayError(found, 'PB_LIMIT_EXCEEDED'), JSON.stringify(found));
    assert.equal(found.path, 'limits.editMemoryBytes');
    assert.match(found.message, new RegExp(`${most}`));
    assert.ok(!isPatchbayError(await outcome({ ...document, limits: { editMemoryBytes: most } })));
  });

  it('a limit of the document is that of the edit', async () => {
    const calls = await outcome({
      ...jobOf(deploymentOf(1), 'return inputs'),
      limits: { editCalls: 2 },
      runs: [{ name: 'r', mode: 'generate', inputs: PROMPT, maxNewTokens: 6 }],
    });
    assert.ok(isPatchbayError(calls, 'PB_LIMIT_EXCEEDED'), JSON.stringify(calls));
    const logs = await outcome({
      ...jobOf(deploymentOf(1), 'print("x" * 999)\nreturn inputs'),
      limits: { logBytes: 100 },
    });
    assert.ok(!isPatchbayError(logs) && logs.files['logs.txt']!.bytes < 200, JSON.stringify(logs));
  });

  it('nothing was reached, and no secret came back', async () => {
    const { token, redisUrl } = sharedStack().info;
    const body =
      'import os\nprint(dict(os.environ))\nsave_ctx.env = dict(os.environ)\nraise ValueError(str(dict(os.environ)))';
    await outcome(jobOf(deploymentOf(1), body));
    assert.equal(connections, 0);
    assert.equal(victim.exitCode ?? victim.signalCode, null);
    const secrets = [token, redisUrl, ...environmentSecrets()].filter((secret) => secret.length >= 8);
    assert.ok(secrets.length >= 2, 'there are secrets to look for');
    const all = seen.join('\n');
    assert.ok(all.includes('PYTHONHASHSEED'), 'what is searched has the environment that edits do see');
    for (const secret of secrets) assert.ok(!all.includes(secret), 'a secret is in what came back');
    const logs = stackLogs();
    assert.match(logs, /gateway|ray|orchestrator/i, 'there are logs to search');
    for (const secret of [token, ...environmentSecrets()].filter((each) => !each.startsWith('unix:')))
      assert.ok(secret.length < 8 || !logs.includes(secret), 'a secret is in a log');
  });
});

/** All logs of the stack's parts. */
function stackLogs(): string {
  const folder = join(stackHome(), 'logs');
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8')).join('\n');
}

/** Tokens that the parts of the stack have in their environment. */
function environmentSecrets(): string[] {
  const found = new Set<string>();
  for (const { pid } of sharedStack().info.processes) {
    const environment = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    for (const entry of environment) {
      const [name = '', ...value] = entry.split('=');
      if (/TOKEN|SECRET|PASSWORD|REDIS_URL/.test(name)) found.add(value.join('='));
    }
  }
  return [...found];
}
