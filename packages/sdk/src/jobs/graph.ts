/** Graph edits written as expressions: what a script builds here is data, which the ranks compute beside their weights. @module */
import { error, type GraphStep } from '@patchbay/protocol';
import type { ArtifactRef } from '../artifacts.js';
import type { HookSpec } from './hook-function.js';

type GraphEdit = Extract<NonNullable<HookSpec['edit']>, { kind: 'graph' }>;
/** What an operation of a graph takes beside its tensor. */
export type GraphOperand = GraphTensor | number;
type Options = Readonly<Record<string, unknown>>;

/** Where it comes from: the input or a constant, by name, or an operation. */
type Origin =
  string | { readonly op: GraphStep['op']; readonly args: readonly GraphOperand[]; readonly options: Options };

/**
 * A tensor of a graph: has no values yet. Every method gives a new one; names and meanings are torch's, with broadcasting.
 * A `dim` counts from the last one and is negative: how many dims hold tokens depends on the module and on `where`.
 */
export class GraphTensor {
  /** @internal */
  readonly origin: Origin;

  /** @internal */
  constructor(origin: Origin) {
    this.origin = origin;
  }

  #step(op: GraphStep['op'], args: readonly GraphOperand[] = [], options: Options = {}): GraphTensor {
    return new GraphTensor({ op, args: [this, ...args], options });
  }

  // value by value
  readonly abs = (): GraphTensor => this.#step('abs');
  readonly neg = (): GraphTensor => this.#step('neg');
  readonly sign = (): GraphTensor => this.#step('sign');
  readonly square = (): GraphTensor => this.#step('square');
  readonly sqrt = (): GraphTensor => this.#step('sqrt');
  readonly rsqrt = (): GraphTensor => this.#step('rsqrt');
  readonly exp = (): GraphTensor => this.#step('exp');
  readonly log = (): GraphTensor => this.#step('log');
  readonly sigmoid = (): GraphTensor => this.#step('sigmoid');
  readonly tanh = (): GraphTensor => this.#step('tanh');
  readonly relu = (): GraphTensor => this.#step('relu');
  readonly gelu = (): GraphTensor => this.#step('gelu');
  readonly silu = (): GraphTensor => this.#step('silu');
  readonly isnan = (): GraphTensor => this.#step('isnan');
  readonly add = (other: GraphOperand): GraphTensor => this.#step('add', [other]);
  readonly sub = (other: GraphOperand): GraphTensor => this.#step('sub', [other]);
  readonly mul = (other: GraphOperand): GraphTensor => this.#step('mul', [other]);
  readonly div = (other: GraphOperand): GraphTensor => this.#step('div', [other]);
  readonly pow = (other: GraphOperand): GraphTensor => this.#step('pow', [other]);
  readonly minimum = (other: GraphOperand): GraphTensor => this.#step('minimum', [other]);
  readonly maximum = (other: GraphOperand): GraphTensor => this.#step('maximum', [other]);
  /** Without a bound on the side that is left out. */
  readonly clamp = (bounds: { readonly min?: number; readonly max?: number }): GraphTensor =>
    this.#step('clamp', [], bounds);

  // comparisons and logic: booleans, for `where`
  readonly eq = (other: GraphOperand): GraphTensor => this.#step('eq', [other]);
  readonly ne = (other: GraphOperand): GraphTensor => this.#step('ne', [other]);
  readonly lt = (other: GraphOperand): GraphTensor => this.#step('lt', [other]);
  readonly le = (other: GraphOperand): GraphTensor => this.#step('le', [other]);
  readonly gt = (other: GraphOperand): GraphTensor => this.#step('gt', [other]);
  readonly ge = (other: GraphOperand): GraphTensor => this.#step('ge', [other]);
  readonly logicalAnd = (other: GraphTensor): GraphTensor => this.#step('logical_and', [other]);
  readonly logicalOr = (other: GraphTensor): GraphTensor => this.#step('logical_or', [other]);
  readonly logicalNot = (): GraphTensor => this.#step('logical_not');
  /** Of a boolean tensor: the first value where it holds, the second elsewhere. */
  readonly where = (then: GraphOperand, otherwise: GraphOperand): GraphTensor => this.#step('where', [then, otherwise]);

  // along a dim, which is kept
  readonly sum = (dim: number): GraphTensor => this.#step('sum', [], { dim });
  readonly mean = (dim: number): GraphTensor => this.#step('mean', [], { dim });
  readonly amax = (dim: number): GraphTensor => this.#step('amax', [], { dim });
  readonly amin = (dim: number): GraphTensor => this.#step('amin', [], { dim });
  /** The Euclidean one. */
  readonly norm = (dim: number): GraphTensor => this.#step('norm', [], { dim });
  readonly softmax = (dim: number): GraphTensor => this.#step('softmax', [], { dim });
  readonly cumsum = (dim: number): GraphTensor => this.#step('cumsum', [], { dim });

  readonly matmul = (other: GraphTensor): GraphTensor => this.#step('matmul', [other]);
  /** These places of the dim get the value: neurons or heads that are taken out. */
  readonly fill = (dim: number, indices: readonly number[], value = 0): GraphTensor =>
    this.#step('fill', [], { dim, indices: [...indices], value });
  /** One dim becomes several: `unflatten(-1, [heads, width])`. */
  readonly unflatten = (dim: number, sizes: readonly number[]): GraphTensor =>
    this.#step('unflatten', [], { dim, sizes: [...sizes] });
  /** The dim and the one behind it become one: `flatten(-2)`. */
  readonly flatten = (dim: number): GraphTensor => this.#step('flatten', [], { dim });
  /** To the shape of the input. */
  readonly expand = (): GraphTensor => this.#step('expand');
}

