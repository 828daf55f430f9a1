/** The state of each part, asked for when somebody wants to know. Never waits long: a part that does not answer is away. @module */
import { SANDBOX_LEVELS, toPatchbayError, type Deployment } from '@patchbay/protocol';
import type { HealthReport } from '@patchbay/protocol/http';
import type { Gateway } from './cluster-client/gateway.js';
import type { Drain } from './drain.js';
import type { Controller } from './placement/controller.js';
import type { Redis } from './redis.js';

const LIMIT_MS = 1_500;

type Part = HealthReport['parts']['redis'];

export class Health {
  constructor(
    private readonly redis: Redis,
    private readonly gateway: Gateway,
    private readonly controller: Controller,
    private readonly drain: Drain,
  ) {}

  async report(): Promise<HealthReport> {
    const [redis, gateway] = await Promise.all([this.ask(this.redis.ping()), this.ask(this.askGateway())]);
    const models = this.controller.list();
    const deployments = models.map(({ spec, status, reason }) => ({
      name: spec.name,
      status,
      ...(reason != null && { reason: reason.message }),
    }));
    const orchestrator = this.drain.state();
    const fine =
      !orchestrator.draining &&
      redis.status === 'ok' &&
      gateway.status === 'ok' &&
      models.every(({ status }) => status === 'ready');
    return {
      status: fine ? 'ok' : 'degraded',
      parts: { redis, gateway: { ...gateway, address: this.gateway.address }, deployments, orchestrator },
      sandboxLevel: weakest(models),
    };
  }

  private async askGateway(): Promise<void> {
    const { rayConnected, reason } = await this.gateway.health();
    if (!rayConnected) throw new Error(reason === '' ? 'the gateway has no connection to Ray' : reason);
  }

  private async ask(question: Promise<unknown>): Promise<Part> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer in ${LIMIT_MS} ms`)), LIMIT_MS);
    });
    try {
      await Promise.race([question, limit]);
      return { status: 'ok' };
    } catch (cause) {
      return {
        status: 'away',
        reason:
          toPatchbayError(cause).code === 'PB_INTERNAL' ? (cause as Error).message : toPatchbayError(cause).message,
      };
    } finally {
      clearTimeout(timer);
    }
  }
}

function weakest(models: readonly Deployment[]): HealthReport['sandboxLevel'] {
  const levels = models.flatMap(({ description }) =>
    description == null ? [] : [SANDBOX_LEVELS.indexOf(description.sandboxLevel)],
  );
  return levels.length === 0 ? null : SANDBOX_LEVELS[Math.max(...levels)]!;
}
