/**
 * Tickets: what the home rank of an attempt shows to read inputs from the artifact store and write results to it. Signed, not
 * stored; good for artifact routes only and until their expiry. Not here: the token of users (http/auth.ts).
 * @module
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

const PREFIX = 'pbt1';

export interface Ticket {
  readonly jobId: string;
  readonly attempt: number;
  readonly expiresAt: number;
}

export class Tickets {
  private readonly secret: Buffer;

  /** With the token of the installation every orchestrator of it accepts the others' tickets; without one the secret is this process's. */
  constructor(token: string | undefined) {
    this.secret =
      token === undefined ? randomBytes(32) : createHmac('sha256', token).update('patchbay artifact ticket').digest();
  }

  issue(jobId: string, attempt: number, expiresAt: number): string {
    const body = `${PREFIX}.${jobId}.${attempt}.${expiresAt}`;
    return `${body}.${this.sign(body).toString('base64url')}`;
  }

  /** The ticket, if it is genuine and not expired. */
  read(text: string, now = Date.now()): Ticket | undefined {
    const [prefix, jobId, attempt, expiresAt, signature, ...rest] = text.split('.');
    if (prefix !== PREFIX || !jobId || !attempt || !expiresAt || !signature || rest.length > 0) return undefined;
    const expected = this.sign(`${PREFIX}.${jobId}.${attempt}.${expiresAt}`);
    const given = Buffer.from(signature, 'base64url');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    if (!(Number(expiresAt) > now)) return undefined;
    return { jobId, attempt: Number(attempt), expiresAt: Number(expiresAt) };
  }

  private sign(body: string): Buffer {
    return createHmac('sha256', this.secret).update(body).digest();
  }
}
