/** Who may ask: the token of the installation, or on artifact routes a ticket. @module */
import { createHash, timingSafeEqual } from 'node:crypto';
import { error } from '@patchbay/protocol';
import type { FastifyRequest } from 'fastify';
import type { Tickets } from '../artifacts/tickets.js';

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
  ) {}

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
    if (this.token === undefined) return true;
    const given = bearerOf(request);
    return given !== undefined && equal(given, this.token);
  }
}
