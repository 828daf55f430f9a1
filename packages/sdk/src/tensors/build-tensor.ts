/** Makes tensors from what a script has: nested arrays of numbers or typed arrays. @module */
import { error, type DtypeName } from '@patchbay/protocol';
import { encodeBfloat16, encodeFloat16 } from './float-formats.js';
import { Tensor, allocate, arrayType, sizeOf, type Nested, type Scalar, type TensorData } from './tensor.js';

/** dtype of a typed array when none is given. */
const NATURAL = [
  [Float32Array, 'float32'],
  [Float64Array, 'float64'],
  [BigInt64Array, 'int64'],
  [BigUint64Array, 'uint64'],
  [Int32Array, 'int32'],
  [Uint32Array, 'uint32'],
  [Int16Array, 'int16'],
  [Uint16Array, 'uint16'],
  [Int8Array, 'int8'],
  [Uint8Array, 'uint8'],
] as const;

const invalid = (reason: string): Error => error('PB_TENSOR_INVALID', { reason });

/**
 * A tensor of nested arrays (numbers are converted to `dtype`) or of a typed array (taken as it is, without a copy).
 * @param shape - default: that of the nested arrays, or one dim
 * @param dtype - default: that of the typed array, `bool` for booleans, `int64` for bigints, else `float32`
 * @throws `PB_TENSOR_INVALID`
 * @example tensor([[1, 2], [3, 4]]); tensor(new Uint16Array(bits), [2, 8], 'bfloat16');
 */
export function tensor(values: Nested | TensorData, shape?: readonly number[], dtype?: DtypeName): Tensor {
  if (ArrayBuffer.isView(values)) return fromTypedArray(values, shape, dtype);
  const found = shapeOf(values);
  const flat = (
    found.length === 0 ? [values] : (values as readonly unknown[]).flat(found.length - 1)
  ) as readonly Scalar[];
  if (flat.length !== sizeOf(found) || flat.some((value) => typeof value === 'object'))
    throw invalid('the nested arrays are ragged');
  const finalShape = shape ?? found;
  if (sizeOf(finalShape) !== flat.length)
    throw invalid(`${flat.length} values do not fill the shape ${JSON.stringify(finalShape)}`);
  const finalDtype = dtype ?? naturalDtype(flat[0]);
  return new Tensor(finalDtype, [...finalShape], convert(flat, finalDtype));
}

function fromTypedArray(data: TensorData, shape: readonly number[] | undefined, dtype: DtypeName | undefined): Tensor {
  const name = dtype ?? NATURAL.find(([type]) => data instanceof type)?.[1];
  if (name === undefined || !(data instanceof arrayType(name))) {
    throw invalid(
      `${data.constructor.name} cannot hold ${name}; it takes ${name === undefined ? 'another array' : arrayType(name).name}`,
    );
  }
  const length = name === 'complex64' ? data.length / 2 : data.length;
  const finalShape = shape ?? [length];
  if (sizeOf(finalShape) !== length)
    throw invalid(`${length} values of ${name} do not fill the shape ${JSON.stringify(finalShape)}`);
  return new Tensor(name, [...finalShape], data);
}

function shapeOf(values: Nested): number[] {
  const shape: number[] = [];
  for (let level: unknown = values; Array.isArray(level); level = (level as readonly unknown[])[0])
    shape.push(level.length);
  return shape;
}

function naturalDtype(value: Scalar | undefined): DtypeName {
  if (typeof value === 'boolean') return 'bool';
  return typeof value === 'bigint' ? 'int64' : 'float32';
}

function convert(values: readonly Scalar[], dtype: DtypeName): TensorData {
  if (dtype.startsWith('float8') || dtype === 'complex64') {
    throw error(
      'PB_NOT_SUPPORTED',
      { what: `converting numbers to ${dtype}` },
      { hint: 'Give a typed array with the bit patterns.' },
    );
  }
  const data = allocate(dtype, values.length);
  const encode = { float16: encodeFloat16, bfloat16: encodeBfloat16 }[dtype as string] ?? ((value: number) => value);
  const wide = data instanceof BigInt64Array || data instanceof BigUint64Array;
  for (const [index, value] of values.entries()) {
    if (wide) data[index] = BigInt(value as number | bigint | boolean);
    else (data as Uint8Array)[index] = encode(Number(value));
  }
  return data;
}
