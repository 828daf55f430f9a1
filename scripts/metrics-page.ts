/** docs/metrics.md, printed from what the code registers: prom-client's registry here, the gateway's table there. @module */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { Metrics } from '../packages/orchestrator/src/metrics.js';

interface Row {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly labels: readonly string[];
}

function table(rows: readonly Row[]): string[] {
  const line = ({ name, type, help, labels }: Row): string =>
    `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`;
  return ['| name | type | labels | |', '|---|---|---|---|', ...rows.map(line)];
}

function ofGateway(root: string, python: string): Row[] {
  const script = 'import json; from patchbay_worker.gateway.metrics import METRICS; print(json.dumps(METRICS))';
  const path = ['packages/worker-py/src', 'packages/protocol/gen/py'].map((folder) => join(root, folder)).join(':');
  const told = execFileSync(python, ['-c', script], { encoding: 'utf8', env: { ...process.env, PYTHONPATH: path } });
  const metrics = JSON.parse(told) as Record<string, [string, string[]]>;
  return Object.entries(metrics).map(([name, [help, labels]]) => ({ name, type: 'gauge', help, labels }));
}

export function metricsPage(root: string, python: string): string {
  return [
    '# Metrics',
    '',
    'Printed by `npm run gen` from the code that registers them; do not edit.',
    '',
    '## Orchestrator: `GET /metrics` of its HTTP',
    '',
    "Besides these, prom-client's default metrics of a Node process (`process_*`, `nodejs_*`).",
    '',
    ...table(Metrics.describe()),
    '',
    '## Gateway: `GET /metrics` on `PATCHBAY_METRICS_PORT`',
    '',
    ...table(ofGateway(root, python)),
    '',
  ].join('\n');
}
