/**
 * Graph edits: an editing function as a list of tensor operations, which the ranks compute themselves. Names and meanings
 * are torch's. Not here: names of operands and shapes, which are held against the model (hooks/graph in worker-py).
 * @module
 */
import { z } from 'zod';

/** Of one tensor, value by value. */
export const UNARY = [
  'abs', 'neg', 'sign', 'square', 'sqrt', 'rsqrt', 'exp', 'log', 'sigmoid', 'tanh', 'relu', 'gelu', 'silu', 'isnan',
  'logical_not',
] as const; // prettier-ignore
/** Of two, with torch's broadcasting; comparisons and logic give booleans. */
export const BINARY = [
  'add', 'sub', 'mul', 'div', 'pow', 'minimum', 'maximum', 'eq', 'ne', 'lt', 'le', 'gt', 'ge', 'logical_and', 'logical_or',
] as const; // prettier-ignore
/** Along a dim, which is kept: reductions leave it with size 1, `softmax` and `cumsum` as it was. */
export const ALONG = ['sum', 'mean', 'amax', 'amin', 'norm', 'softmax', 'cumsum'] as const;

/** Counted from the last one: how many dims hold tokens depends on the module and on `where`. */
const dim = z.int().min(-8).max(-1);
/** A name that later operands may use; the last step needs none. */
const as = z
  .string()
  .regex(/^[A-Za-z_]\w{0,63}$/)
  .optional();
/** A number, or the name of a tensor: `x` (what the hook sees), one of `tensors`, an earlier step. */
const operand = z.union([z.number(), z.string().min(1).max(64)]);
const args = (count: number): z.ZodArray<typeof operand> => z.array(operand).length(count);
const size = z
  .int()
  .min(1)
  .max(1 << 20);

/** One operation. */
export const graphStep = z.discriminatedUnion('op', [
  z.strictObject({ op: z.enum(UNARY), args: args(1), as }),
  z.strictObject({ op: z.enum(BINARY), args: args(2), as }),
  z.strictObject({ op: z.enum(ALONG), args: args(1), dim, as }),
  /** Condition, value where it holds, value elsewhere. */
  z.strictObject({ op: z.literal('where'), args: args(3), as }),
  z.strictObject({ op: z.literal('clamp'), args: args(1), min: z.number().optional(), max: z.number().optional(), as }),
  z.strictObject({ op: z.literal('matmul'), args: args(2), as }),
  /** torch's `index_fill`: these places of the dim get the value. */
  z.strictObject({
    op: z.literal('fill'),
    args: args(1),
    dim,
    indices: z.array(z.int().min(0)).min(1).max(16_384),
    value: z.number(),
    as,
  }),
  /** One dim becomes several, such as heads and what each has. */
  z.strictObject({ op: z.literal('unflatten'), args: args(1), dim, sizes: z.array(size).min(2).max(4), as }),
  /** The dim and the one behind it become one. */
  z.strictObject({ op: z.literal('flatten'), args: args(1), dim, as }),
  /** To the shape of `x`. */
  z.strictObject({ op: z.literal('expand'), args: args(1), as }),
]);
export type GraphStep = z.input<typeof graphStep>;
