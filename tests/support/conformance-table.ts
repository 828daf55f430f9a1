/** What the conformance suite has shown, as docs/conformance.md. Written by `npm run conformance`, compared in `npm test`. */
import { DEPLOYMENTS } from './stack.js';

/** By case and deployment the largest difference to the reference, in units of max(1, largest expected value). */
const measured = new Map<string, Map<string, number>>();
const semantics: string[] = [];

export function recordDifference(test: string, deployment: string, difference: number): void {
  const row = measured.get(test) ?? new Map<string, number>();
  row.set(deployment, Math.max(row.get(deployment) ?? 0, difference));
  measured.set(test, row);
}

export function recordSemantics(title: string): void {
  semantics.push(title);
}

const columns = Object.keys(DEPLOYMENTS);
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function cell(row: ReadonlyMap<string, number>, deployment: string): string {
  const difference = row.get(deployment);
  return difference === undefined ? 'not shown' : difference === 0 ? 'equal' : difference.toExponential(0);
}

/** The page, from what has passed in this process. */
export function conformancePage(tolerance: number): string {
  const rows = [...measured].map(([test, row]) => line([test, ...columns.map((name) => cell(row, name))]));
  return `<!-- Written by \`npm run conformance\`. -->
# What was held against plain torch

Every case runs through the SDK on a deployment of \`models/tiny-facts\` per mesh, and once on the unsharded model in one process
with plain torch hooks, autograd and optimisers (\`tests/support/reference.py\`, which shares no code with the product). A cell is
the largest difference of any logit, captured activation or gradient, in units of max(1, largest expected value). The
tolerance is ${tolerance.toExponential(0)}: float32 keeps 24 bits, and only the order of the sums of row-parallel maps differs. A case
whose edit does not move the logits by more than 1e-3 fails. The wider matrix in Python: \`packages/worker-py/tests/engine\`.

${[line(['case', ...columns]), line(['---', ...columns.map(() => '---')]), ...rows].join('\n')}

## Semantics

${semantics.map((title) => `- ${title}`).join('\n')}
`;
}

/** The page without its numbers, which differ from machine to machine. */
export const shapeOf = (page: string): string =>
  page
    .replace(/\d+e-\d+|equal/g, '*')
    .replace(/ +/g, ' ')
    .replace(/-{2,}/g, '-');
