/** Queues as operators see them: how much waits and runs, how it went lately, when a job can expect to start. @module */
import type { JobStatus } from '@patchbay/protocol';
import type { Place, QueueOverview } from '@patchbay/protocol/http';
import type { Queues } from '../jobs/queues.js';
import type { Controller } from '../placement/controller.js';
import type { JobStats } from './job-stats.js';

const LAST_HOUR = 60;

export class QueueView {
  constructor(
    private readonly queues: Queues,
    private readonly controller: Controller,
    private readonly stats: JobStats,
  ) {}

  async overview(minutes: number): Promise<QueueOverview[]> {
    return Promise.all(
      this.controller.list().map(async ({ spec, status, replicas }) => {
        const [counts, { points }] = await Promise.all([
          this.queues.counts(spec.name),
          this.stats.window(spec.name, minutes),
        ]);
        const ready = replicas.filter(({ state }) => state === 'ready').length;
        return { model: spec.name, status, replicas: spec.replicas, ready, ...counts, points };
      }),
    );
  }

  async place({ id, model, state }: JobStatus): Promise<Place> {
    if (state !== 'queued') return { ahead: null, expectedStartMs: null };
    const [ahead, { running, draining }, { meanRunMs }] = await Promise.all([
      this.queues.ahead(model, id),
      this.queues.counts(model),
      this.stats.window(model, LAST_HOUR),
    ]);
    const ready = this.controller
      .list()
      .filter(({ spec }) => spec.name === model)
      .flatMap(({ replicas }) => replicas)
      .filter((replica) => replica.state === 'ready').length;
    if (ahead === null || meanRunMs === null || ready === 0 || draining) return { ahead, expectedStartMs: null };
    return { ahead, expectedStartMs: Math.round((Math.max(0, ahead + running + 1 - ready) * meanRunMs) / ready) };
  }
}
