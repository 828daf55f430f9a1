/** What Prometheus can ask: jobs by state and model, depth of queues, time per phase, event loop. @module */
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** Hears of every job that ended. */
export interface EndListener {
  ended(model: string, state: string): void;
  timed(model: string, timings: Readonly<Record<string, number>>): void;
}

/** What only can be known when it is asked for. */
export interface MetricSources {
  models(): readonly string[];
  waiting(model: string): Promise<number>;
  running(): number;
  deployments(): readonly { readonly model: string; readonly status: string; readonly ready: number }[];
  gatewayReachable(): boolean;
}

export class Metrics {
  private readonly registry = new Registry();
  private readonly jobs = new Counter({
    name: 'patchbay_jobs_total',
    help: 'Jobs that ended, by deployment and state',
    labelNames: ['model', 'state'],
    registers: [this.registry],
  });
  private readonly phases = new Histogram({
    name: 'patchbay_job_phase_seconds',
    help: 'Time of completed jobs, by deployment and phase',
    labelNames: ['model', 'phase'],
    buckets: SECONDS,
    registers: [this.registry],
  });

  constructor(private readonly listener?: EndListener) {
    collectDefaultMetrics({ register: this.registry });
  }

  /** Adds the gauges that are read on demand. */
  observe(sources: MetricSources): void {
    const registers = [this.registry];
    new Gauge({
      name: 'patchbay_queue_jobs',
      help: 'Jobs that wait, by deployment',
      labelNames: ['model'],
      registers,
      async collect() {
        this.reset();
        await Promise.all(sources.models().map(async (model) => this.set({ model }, await sources.waiting(model))));
      },
    });
    new Gauge({
      name: 'patchbay_jobs_running',
      help: 'Jobs that this orchestrator runs now',
      registers,
      collect() {
        this.set(sources.running());
      },
    });
    new Gauge({
      name: 'patchbay_deployments',
      help: 'Deployments, by status',
      labelNames: ['status'],
      registers,
      collect() {
        this.reset();
        for (const { status } of sources.deployments()) this.inc({ status });
      },
    });
    new Gauge({
      name: 'patchbay_replicas_ready',
      help: 'Replicas that can take jobs, by deployment',
      labelNames: ['model'],
      registers,
      collect() {
        this.reset();
        for (const { model, ready } of sources.deployments()) this.set({ model }, ready);
      },
    });
    new Gauge({
      name: 'patchbay_gateway_reachable',
      help: '1 while the watch of the gateway is open',
      registers,
      collect() {
        this.set(sources.gatewayReachable() ? 1 : 0);
      },
    });
  }

  /** Every metric of our own, for docs/metrics.md. */
  static describe(): { name: string; type: string; help: string; labels: string[] }[] {
    const metrics = new Metrics();
    const nothing = {
      models: () => [],
      waiting: async () => 0,
      running: () => 0,
      deployments: () => [],
      gatewayReachable: () => false,
    };
    metrics.observe(nothing);
    const ours = metrics.registry.getMetricsAsArray().filter(({ name }) => name.startsWith('patchbay_'));
    return ours.map((metric) => {
      const { name, help } = metric;
      const labels = (metric as unknown as { labelNames: string[] }).labelNames;
      return { name, help, type: metric.constructor.name.toLowerCase(), labels };
    });
  }

  ended(model: string, state: string): void {
    this.jobs.inc({ model, state });
    this.listener?.ended(model, state);
  }

  /** Timings of a result: `forwardMs` becomes the phase `forward`. */
  timed(model: string, timings: Readonly<Record<string, number>>): void {
    this.listener?.timed(model, timings);
    for (const [name, milliseconds] of Object.entries(timings)) {
      if (name.endsWith('Ms')) this.phases.observe({ model, phase: name.slice(0, -2) }, milliseconds / 1000);
    }
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }
}
