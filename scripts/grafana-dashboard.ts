/** Prints infra/observability/grafana-dashboard.json from a short table: `npm run gen` keeps it. @module */
const PANELS: readonly (readonly [title: string, unit: string, ...queries: string[]])[] = [
  ['Jobs that ended, per second', 'ops', 'sum by (state) (rate(patchbay_jobs_total[5m]))'],
  ['Jobs that wait', 'short', 'sum by (model) (patchbay_queue_jobs)'],
  ['Jobs that run', 'short', 'sum(patchbay_jobs_running)'],
  ['Time of a job, p95, by phase', 's', 'histogram_quantile(0.95, sum by (le, phase) (rate(patchbay_job_phase_seconds_bucket[5m])))'],
  ['Replicas, by state', 'short', 'sum by (state) (patchbay_replicas)'],
  ['Replicas that can take jobs', 'short', 'patchbay_replicas_ready'],
  ['Weights of the ranks', 'bytes', 'patchbay_rank_weights_bytes'],
  ['Memory of the ranks', 'bytes', 'patchbay_rank_process_bytes'],
  ['Ray and gateway answer', 'short', 'patchbay_ray_connected', 'patchbay_gateway_reachable'],
  ['Event loop lag of the orchestrator', 's', 'nodejs_eventloop_lag_p99_seconds'],
]; // prettier-ignore

export function grafanaDashboard(): unknown {
  const panels = PANELS.map(([title, unit, ...queries], index) => ({
    id: index + 1,
    type: 'timeseries',
    title,
    datasource: { type: 'prometheus', uid: '${datasource}' },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    gridPos: { x: (index % 2) * 12, y: Math.floor(index / 2) * 8, w: 12, h: 8 },
    targets: queries.map((expr, number) => ({ expr, refId: String.fromCharCode(65 + number) })),
  }));
  const datasource = { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Prometheus' };
  return {
    title: 'Patchbay',
    uid: 'patchbay',
    schemaVersion: 39,
    refresh: '10s',
    time: { from: 'now-1h', to: 'now' },
    templating: { list: [datasource] },
    panels,
  };
}
