/** An array of numbers with a dtype and a shape, as a job returns it. Only reading; arithmetic belongs in Python. @module */
import { DTYPES, error, type DtypeName, type RawTensor, type SafetensorsDtype } from '@patchbay/protocol';
import { DECODERS } from './float-formats.js';

/** One value: a bigint for 64-bit integers, `[real, imaginary]` for complex numbers. */
export type Scalar = number | bigint | boolean | readonly [number, number];
/** Values as nested arrays. */
export type Nested = Scalar | readonly Nested[];

const ARRAYS = {
  bool: Uint8Array,
  uint8: Uint8Array,
  int8: Int8Array,
  float8_e5m2: Uint8Array,
  float8_e4m3fn: Uint8Array,
  float8_e8m0fnu: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  complex64: Float32Array,
} as const satisfies Record<DtypeName, unknown>;

/** The typed array of a tensor: raw bit patterns for float16, bfloat16 and float8, pairs for complex64. */
export type TensorData = InstanceType<(typeof ARRAYS)[DtypeName]>;

/** dtype name -> code of the safetensors header. */
export const CODES = Object.fromEntries(Object.entries(DTYPES).map(([code, { name }]) => [name, code])) as Record<
  DtypeName,
  SafetensorsDtype
>;

export const sizeOf = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

function rowMajor(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  for (let dim = shape.length - 1, step = 1; dim >= 0; dim--) {
    strides[dim] = step;
    step *= shape[dim]!;
  }
  return strides;
}

/** What to take of one dim: an index (the dim goes away), `[from, to]` (exclusive; negative counts from the end), or all. */
export type Slice = number | readonly [from: number, to?: number] | null;

export class Tensor {
  /** @internal Use `tensor()` or a result. */
  constructor(
    readonly dtype: DtypeName,
    readonly shape: readonly number[],
    /** The values, for `strides` and `offset`; the whole of it in row-major order unless the tensor is a slice. */
    readonly data: TensorData,
    /** Elements between neighbours of every dim. */
    readonly strides: readonly number[] = rowMajor(shape),
    /** Element of `data` where the tensor starts. */
    readonly offset = 0,
  ) {}

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  /** One element. @throws `PB_TENSOR_INVALID` outside of the shape */
  at(...indices: readonly number[]): Scalar {
    if (indices.length !== this.shape.length) throw badIndex(`${indices.length} indices for ${this.shape.length} dims`);
    const position = indices.reduce(
      (sum, index, dim) => sum + this.#index(index, dim) * this.strides[dim]!,
      this.offset,
    );
    return this.#value(position);
  }

  /** The only element of a tensor of one element. */
  item(): Scalar {
    if (this.size !== 1) throw badIndex(`item() of a tensor of ${this.size} elements`);
    return this.#value(this.offset);
  }

  /** A part of the tensor, on the same memory. `slice(0, null, [-2])`: first row, all positions, last two columns. */
  slice(...parts: readonly Slice[]): Tensor {
    if (parts.length > this.shape.length) throw badIndex(`${parts.length} slices for ${this.shape.length} dims`);
    const shape: number[] = [];
    const strides: number[] = [];
    let offset = this.offset;
    for (const [dim, size] of this.shape.entries()) {
      const part = parts[dim] ?? null;
      const stride = this.strides[dim]!;
      if (typeof part === 'number') {
        offset += this.#index(part, dim) * stride;
        continue;
      }
      const [from, to] = part === null ? [0, size] : [clamp(part[0], size), clamp(part[1] ?? size, size)];
      shape.push(Math.max(0, to - from));
      strides.push(stride);
      offset += from * stride;
    }
    return new Tensor(this.dtype, shape, this.data, strides, offset);
  }

  /** All values in row-major order as float32, whatever the dtype. A tensor that is float32 already gives its own memory. */
  toFloat32(): Float32Array {
    if (this.dtype === 'complex64') throw error('PB_NOT_SUPPORTED', { what: 'toFloat32() of complex64' });
    if (this.dtype === 'float32' && this.#contiguous())
      return (this.data as Float32Array).subarray(this.offset, this.offset + this.size);
    const values = new Float32Array(this.size);
    let index = 0;
    for (const position of this.#positions()) values[index++] = Number(this.#value(position));
    return values;
  }

  /** The values as nested arrays; a tensor without dims gives its value. */
  toNested(): Nested {
    const nest = (dim: number, position: number): Nested => {
      if (dim === this.shape.length) return this.#value(position);
      return Array.from({ length: this.shape[dim]! }, (_, index) =>
        nest(dim + 1, position + index * this.strides[dim]!),
      );
    };
    return nest(0, this.offset);
  }

  /** For safetensors: the values as bytes in row-major order. */
  toRaw(): RawTensor {
    const width = this.dtype === 'complex64' ? 2 : 1;
    const data = this.#contiguous()
      ? this.data.subarray(this.offset * width, (this.offset + this.size) * width)
      : this.#copy(width);
    return {
      dtype: CODES[this.dtype],
      shape: this.shape,
      data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    };
  }

  /** A tensor of a safetensors file; values that are not aligned in it are copied. */
  static fromRaw({ dtype: code, shape, data }: RawTensor): Tensor {
    const { name, bytes } = DTYPES[code];
    const unit = name === 'complex64' ? 4 : bytes;
    const aligned = data.byteOffset % unit === 0 ? data : data.slice();
    return new Tensor(
      name,
      shape,
      new ARRAYS[name](aligned.buffer as ArrayBuffer, aligned.byteOffset, aligned.byteLength / unit),
    );
  }

  toJSON(): { dtype: DtypeName; shape: readonly number[] } {
    return { dtype: this.dtype, shape: this.shape };
  }

  #index(index: number, dim: number): number {
    const size = this.shape[dim]!;
    const found = index < 0 ? index + size : index;
    if (!Number.isInteger(found) || found < 0 || found >= size)
      throw badIndex(`index ${index} in dim ${dim} of size ${size}`);
    return found;
  }

  #value(position: number): Scalar {
    if (this.dtype === 'complex64') return [Number(this.data[2 * position]!), Number(this.data[2 * position + 1]!)];
    const value = this.data[position]!;
    if (this.dtype === 'bool') return value !== 0;
    return this.dtype in DECODERS ? DECODERS[this.dtype as keyof typeof DECODERS](Number(value)) : value;
  }

  #contiguous(): boolean {
    const plain = rowMajor(this.shape);
    return this.shape.every((size, dim) => size === 1 || this.strides[dim] === plain[dim]);
  }

  *#positions(dim = 0, position = this.offset): Generator<number, void, undefined> {
    if (dim === this.shape.length) return yield position;
    for (let index = 0; index < this.shape[dim]!; index++)
      yield* this.#positions(dim + 1, position + index * this.strides[dim]!);
  }

  #copy(width: number): TensorData {
    const copy: TensorData = new ARRAYS[this.dtype](this.size * width);
    let index = 0;
    for (const position of this.#positions()) {
      for (let part = 0; part < width; part++)
        (copy as Uint8Array)[index++] = this.data[position * width + part] as number;
    }
    return copy;
  }
}

const clamp = (index: number, size: number): number => Math.min(size, Math.max(0, index < 0 ? index + size : index));

const badIndex = (reason: string): Error => error('PB_TENSOR_INVALID', { reason });

/** An empty typed array for a dtype. */
export function allocate(dtype: DtypeName, length: number): TensorData {
  return new ARRAYS[dtype](dtype === 'complex64' ? 2 * length : length);
}

export const arrayType = (dtype: DtypeName): (typeof ARRAYS)[DtypeName] => ARRAYS[dtype];
