/** Tensors: every dtype, exactly as torch has it; golden files in both directions against Python's safetensors. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { readSafetensors, tensor, writeSafetensors, type Tensor } from '../src/index.js';
import { encodeBfloat16, encodeFloat16 } from '../src/tensors/float-formats.js';
import { thrown } from './support/thrown.js';

const PYTHON = process.env['PATCHBAY_PYTHON'] ?? join(import.meta.dirname, '../../../.venv/bin/python');

function python(script: string, folder: string): string {
  const child = spawnSync(PYTHON, ['-c', script, folder], {
    encoding: 'utf8',
    timeout: 120_000,
    maxBuffer: 2 ** 26,
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  assert.equal(child.status, 0, child.error?.message ?? child.stderr);
  return child.stdout;
}

describe('Tensor', () => {
  const grid = tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);

  it('has the shape and dtype of what it is made from', () => {
    assert.deepEqual([grid.shape, grid.dtype, grid.size], [[2, 3], 'float32', 6]);
    assert.equal(tensor([true, false]).dtype, 'bool');
    assert.equal(tensor([1n]).dtype, 'int64');
    assert.deepEqual(tensor(5).shape, []);
    assert.equal(tensor(5).item(), 5);
    assert.deepEqual(tensor(new Uint16Array(6), [2, 3], 'bfloat16').shape, [2, 3]);
    assert.deepEqual(tensor([]).shape, [0]);
    assert.deepEqual(tensor([[], []]).shape, [2, 0]);
  });

  it('refuses what does not fit', async () => {
    for (const make of [
      () => tensor([[1], [2, 3]]),
      () => tensor([1, 2], [3]),
      () => tensor(new Uint8Array(4), [4], 'float32'),
      () => tensor([[1, 2], 3]),
    ]) {
      await thrown(make, 'PB_TENSOR_INVALID');
    }
    await thrown(() => grid.at(0), 'PB_TENSOR_INVALID');
    await thrown(() => grid.at(0, 3), 'PB_TENSOR_INVALID');
    await thrown(() => grid.at(0, 0.5), 'PB_TENSOR_INVALID');
    await thrown(() => grid.item(), 'PB_TENSOR_INVALID');
    await thrown(() => tensor([1], [1], 'float8_e5m2'), 'PB_NOT_SUPPORTED');
  });

  it('indexes and slices on the same memory', () => {
    assert.equal(grid.at(1, -1), 6);
    assert.deepEqual(grid.slice(1).toNested(), [4, 5, 6]);
    assert.deepEqual(grid.slice(null, [-2]).toNested(), [
      [2, 3],
      [5, 6],
    ]);
    assert.deepEqual([...grid.slice(null, 1).toFloat32()], [2, 5]);
    assert.deepEqual(grid.slice([0, 1], [1, 9]).slice(0, -1).item(), 3);
    assert.deepEqual(grid.slice([2]).shape, [0, 3]);
    assert.equal(grid.slice(1).data, grid.data);
    assert.equal(grid.toFloat32().buffer, (grid.data as Float32Array).buffer, 'no copy of float32');
  });

  it('a slice that is written holds only its own values', () => {
    const back = readSafetensors(writeSafetensors({ column: grid.slice(null, 1), row: grid.slice(1) }));
    assert.deepEqual(back.get('column')?.toNested(), [2, 5]);
    assert.deepEqual(back.get('row')?.toNested(), [4, 5, 6]);
  });

  it('rounds to bfloat16 and float16 as the nearest even value', () => {
    assert.equal(encodeFloat16(65519), 0x7bff);
    assert.equal(encodeFloat16(65520), 0x7c00);
    assert.equal(encodeFloat16(2 ** -25), 0);
    assert.equal(encodeFloat16(2 ** -24), 1);
    assert.equal(encodeFloat16(-0), 0x8000);
    assert.equal(encodeBfloat16(3.4e38), 0x7f80);
    assert.ok(Number.isNaN(Number(tensor([Number.NaN], [1], 'float16').item())));
  });

  it('every float16 and bfloat16 pattern survives decoding and encoding', () => {
    for (const [dtype, encode] of [
      ['float16', encodeFloat16],
      ['bfloat16', encodeBfloat16],
    ] as const) {
      const patterns = Uint16Array.from({ length: 65536 }, (_, pattern) => pattern);
      const values = tensor(patterns, undefined, dtype).toFloat32();
      const wrong = [...values].findIndex((value, pattern) => !Number.isNaN(value) && encode(value) !== pattern);
      assert.equal(wrong, -1, `${dtype} ${wrong}`);
    }
  });

  it('any tensor survives a file', () => {
    const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
    const some = fc.tuple(
      shapes,
      fc.constantFrom('float32', 'float64', 'int32', 'uint8', 'int64', 'bool', 'bfloat16') as fc.Arbitrary<'float32'>,
    );
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ minLength: 1 }).filter((name) => name !== '__metadata__'),
          some,
          { maxKeys: 6 },
        ),
        (plan) => {
          const tensors: Record<string, Tensor> = {};
          for (const [name, [shape, dtype]] of Object.entries(plan)) {
            const size = shape.reduce((product, dim) => product * dim, 1);
            Object.defineProperty(tensors, name, {
              value: tensor(
                Array.from({ length: size }, (_, index) => index % 2),
                shape,
                dtype,
              ),
              enumerable: true,
            });
          }
          const back = readSafetensors(writeSafetensors(tensors));
          assert.deepEqual([...back.keys()].sort(), Object.keys(tensors).sort());
          for (const [name, original] of Object.entries(tensors))
            assert.deepEqual(back.get(name)?.toNested(), original.toNested());
        },
      ),
    );
  });
});

describe('golden safetensors', function () {
  this.timeout(120_000); // importing torch
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'pb-golden-'))));
  after(() => rmSync(folder, { recursive: true }));

  it('reads what Python wrote: every dtype has the values that torch says', () => {
    const told = python(
      `
import json, sys, torch
from safetensors.torch import save_file
torch.manual_seed(0)
base = torch.randn(3, 5) * 3
names = ["float64", "float32", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
t = {n: base.abs().to(getattr(torch, n)) if n.startswith("u") else base.to(getattr(torch, n)) for n in names}
t["float16_all"] = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.float16)
t["bfloat16_all"] = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
for n in ("float8_e5m2", "float8_e4m3fn", "float8_e8m0fnu"):
    if hasattr(torch, n): t[n] = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(getattr(torch, n))
t["complex64"] = torch.complex(base, base + 1)
t["scalar"] = torch.tensor(2.5)
t["empty"] = torch.zeros(0, 3)
save_file({k: v.contiguous() for k, v in t.items()}, sys.argv[1] + "/python.safetensors", metadata={"made": "by python"})
def values(v):
    if v.dtype == torch.complex64: return torch.view_as_real(v).flatten().tolist()
    if v.is_floating_point(): v = v.to(torch.float64)
    return [None if x != x else str(x) if abs(x) == float("inf") else int(x) if isinstance(x, bool) else str(x) if isinstance(x, int) else x for x in v.flatten().tolist()]
print(json.dumps({k: [list(v.shape), str(v.dtype)[6:], values(v)] for k, v in t.items()}))
`,
      folder,
    );
    const expected = JSON.parse(told) as Record<string, [number[], string, (number | string | null)[]]>;
    const read = readSafetensors(readFileSync(join(folder, 'python.safetensors')));
    assert.deepEqual([...read.keys()].sort(), Object.keys(expected).sort());
    const plain = (value: unknown): unknown => {
      if (typeof value === 'number' && Number.isNaN(value)) return null;
      if (typeof value === 'number' && !Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
      return typeof value === 'boolean' ? Number(value) : value;
    };
    for (const [name, [shape, dtype, values]] of Object.entries(expected)) {
      const found = read.get(name)!;
      assert.deepEqual([found.shape, found.dtype], [shape, dtype]);
      const flat = shape.length === 0 ? [found.toNested()] : ([found.toNested()] as unknown[]).flat(Infinity);
      const integers = /^u?int/.test(dtype);
      assert.deepEqual(
        flat.map((value) => (integers ? String(value) : plain(value))),
        values,
        name,
      );
    }
  });

  it('Python reads what was written here', () => {
    const tensors = {
      f32: tensor([
        [1.5, -2],
        [3, 4],
      ]),
      f64: tensor([Math.PI], undefined, 'float64'),
      bf16: tensor([1, 1.00390625, 3.3e38], undefined, 'bfloat16'),
      f16: tensor([0.1, 65504, 6e-8, 2 ** -14 - 2 ** -25], undefined, 'float16'),
      i64: tensor([-5n, 2n ** 62n]),
      u64: tensor([2n ** 64n - 1n], undefined, 'uint64'),
      bool: tensor([[true], [false]]),
      f8: tensor(Uint8Array.of(0x38, 0xb8), undefined, 'float8_e4m3fn'),
      empty: tensor([], [0, 2]),
      scalar: tensor(7, [], 'int32'),
    };
    writeFileSync(join(folder, 'node.safetensors'), writeSafetensors(tensors, { made: 'by node' }));
    const told = python(
      `
import json, sys, torch
from safetensors import safe_open
from safetensors.torch import load_file
path = sys.argv[1] + "/node.safetensors"
t = load_file(path)
want = {
  "f32": torch.tensor([[1.5, -2], [3, 4]]), "f64": torch.tensor([3.141592653589793], dtype=torch.float64),
  "bf16": torch.tensor([1, 1.00390625, 3.3e38]).to(torch.bfloat16),
  "f16": torch.tensor([0.1, 65504, 6e-8, 2**-14 - 2**-25], dtype=torch.float64).to(torch.float16),
  "i64": torch.tensor([-5, 2**62]), "u64": torch.tensor([2**64 - 1], dtype=torch.uint64), "bool": torch.tensor([[True], [False]]),
  "f8": torch.tensor([1.0, -1.0]).to(torch.float8_e4m3fn), "empty": torch.zeros(0, 2), "scalar": torch.tensor(7, dtype=torch.int32),
}
same = {k: v.dtype == t[k].dtype and v.shape == t[k].shape and bytes(v.contiguous().view(-1).view(torch.uint8).tolist()) == bytes(t[k].contiguous().view(-1).view(torch.uint8).tolist()) if v.numel() else t[k].shape == v.shape for k, v in want.items()}
print(json.dumps([same, sorted(t) == sorted(want), safe_open(path, "pt").metadata()]))
`,
      folder,
    );
    const [same, all, metadata] = JSON.parse(told) as [Record<string, boolean>, boolean, Record<string, string>];
    assert.deepEqual(
      Object.entries(same).filter(([, equal]) => !equal),
      [],
    );
    assert.ok(all);
    assert.deepEqual(metadata, { made: 'by node' });
  });
});
