/** Who may ask: the token of the installation, an API key, or on artifact routes a ticket. @module */
import { createHash, timingSafeEqual } from 'node:crypto';
import { error } from '@patchbay/protocol';
import type { FastifyRequest } from 'fastify';
import type { Tickets } from '../artifacts/tickets.js';
import { digestOfKey } from './api-keys.js';

function bearerOf(request: FastifyRequest): string | undefined {
  return /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
}

/** Compares digests, so that neither length nor content shows in the time. */
function equal(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

export class Auth {
  constructor(
    private readonly token: string | undefined,
    private readonly tickets: Tickets,
    /** SHA-256 of an API key -> its submitter. */
    private readonly keys: ReadonlyMap<string, string> = new Map(),
  ) {}

  /** Whose API key the request shows; undefined for the token of the installation, or none. */
  submitterOf(request: FastifyRequest): string | undefined {
    const given = bearerOf(request);
    return given === undefined ? undefined : this.keys.get(digestOfKey(given));
  }

  /** @throws `PB_UNAUTHORIZED` */
  readonly user = async (request: FastifyRequest): Promise<void> => {
    if (!this.isUser(request)) throw error('PB_UNAUTHORIZED', {});
  };

  /** @throws `PB_UNAUTHORIZED` */
  readonly userOrTicket = async (request: FastifyRequest): Promise<void> => {
    const given = bearerOf(request);
    if (given !== undefined && this.tickets.read(given) !== undefined) return;
    await this.user(request);
  };

  private isUser(request: FastifyRequest): boolean {
    if (this.token === undefined || this.submitterOf(request) !== undefined) return true;
    const given = bearerOf(request);
    return given !== undefined && equal(given, this.token);
  }
}