/**
 * An edit that needs no sandbox and, where it can be computed shard by shard, moves nothing between ranks. The result has to
 * have the shape and dtype of `x`; floating constants are used in its dtype.
 * @param build - gets what the hook sees, and the constants by their names
 * @param tensors - constants, uploaded: each the one tensor of its artifact, or the one of its name
 * @throws `PB_DOCUMENT_INVALID` when nothing is computed
 * @example
 * const v = await pb.artifacts.upload({ v: tensor(direction) });
 * new HookFunction({ moduleName: 'model.layers.3', edit: graph((x, { v }) => x.add(v.mul(4)), { v }) });
 */
export function graph<Name extends string = never>(
  build: (x: GraphTensor, tensors: Readonly<Record<Name, GraphTensor>>) => GraphTensor,
  tensors: Readonly<Record<Name, ArtifactRef>> = {} as Record<Name, ArtifactRef>,
): GraphEdit {
  const constants = Object.keys(tensors).map((name) => [name, new GraphTensor(name)] as const);
  const result = build(new GraphTensor('x'), Object.fromEntries(constants) as Record<Name, GraphTensor>);
  const steps = stepsOf(result, Object.keys(tensors));
  return { kind: 'graph', tensors, steps };
}

/** In the order in which they are computed, each once; what a later one uses has a name. */
function stepsOf(result: GraphTensor, taken: readonly string[]): GraphStep[] {
  if (typeof result.origin === 'string') {
    throw error(
      'PB_DOCUMENT_INVALID',
      { reason: `the graph gives "${result.origin}" back as it is` },
      { path: 'edit' },
    );
  }
  const names = new Map<GraphTensor, string>();
  const steps: GraphStep[] = [];
  const nameOf = (value: GraphTensor): string => {
    if (typeof value.origin === 'string') return value.origin;
    const known = names.get(value);
    if (known !== undefined) return known;
    const { op, args, options } = value.origin;
    const operands = args.map((each) => (each instanceof GraphTensor ? nameOf(each) : each));
    let name = `_${steps.length}`;
    while (taken.includes(name)) name = `_${name}`;
    names.set(value, name);
    steps.push({ op, args: operands, ...options, as: name } as GraphStep);
    return name;
  };
  nameOf(result);
  delete steps.at(-1)!.as;
  return steps;
}
