/**
 * Who may ask for what. An operator's token may do everything, a reader's token may look at everything, an API key may submit
 * and whatever concerns its own jobs; a browser shows a signed session cookie in place of the token. What changes something must
 * come from this service's own pages or from no page at all.
 * @module
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import { error } from '@patchbay/protocol';
import type { Role } from '@patchbay/protocol/http';
import type { FastifyRequest } from 'fastify';
import type { Tickets } from '../artifacts/tickets.js';
import { digestOfKey } from './api-keys.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What an API key may ask of this route: about any of its objects, or only about jobs that are its own. Without: nothing. */
    readonly submitters?: 'any' | 'own';
  }
}

export const SESSION_COOKIE = 'patchbay_session';
const SESSION_SECONDS = 12 * 3600;
const SAFE = ['GET', 'HEAD', 'OPTIONS'];

export interface AuthOptions {
  readonly token: string | undefined;
  readonly readToken: string | undefined;
  /** Names by which this service may be called when it is open. */
  readonly hosts: readonly string[];
}

const bearerOf = (request: FastifyRequest): string | undefined =>
  /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];

/** Compares digests, so that neither length nor content shows in the time. */
function equal(one: string, other: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}

function cookieOf(request: FastifyRequest): string | undefined {
  const all = (request.headers.cookie ?? '').split(';').map((part) => part.trim());
  return all.find((part) => part.startsWith(`${SESSION_COOKIE}=`))?.slice(SESSION_COOKIE.length + 1);
}

const nameOf = (host: string): string => host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');

export class Auth {
  constructor(
    private readonly options: AuthOptions,
    private readonly tickets: Tickets,
    /** SHA-256 of an API key -> its submitter. */
    private readonly keys: ReadonlyMap<string, string> = new Map(),
    /** Whose job it is; undefined when there is none. */
    private readonly ownerOf: (jobId: string) => Promise<string | undefined> = async () => undefined,
  ) {}

  /** False: everybody may do everything. */
  get required(): boolean {
    return this.options.token !== undefined;
  }

  /** Whose API key the request shows; undefined for the token of the installation, or none. */
  submitterOf(request: FastifyRequest): string | undefined {
    const given = bearerOf(request);
    return given === undefined ? undefined : this.keys.get(digestOfKey(given));
  }

  /**
   * Looking needs a role, changing one that may and no other site behind it.
   * @throws `PB_UNAUTHORIZED`, `PB_READ_ONLY`, `PB_OPERATOR_ONLY`, `PB_CROSS_ORIGIN`, `PB_JOB_NOT_FOUND` for a key and another's job
   */
  readonly user = async (request: FastifyRequest): Promise<void> => {
    const role = this.roleOf(request);
    if (role === undefined) throw error('PB_UNAUTHORIZED', {});
    if (!SAFE.includes(request.method)) this.ownOrigin(request);
    if (role === 'submitter') return this.submitter(request);
    if (role === 'reader' && !SAFE.includes(request.method)) throw error('PB_READ_ONLY', {});
  };

  /** That a job of somebody else exists is not told either. */
  private async submitter(request: FastifyRequest): Promise<void> {
    const { submitters } = request.routeOptions.config;
    if (submitters === 'any') return;
    const { id: jobId } = request.params as { id?: string };
    if (submitters !== 'own' || jobId === undefined)
      throw error('PB_OPERATOR_ONLY', { url: request.url.split('?')[0]! });
    if ((await this.ownerOf(jobId)) === this.submitterOf(request)) return;
    throw error(
      'PB_JOB_NOT_FOUND',
      { jobId },
      { jobId, hint: 'An API key sees the jobs that were submitted with it.' },
    );
  }

  /** @throws as `user` */
  readonly userOrTicket = async (request: FastifyRequest): Promise<void> => {
    const given = bearerOf(request);
    if (given !== undefined && this.tickets.read(given) !== undefined) return;
    await this.user(request);
  };

  roleOf(request: FastifyRequest): Role | undefined {
    if (!this.required) return this.calledByOwnName(request) ? 'operator' : undefined;
    if (this.submitterOf(request) !== undefined) return 'submitter';
    const given = bearerOf(request);
    return given === undefined ? this.readSession(cookieOf(request)) : this.roleOfToken(given);
  }

  /** Of a token that a browser may sign in with. */
  roleOfToken(given: string): Exclude<Role, 'submitter'> | undefined {
    const { token, readToken } = this.options;
    if (token === undefined || equal(given, token)) return 'operator';
    return readToken !== undefined && equal(given, readToken) ? 'reader' : undefined;
  }

  /** A request that a browser sends for another site's page carries that site's origin. @throws `PB_CROSS_ORIGIN` */
  ownOrigin(request: FastifyRequest): void {
    const { origin, host = '' } = request.headers;
    const site = request.headers['sec-fetch-site'];
    const foreign = origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host);
    const told = site === undefined || site === 'same-origin' || site === 'none';
    if (foreign || !told) throw error('PB_CROSS_ORIGIN', { origin: origin ?? `a page (${String(site)})`, host });
  }

  /** `Set-Cookie` of a session; without a role it ends the session. */
  sessionCookie(role: Exclude<Role, 'submitter'> | undefined, secure: boolean, now = Date.now()): string {
    const end = Math.floor(now / 1000) + SESSION_SECONDS;
    const value = role === undefined ? '' : `${role}.${end}.${this.sign(role, end)}`;
    const age = role === undefined ? 0 : SESSION_SECONDS;
    return `${SESSION_COOKIE}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${age}${secure ? '; Secure' : ''}`;
  }

  private readSession(value: string | undefined): Role | undefined {
    const [role, end, signature] = (value ?? '').split('.');
    if ((role !== 'operator' && role !== 'reader') || end === undefined || signature === undefined) return undefined;
    if (role === 'reader' && this.options.readToken === undefined) return undefined;
    return Number(end) * 1000 > Date.now() && equal(signature, this.sign(role, Number(end))) ? role : undefined;
  }

  /** By the role's own token: changing a token ends its sessions. */
  private sign(role: Exclude<Role, 'submitter'>, end: number): string {
    const secret = (role === 'operator' ? this.options.token : this.options.readToken) ?? '';
    return createHmac('sha256', `patchbay session ${secret}`).update(`${role}.${end}`).digest('base64url');
  }

  /** An open service must not answer to a foreign name that was made to point at it. */
  private calledByOwnName(request: FastifyRequest): boolean {
    const name = nameOf(request.headers.host ?? '');
    return isIP(name) !== 0 || !name.includes('.') || this.options.hosts.includes(name);
  }
}
