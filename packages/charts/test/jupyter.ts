/** A tslab kernel, and as much of Jupyter's protocol as running a cell takes. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHmac, randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { freePorts } from '../../cli/src/processes/ports.js';

interface Socket {
  connect(address: string): void;
  close(): void;
}
interface Zeromq {
  readonly Subscriber: new () => Socket & { subscribe(): void } & AsyncIterable<Buffer[]>;
  readonly Dealer: new () => Socket & { send(parts: string[]): Promise<void> };
}
const tslab = createRequire(import.meta.url).resolve('tslab/package.json');
const zeromq = createRequire(tslab)('zeromq') as Zeromq;

const DELIMITER = '<IDS|MSG>';
const CHANNELS = ['shell', 'iopub', 'stdin', 'control', 'hb'] as const;

/** What a cell has given to the front end. */
export interface Shown {
  /** MIME type -> content, in order. */
  readonly displays: readonly Readonly<Record<string, string>>[];
  readonly stderr: string;
}

export class Kernel {
  readonly #key = randomUUID();
  readonly #iopub = new zeromq.Subscriber();
  readonly #shell = new zeromq.Dealer();

  private constructor(private readonly process: ChildProcess) {}

  /** @param cwd - where imports are looked up; @param folder - for the connection file */
  static async start(cwd: string, folder: string): Promise<Kernel> {
    const ports = await freePorts(CHANNELS.length);
    const connection = join(folder, 'connection.json');
    const child = spawn(
      process.execPath,
      [join(dirname(tslab), 'bin/tslab'), 'kernel', `--config-path=${connection}`],
      { cwd, stdio: 'inherit' },
    );
    const kernel = new Kernel(child);
    const named = Object.fromEntries(CHANNELS.map((name, index) => [`${name}_port`, ports[index]]));
    const facts = { ip: '127.0.0.1', transport: 'tcp', signature_scheme: 'hmac-sha256', kernel_name: 'tslab' };
    writeFileSync(connection, JSON.stringify({ ...named, ...facts, key: kernel.#key }));
    kernel.#iopub.subscribe();
    kernel.#iopub.connect(`tcp://127.0.0.1:${named['iopub_port']}`);
    kernel.#shell.connect(`tcp://127.0.0.1:${named['shell_port']}`);
    return kernel;
  }

  /** Runs a cell to its end. */
  async run(code: string): Promise<Shown> {
    await this.#send('execute_request', { code, silent: false, store_history: true, user_expressions: {} });
    const displays: Record<string, string>[] = [];
    let stderr = '';
    for await (const parts of this.#iopub) {
      const at = parts.findIndex((part) => part.toString() === DELIMITER);
      const [header, , , content] = parts.slice(at + 2).map((part) => JSON.parse(part.toString()) as Message);
      if (header!.msg_type === 'display_data') displays.push(content!.data!);
      if (content!.name === 'stderr') stderr += content!.text!;
      if (content!.execution_state === 'idle') break;
    }
    return { displays, stderr };
  }

  async stop(): Promise<void> {
    this.#iopub.close();
    this.#shell.close();
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill();
    await ended;
  }

  #send(type: string, content: object): Promise<void> {
    const header = { msg_id: randomUUID(), msg_type: type, session: 'test', username: 'test', version: '5.3' };
    const parts = [header, {}, {}, content].map((part) => JSON.stringify(part));
    const signature = createHmac('sha256', this.#key).update(parts.join('')).digest('hex');
    return this.#shell.send([DELIMITER, signature, ...parts]);
  }
}

/** A header, or a content: what is read of either. */
interface Message {
  readonly msg_type?: string;
  readonly data?: Record<string, string>;
  readonly name?: string;
  readonly text?: string;
  readonly execution_state?: string;
}
