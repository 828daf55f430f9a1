/** The safetensors reader refuses every malformed file; what is written is read. Golden files: packages/sdk/test/tensor.test.ts. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  DTYPES,
  encodeSafetensors,
  headerEnd,
  isPatchbayError,
  parseSafetensors,
  parseSafetensorsHeader,
  type RawTensor,
  type SafetensorsDtype,
} from '../src/index.js';

/** A file with this header, as it stands, and this many bytes of values. */
function file(header: unknown, values = 0, length?: number | bigint): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(length ?? text.byteLength));
  return Buffer.concat([start, text, Buffer.alloc(values)]);
}

function refused(bytes: Uint8Array, reason: RegExp): void {
  assert.throws(
    () => parseSafetensors(bytes),
    (problem: unknown) => isPatchbayError(problem, 'PB_SAFETENSORS_INVALID') && reason.test(problem.message),
    String(reason),
  );
}

const f32 = (shape: unknown, from: number, to: number): object => ({ dtype: 'F32', shape, data_offsets: [from, to] });

describe('safetensors', () => {
  it('refuses what is not a file of this format', () => {
    refused(new Uint8Array(), /has 0 bytes/);
    refused(file({}).subarray(0, 7), /has 7 bytes/);
    refused(file({}, 0, 3), /header ends at byte 11, the file has 10/);
    refused(file({}, 0, 100_000_001), /over the limit/);
    refused(file({}, 0, 2n ** 64n - 1n), /over the limit/);
    refused(file('[]'), /does not start with/);
    refused(file(' {}'), /does not start with/);
    refused(file('{"a"'), /not UTF-8 JSON/);
    refused(Buffer.concat([file('{"a":"', 0, 9), Buffer.from([0xff, 0x22, 0x7d])]), /not UTF-8 JSON/);
  });

  it('refuses entries that do not fit together', () => {
    refused(file({ a: f32([1], 0, 4) }, 3), /end at byte .* the file has/);
    refused(file({ a: f32([1], 0, 4) }, 5), /end at byte .* the file has/);
    refused(file({ a: f32([1], 4, 8) }, 8), /hole of 4 bytes/);
    refused(file({ a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12), /hole of 4 bytes before tensor "b"/);
    refused(file({ a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8), /"b" overlaps/);
    refused(file({ a: f32([1], 0, 4), b: f32([1], 0, 4) }, 4), /overlaps/);
    refused(file({ a: f32([2], 0, 4) }, 4), /takes 8 bytes, its offsets span 4/);
    refused(file({ a: f32([1], 4, 0) }, 4), /offsets span -4/);
    refused(file({ a: f32([-1], 0, 4) }, 4), /"a": shape\.0/);
    refused(file({ a: f32([0.5], 0, 2) }, 2), /"a": shape\.0/);
    refused(file({ a: f32([2 ** 40, 2 ** 40], 0, 4) }, 4), /too large/);
    refused(file({ a: f32('x', 0, 4) }, 4), /"a": shape/);
    refused(file({ a: { ...f32([1], 0, 4), dtype: 'F4' } }, 4), /"a": dtype/);
    refused(file({ a: { ...f32([1], 0, 4), more: 1 } }, 4), /"a"/);
    refused(file({ a: null }), /"a"/);
    refused(file({ __metadata__: { x: 1 } }), /object of strings/);
    refused(file({ __metadata__: [] }), /object of strings/);
  });

  it('reads empty files, empty tensors, padded headers and odd names', () => {
    assert.equal(parseSafetensors(file({})).size, 0);
    assert.equal(parseSafetensors(file('{}      ')).size, 0);
    const odd = file(
      '{"__proto__":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}',
      1,
    );
    assert.deepEqual(
      [...parseSafetensors(odd)].map(([name, { shape }]) => [name, shape]),
      [
        ['__proto__', [0, 3]],
        ['', []],
      ],
    );
  });

  it('tells where the header ends before all of it is there', () => {
    const bytes = encodeSafetensors(new Map([['a', { dtype: 'F64', shape: [2], data: new Uint8Array(16) }]]), {
      by: 'test',
    });
    const end = headerEnd(bytes.subarray(0, 8), bytes.byteLength);
    const { tensors, metadata } = parseSafetensorsHeader(bytes.subarray(0, end), bytes.byteLength);
    assert.deepEqual(tensors.get('a'), { dtype: 'F64', shape: [2], begin: end, end: bytes.byteLength });
    assert.deepEqual(metadata, { by: 'test' });
    assert.equal(end % 8, 0, 'values are aligned');
    assert.throws(() => parseSafetensorsHeader(bytes.subarray(0, end - 1), bytes.byteLength), /were given/);
  });

  it('refuses to write what cannot be read', () => {
    assert.throws(
      () => encodeSafetensors(new Map([['a', { dtype: 'F32', shape: [2], data: new Uint8Array(4) }]])),
      /takes 8 bytes/,
    );
    assert.throws(
      () => encodeSafetensors(new Map([['__metadata__', { dtype: 'U8', shape: [], data: new Uint8Array(1) }]])),
      /__metadata__/,
    );
  });

  it('any tensors survive, aligned to their dtype', () => {
    const raw = fc
      .tuple(
        fc.constantFrom(...(Object.keys(DTYPES) as SafetensorsDtype[])),
        fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
      )
      .chain(([dtype, shape]) => {
        const bytes = shape.reduce((product, size) => product * size, DTYPES[dtype].bytes);
        return fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((data): RawTensor => ({ dtype, shape, data }));
      });
    const names = fc.string().filter((name) => name !== '__metadata__');
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(names, raw), { selector: ([name]) => name, maxLength: 6 }), (list) => {
        const bytes = encodeSafetensors(new Map(list));
        const back = parseSafetensors(bytes);
        assert.equal(back.size, list.length);
        for (const [name, tensor] of list) {
          const found = back.get(name)!;
          assert.deepEqual([found.dtype, found.shape, [...found.data]], [tensor.dtype, tensor.shape, [...tensor.data]]);
          if (found.data.byteLength > 0) assert.equal(found.data.byteOffset % DTYPES[found.dtype].bytes, 0);
        }
      }),
    );
  });

  it('a damaged file is read or refused, never anything else', () => {
    const whole = encodeSafetensors(
      new Map([
        ['a', { dtype: 'F32', shape: [2], data: new Uint8Array(8) }],
        ['b', { dtype: 'I8', shape: [3], data: new Uint8Array(3) }],
      ]),
    );
    fc.assert(
      fc.property(fc.nat(whole.byteLength - 1), fc.nat(255), fc.nat(whole.byteLength), (position, value, cut) => {
        const damaged = whole.slice(0, cut);
        if (position < cut) damaged[position] = value;
        try {
          for (const { data } of parseSafetensors(damaged).values()) assert.ok(data.byteLength <= damaged.byteLength);
        } catch (problem) {
          assert.ok(isPatchbayError(problem, 'PB_SAFETENSORS_INVALID'), String(problem));
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
