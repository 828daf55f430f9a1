/** Narrow float formats as numbers and back: bit patterns of float16, bfloat16 and the float8 kinds. @module */

const bits = new DataView(new ArrayBuffer(4));

function fromFloat32Bits(pattern: number): number {
  bits.setUint32(0, pattern);
  return bits.getFloat32(0);
}

function toFloat32Bits(value: number): number {
  bits.setFloat32(0, value);
  return bits.getUint32(0);
}

/** A float with its exponent and fraction below the sign bit; `finite` formats have no infinities. */
function decodeSmall(pattern: number, exponentBits: number, fractionBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = pattern >> (exponentBits + fractionBits) === 0 ? 1 : -1;
  const exponent = (pattern >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (pattern & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

function decodeIeee(pattern: number, exponentBits: number, fractionBits: number): number {
  const exponent = (pattern >> fractionBits) & (2 ** exponentBits - 1);
  if (exponent !== 2 ** exponentBits - 1) return decodeSmall(pattern, exponentBits, fractionBits);
  if ((pattern & (2 ** fractionBits - 1)) !== 0) return Number.NaN;
  return pattern >> (exponentBits + fractionBits) === 0 ? Infinity : -Infinity;
}

export const decodeFloat16 = (pattern: number): number => decodeIeee(pattern, 5, 10);
export const decodeBfloat16 = (pattern: number): number => fromFloat32Bits(pattern * 65536);

const table = (decode: (pattern: number) => number): Float32Array =>
  Float32Array.from({ length: 256 }, (_, pattern) => decode(pattern));
const E5M2 = table((pattern) => decodeIeee(pattern, 5, 2));
/** No infinities; only all ones is NaN. */
const E4M3 = table((pattern) => ((pattern & 0x7f) === 0x7f ? Number.NaN : decodeSmall(pattern, 4, 3)));
/** A power of two without sign; all ones is NaN. */
const E8M0 = table((pattern) => (pattern === 0xff ? Number.NaN : 2 ** (pattern - 127)));

/** Decoders of the dtypes that JavaScript has no typed array for. */
export const DECODERS = {
  float16: decodeFloat16,
  bfloat16: decodeBfloat16,
  float8_e5m2: (pattern: number) => E5M2[pattern]!,
  float8_e4m3fn: (pattern: number) => E4M3[pattern]!,
  float8_e8m0fnu: (pattern: number) => E8M0[pattern]!,
} as const;

/** Nearest value, ties to even, as torch rounds. */
export function encodeBfloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  const pattern = toFloat32Bits(value);
  const upper = pattern >>> 16;
  const rest = pattern & 0xffff;
  return rest > 0x8000 || (rest === 0x8000 && (upper & 1) === 1) ? upper + 1 : upper;
}

/** Nearest value, ties to even. */
export function encodeFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundToEven(size * 2 ** 24); // subnormal; a carry makes the smallest normal number
  const exponent = Math.floor(Math.log2(size));
  const exact = size >= 2 ** (exponent + 1) ? exponent + 1 : size < 2 ** exponent ? exponent - 1 : exponent; // log2 may be off by one
  return sign | (((exact + 15) << 10) + roundToEven((size / 2 ** exact - 1) * 1024)); // a carry goes into the exponent
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
