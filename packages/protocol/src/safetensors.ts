/**
 * Reads and writes the safetensors format: 8 bytes of header length, a JSON header, then the values. Strict: what the
 * reference implementation refuses is refused here too. Not here: typed values (sdk), files and HTTP.
 * @module
 */
import { z } from 'zod';
import { error } from './errors.js';
import { DTYPES, type SafetensorsDtype } from './tensor.js';

/** The reference implementation reads no longer header. */
export const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;
const ALIGNMENT = 8;

/** One tensor as the header describes it: `begin` and `end` count from the start of the file. */
export interface TensorEntry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** A parsed header. */
export interface SafetensorsHeader {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor with its values as little-endian bytes in row-major order. */
export interface RawTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

const invalid = (reason: string): Error => error('PB_SAFETENSORS_INVALID', { reason });

const count = z.int().min(0);
const entrySchema = z.strictObject({
  dtype: z.enum(Object.keys(DTYPES) as [SafetensorsDtype, ...SafetensorsDtype[]]),
  shape: z.array(count),
  data_offsets: z.tuple([count, count]),
});
const metadataSchema = z.record(z.string(), z.string());

/**
 * Where the header ends: the values start there.
 * @param start - at least the first 8 bytes of the file
 * @param fileBytes - size of the whole file
 * @throws `PB_SAFETENSORS_INVALID`
 */
export function headerEnd(start: Uint8Array, fileBytes: number): number {
  if (start.byteLength < LENGTH_BYTES)
    throw invalid(`the file has ${start.byteLength} bytes, the header length alone takes 8`);
  const length = new DataView(start.buffer, start.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    throw invalid(`the header length ${length} is over the limit of ${MAX_HEADER_BYTES}`);
  const end = LENGTH_BYTES + Number(length);
  if (end > fileBytes) throw invalid(`the header ends at byte ${end}, the file has ${fileBytes}`);
  return end;
}

/**
 * Parses and checks a header.
 * @param start - the file's first bytes, at least up to the end of the header
 * @param fileBytes - size of the whole file
 * @throws `PB_SAFETENSORS_INVALID`
 */
export function parseSafetensorsHeader(start: Uint8Array, fileBytes: number): SafetensorsHeader {
  const base = headerEnd(start, fileBytes);
  if (start.byteLength < base) throw invalid(`the header needs ${base} bytes, ${start.byteLength} were given`);
  const { __metadata__: rawMetadata, ...entries } = parseJson(start.subarray(LENGTH_BYTES, base));
  const metadata = metadataSchema.safeParse(rawMetadata ?? {});
  if (!metadata.success) throw invalid('__metadata__ must be an object of strings');
  const tensors = new Map(Object.entries(entries).map(([name, value]) => [name, checkEntry(name, value, base)]));
  checkLayout(tensors, base, fileBytes);
  return { tensors, metadata: metadata.data };
}

function parseJson(bytes: Uint8Array): Record<string, unknown> {
  if (bytes[0] !== 0x7b) throw invalid('the header does not start with "{"');
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('the header is not UTF-8 JSON');
  }
  return header as Record<string, unknown>;
}

function checkEntry(name: string, value: unknown, base: number): TensorEntry {
  const parsed = entrySchema.safeParse(value);
  if (!parsed.success)
    throw invalid(`tensor "${name}": ${parsed.error.issues[0]!.path.join('.')}: ${parsed.error.issues[0]!.message}`);
  const { dtype, shape, data_offsets: offsets } = parsed.data;
  const bytes = shape.reduce((product, size) => product * size, DTYPES[dtype].bytes);
  if (!Number.isSafeInteger(bytes)) throw invalid(`tensor "${name}" is too large`);
  if (offsets[1] - offsets[0] !== bytes) {
    throw invalid(
      `tensor "${name}" of ${dtype} ${JSON.stringify(shape)} takes ${bytes} bytes, its offsets span ${offsets[1] - offsets[0]}`,
    );
  }
  return { dtype, shape, begin: base + offsets[0], end: base + offsets[1] };
}

/** Together the tensors cover the values exactly once: no overlap, no hole, nothing behind the last one. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, base: number, fileBytes: number): void {
  let position = base;
  for (const [name, entry] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (entry.begin < position) throw invalid(`tensor "${name}" overlaps the one before it`);
    if (entry.begin > position)
      throw invalid(`there is a hole of ${entry.begin - position} bytes before tensor "${name}"`);
    position = entry.end;
  }
  if (position !== fileBytes) throw invalid(`the tensors end at byte ${position}, the file has ${fileBytes}`);
}

/** Parses a whole file; the values are views on `file`. @throws `PB_SAFETENSORS_INVALID` */
export function parseSafetensors(file: Uint8Array): ReadonlyMap<string, RawTensor> {
  const { tensors } = parseSafetensorsHeader(file, file.byteLength);
  return new Map(
    [...tensors].map(([name, { dtype, shape, begin, end }]) => [
      name,
      { dtype, shape, data: file.subarray(begin, end) },
    ]),
  );
}

/**
 * Writes a file as the reference implementation does: widest dtype first, then by name, so that every tensor is aligned.
 * @throws `PB_SAFETENSORS_INVALID` when a tensor's bytes do not fit its shape
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, RawTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const order = [...tensors].sort(
    ([a, x], [b, y]) => DTYPES[y.dtype].bytes - DTYPES[x.dtype].bytes || (a < b ? -1 : 1),
  );
  const entries: [string, unknown][] = Object.keys(metadata).length === 0 ? [] : [['__metadata__', metadata]];
  let position = 0;
  for (const [name, { dtype, shape, data }] of order) {
    if (name === '__metadata__') throw invalid('no tensor can be named "__metadata__"');
    const bytes = shape.reduce((product, size) => product * size, DTYPES[dtype].bytes);
    if (bytes !== data.byteLength)
      throw invalid(
        `tensor "${name}" of ${dtype} ${JSON.stringify(shape)} takes ${bytes} bytes, ${data.byteLength} were given`,
      );
    entries.push([name, { dtype, shape, data_offsets: [position, position + bytes] }]);
    position += bytes;
  }
  const header = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const base = Math.ceil((LENGTH_BYTES + header.byteLength) / ALIGNMENT) * ALIGNMENT;
  const file = new Uint8Array(base + position).fill(0x20, 0, base);
  new DataView(file.buffer).setBigUint64(0, BigInt(base - LENGTH_BYTES), true);
  file.set(header, LENGTH_BYTES);
  let offset = base;
  for (const [, { data }] of order) {
    file.set(data, offset);
    offset += data.byteLength;
  }
  return file;
}
