/** Runs a document on the unsharded model with plain torch hooks (reference.py), for comparison. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { readSafetensors, type JobSpec, type Tensor } from '@patchbay/sdk';
import { ROOT } from './stack.js';

export interface Reference {
  readonly outputs: ReadonlyMap<string, Tensor>;
  readonly activations: ReadonlyMap<string, Tensor>;
  readonly saveCtx: ReadonlyMap<string, Tensor>;
  readonly runs: Readonly<Record<string, { generatedTokenIds?: number[][] }>>;
  readonly editCalls: number;
}

/** One process for all cases of a file: importing torch takes longer than a case. */
export class ReferenceRunner {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #answers: AsyncIterator<string>;

  constructor(private readonly model: string) {
    this.#child = spawn(join(ROOT, '.venv/bin/python'), [join(ROOT, 'tests/support/reference.py')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, OMP_NUM_THREADS: '1' },
    });
    this.#answers = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  async run(document: Omit<JobSpec, 'model'>): Promise<Reference> {
    const out = mkdtempSync(join(tmpdir(), 'pb-reference-'));
    try {
      this.#child.stdin.write(`${JSON.stringify({ model: this.model, document, out })}\n`);
      const answer = await this.#answers.next();
      if (answer.done === true) throw new Error('reference.py ended; its traceback is above');
      const { runs, editCalls } = JSON.parse(answer.value) as Pick<Reference, 'runs' | 'editCalls'>;
      const read = (name: string): Reference['outputs'] =>
        readSafetensors(readFileSync(join(out, `${name}.safetensors`)));
      return { outputs: read('outputs'), activations: read('activations'), saveCtx: read('save_ctx'), runs, editCalls };
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  }

  close(): void {
    this.#child.stdin.end();
  }
}

/**
 * Largest difference, in units of the largest value expected where that is over 1: fp32 keeps 24 bits, so a residual
 * stream with values of 100 cannot be told apart more finely than 8e-6. Refuses other shapes.
 */
export function maxDifference(a: Tensor, b: Tensor): number {
  if (a.shape.join() !== b.shape.join()) throw new Error(`shapes differ: [${a.shape.join()}] and [${b.shape.join()}]`);
  const [x, y] = [a.toFloat32(), b.toFloat32()];
  let [largest, scale] = [0, 1];
  for (let i = 0; i < x.length; i++) {
    const difference = Math.abs(x[i]! - y[i]!);
    if (Number.isNaN(difference)) return Number.NaN;
    largest = Math.max(largest, difference);
    scale = Math.max(scale, Math.abs(y[i]!));
  }
  return largest / scale;
}
