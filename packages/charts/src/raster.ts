/**
 * Many cells as one small picture: a PNG with a palette, one pixel per cell, stored without compression, so that it needs no
 * library in any runtime. As SVG rectangles the same grid would be a hundred times as large.
 * @module
 */
import { MISSING, colourAt, type Rgb, type ScaleName } from './colour.js';
import { position, type Domain } from './domain.js';

const SHADES = 255;
const STORED_BYTES = 65_535;
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

const CRC = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function crc(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 0xff]! ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

function adler(bytes: Uint8Array): number {
  let [low, high] = [1, 0];
  for (const byte of bytes) {
    low = (low + byte) % 65521;
    high = (high + low) % 65521;
  }
  return ((high << 16) | low) >>> 0;
}

const big = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

function joined(parts: readonly ArrayLike<number>[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function chunk(name: string, body: Uint8Array): Uint8Array {
  const named = joined([Array.from(name, (letter) => letter.charCodeAt(0)), body]);
  return joined([big(body.length), named, big(crc(named))]);
}

/** zlib's frame around blocks that are not compressed. */
function stored(bytes: Uint8Array): Uint8Array {
  const parts: ArrayLike<number>[] = [[0x78, 0x01]];
  for (let at = 0; at < bytes.length || at === 0; at += STORED_BYTES) {
    const block = bytes.subarray(at, at + STORED_BYTES);
    const last = at + STORED_BYTES >= bytes.length ? 1 : 0;
    const size = [block.length & 255, block.length >>> 8];
    parts.push([last, ...size, ...size.map((part) => part ^ 255)], block);
  }
  return joined([...parts, big(adler(bytes))]);
}

function base64(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += 3) {
    const value = (bytes[at]! << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    const letters = [18, 12, 6, 0].map((shift) => BASE64[(value >>> shift) & 63]!);
    const kept = Math.min(4, bytes.length - at + 1);
    parts.push(letters.slice(0, kept).join('').padEnd(4, '='));
  }
  return parts.join('');
}

/** `data:image/png;base64,...` of a grid. */
export function rasterUrl(rows: readonly ArrayLike<number>[], domain: Domain, scale: ScaleName): string {
  const [height, width] = [rows.length, rows[0]?.length ?? 0];
  const pixels = new Uint8Array(height * (width + 1));
  rows.forEach((row, r) => {
    for (let column = 0; column < width; column++) {
      const share = position(row[column]!, domain);
      const shade = Number.isNaN(share) ? SHADES : Math.round(Math.min(1, Math.max(0, share)) * (SHADES - 1));
      pixels[r * (width + 1) + 1 + column] = shade;
    }
  });
  const palette: Rgb[] = Array.from({ length: SHADES }, (_, shade) => colourAt(shade / (SHADES - 1), scale));
  const header = Uint8Array.from([...big(width), ...big(height), 8, 3, 0, 0, 0]);
  const png = [
    Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('PLTE', Uint8Array.from([...palette, MISSING].flat())),
    chunk('IDAT', stored(pixels)),
    chunk('IEND', new Uint8Array()),
  ];
  return `data:image/png;base64,${base64(joined(png))}`;
}
