/** What the conformance suite has shown, as docs/conformance.md. Written by `npm run conformance`, compared in `npm test`. */
import { DEPLOYMENTS } from './stack.js';

/** By case and deployment the largest difference to the reference, in units of max(1, largest expected value). */
const measured = new Map<string, Map<string, number>>();
/** The same against another tool; each row is called after it. */
const peers = new Map<string, Map<string, number>>();
const semantics: string[] = [];

function record(table: Map<string, Map<string, number>>, test: string, deployment: string, difference: number): void {
  const row = table.get(test) ?? new Map<string, number>();
  row.set(deployment, Math.max(row.get(deployment) ?? 0, difference));
  table.set(test, row);
}

export function recordDifference(test: string, deployment: string, difference: number): void {
  record(measured, test, deployment, difference);
}

export function recordPeer(test: string, deployment: string, difference: number): void {
  record(peers, test, deployment, difference);
}

export function recordSemantics(title: string): void {
  semantics.push(title);
}

const columns = Object.keys(DEPLOYMENTS);
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function cell(row: ReadonlyMap<string, number>, deployment: string, absent: string): string {
  const difference = row.get(deployment);
  return difference === undefined ? absent : difference === 0 ? 'equal' : difference.toExponential(0);
}

const table = (head: string, rows: Map<string, Map<string, number>>, absent: string): string[] => [
  line([head, ...columns]),
  line(['---', ...columns.map(() => '---')]),
  ...[...rows].map(([test, row]) => line([test, ...columns.map((name) => cell(row, name, absent))])),
];

/** FlexModel cannot be installed: without its sources what an earlier run has shown stays. */
const flexModelRows = (page: string): string[] => page.split('\n').filter((row) => row.startsWith('| FlexModel: '));

/** The page, from what has passed in this process. */
export function conformancePage(tolerance: number, before: string): string {
  const kept = [...peers.keys()].some((test) => test.startsWith('FlexModel: ')) ? [] : flexModelRows(before);
  return `<!-- Written by \`npm run conformance\`. -->
# What was held against plain torch

Every case runs through the SDK on a deployment of \`models/tiny-facts\` per mesh, and once on the unsharded model in one process
with plain torch hooks, autograd and optimisers (\`tests/support/reference.py\`, which shares no code with the product). A cell is
the largest difference of any logit, captured activation or gradient, in units of max(1, largest expected value). The
tolerance is ${tolerance.toExponential(0)}: float32 keeps 24 bits, and only the order of the sums of row-parallel maps differs. A case
whose edit does not move the logits by more than 1e-3 fails. Wider: [architectures](models.md) and [jobs drawn at random](drawn-jobs.md),
with what is refused and why.

${table('case', measured, 'not shown').join('\n')}

## Other tools

The same experiments in nnsight 0.8.1, unsharded, and in FlexModel 0.1.0 on two ranks, with their own code
(\`tests/translations\`). A cell is the largest difference to ours; where the other tool is wrong, the row says what it does
and what we do instead, and the test asserts both. FlexModel runs where \`PATCHBAY_FLEXMODEL\` names a checkout of
github.com/VectorInstitute/flex_model (\`npm run differential\`); its rows stay as they were last shown.

${[...table('experiment', peers, ''), ...kept].join('\n')}

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
