/** `patchbay show`: the tensors of a folder that `run --out` wrote; one of them as a heat map. @module */
import { readFileSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { heatmap, summarise, toSvg, toTerminal, type Heatmap } from '@patchbay/charts';
import { error, nearest } from '@patchbay/protocol';
import { readSafetensors, type Tensor } from '@patchbay/sdk';
import { defineCommand, positional, text } from '../define-command.js';
import { notWritable } from './output-path.js';
import { coloured, table } from '../output.js';

/** What fits beside each other in a terminal; a picture has all. */
const CELL = 8;
const MAX_ROWS = 40;

function readFolder(folder: string): Map<string, Tensor> {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
  } catch (cause) {
    throw error(
      'PB_USAGE',
      { reason: `${folder} cannot be read: ${(cause as Error).message}`, command: 'show' },
      { cause },
    );
  }
  if (names.length === 0)
    throw error(
      'PB_USAGE',
      { reason: `${folder} has no tensors`, command: 'show' },
      { hint: 'Name a folder that `patchbay run --out` wrote.' },
    );
  return new Map(
    names.sort().flatMap((name) => {
      const file = name.replace(/\.safetensors$/, '');
      return [...readSafetensors(readFileSync(join(folder, name)))].map(
        ([key, value]) => [`${file}:${key}`, value] as const,
      );
    }),
  );
}

function find(tensors: ReadonlyMap<string, Tensor>, wanted: string): [string, Tensor] {
  const found = [...tensors].filter(([name]) => name === wanted || name.slice(name.indexOf(':') + 1) === wanted);
  if (found.length > 0) return found[0]!;
  const near = nearest(wanted, [...tensors.keys()]);
  const hint = `There are ${(near.length > 0 ? near : [...tensors.keys()].slice(0, 5)).join(', ') || 'none'}.`;
  throw error('PB_TENSOR_NOT_FOUND', { tensor: wanted }, { hint });
}

/** The last two dims; the leading ones are put below each other. */
function toRows(name: string, tensor: Tensor): Heatmap {
  const width = tensor.shape.at(-1) ?? 1;
  const values = tensor.toFloat32();
  const rows = Array.from({ length: Math.ceil(values.length / width) }, (_, row) =>
    Array.from(values.subarray(row * width, (row + 1) * width)),
  );
  return { title: `${name} ${tensor.dtype} [${tensor.shape.join(', ')}]`, values: rows };
}

function draw(map: Heatmap): string {
  const columns = Math.max(1, Math.floor(((process.stdout.columns ?? 100) - 6) / CELL));
  const values = map.values.slice(0, MAX_ROWS).map((row) => Array.from(row).slice(0, columns));
  const [rows, width] = [map.values.length, map.values[0]?.length ?? 0];
  const cut = rows > values.length || width > columns;
  const note = cut
    ? `\nthe first ${values.length} of ${rows} rows, ${Math.min(columns, width)} of ${width} columns; --svg has all`
    : '';
  const named = { ...map, values, rows: values.map((_, row) => String(row)) };
  return toTerminal(named, coloured()) + note;
}

export const show = defineCommand({
  name: 'show',
  summary: 'List the tensors of a result folder, or draw one as a heat map',
  args: {
    folder: positional('folder that `run --out` wrote'),
    tensor: text('name of a tensor, as the list has it', { positional: true }),
    svg: text('write the picture to this file', { value: 'file' }),
  },
  examples: ['patchbay show out/first', 'patchbay show out/first save_ctx:total --svg total.svg'],
  async run({ args, out }) {
    const tensors = readFolder(args.folder);
    if (args.tensor === undefined) {
      const rows = [...tensors].map(([name, value]) => ({ name, ...value.toJSON(), ...summarise(value.toFloat32()) }));
      out.data({ tensors: rows }, () =>
        table(
          ['TENSOR', 'DTYPE', 'SHAPE', 'MEAN', 'MIN', 'MAX'],
          rows.map(({ name, dtype, shape, mean, low, high }) => [
            name, dtype, `[${shape.join(', ')}]`, ...[mean, low, high].map((value) => value.toPrecision(4)),
          ]), // prettier-ignore
        ),
      );
      return undefined;
    }
    const [name, tensor] = find(tensors, args.tensor);
    const map = toRows(name, tensor);
    if (args.svg !== undefined) {
      await writeFile(args.svg, toSvg(heatmap(map))).catch((cause: unknown) => {
        throw notWritable(args.svg!, 'show', cause);
      });
      out.progress(`written to ${args.svg}`);
    }
    out.data({ name, ...tensor.toJSON(), values: tensor.toNested() }, () => draw(map));
    return undefined;
  },
});
