/** Reads the part of a tensor that is shown: from the result itself, or as a range of the artifact. @module */
import { Tensor, sizeOf } from '@patchbay/sdk/tensor';
import { DTYPES, type DtypeName, type SafetensorsDtype } from '@patchbay/protocol';
import { api, type JobResult, type TensorPlace } from '../api.js';

/** A page reads no more at once; of larger tensors the part along the first dim that fits. */
const MAX_BYTES = 32 * 2 ** 20;

export interface Part {
  readonly tensor: Tensor;
  /** Index of the first dim where the part starts; the part is all of the tensor unless `partial`. */
  readonly from: number;
  readonly partial: boolean;
}

function inlineBytes(result: JobResult, { file, begin, end }: TensorPlace): Uint8Array {
  const text = atob(result.files[file]?.inline ?? '');
  return Uint8Array.from({ length: end - begin }, (_, index) => text.charCodeAt(begin + index));
}

export const dtypeOf = (place: TensorPlace): DtypeName => DTYPES[place.dtype as SafetensorsDtype].name;

/** @param from - index of the first dim to start at when the tensor is too large to be read as a whole */
export async function readTensor(
  result: JobResult,
  place: TensorPlace,
  from: number,
  signal: AbortSignal,
): Promise<Part> {
  const whole = place.end - place.begin;
  const raw = (data: Uint8Array, shape: readonly number[]): Tensor =>
    Tensor.fromRaw({ dtype: place.dtype as SafetensorsDtype, shape, data });
  if (place.inline) return { tensor: raw(inlineBytes(result, place), place.shape), from: 0, partial: false };
  if (whole <= MAX_BYTES) {
    const data = whole === 0 ? new Uint8Array() : await api.bytes(place.sha256, place.begin, place.end, signal);
    return { tensor: raw(data, place.shape), from: 0, partial: false };
  }
  const [first = 1, ...others] = place.shape;
  const step = sizeOf(others) * DTYPES[place.dtype as SafetensorsDtype].bytes;
  const count = Math.max(1, Math.min(first - from, Math.floor(MAX_BYTES / step)));
  const begin = place.begin + from * step;
  const data = await api.bytes(place.sha256, begin, begin + count * step, signal);
  return { tensor: raw(data, [count, ...others]), from, partial: true };
}
