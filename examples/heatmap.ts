/** Draws a grid of numbers as coloured blocks in the terminal and as an SVG picture. Knows nothing of models. */

export interface Heatmap {
  readonly title: string;
  readonly rows: readonly string[];
  readonly columns: readonly string[];
  /** One list per row; 0 is white, 1 the full colour, values outside are cut. */
  readonly values: readonly (readonly number[])[];
  /** What stands in the cells instead of the numbers. */
  readonly labels?: readonly (readonly string[])[];
}

type Rgb = readonly [number, number, number];
const EMPTY: Rgb = [247, 247, 250];
const FULL: Rgb = [76, 40, 130];

function colour(value: number): Rgb {
  const share = Math.min(1, Math.max(0, value));
  const mix = (index: 0 | 1 | 2): number => Math.round(EMPTY[index] + (FULL[index] - EMPTY[index]) * share);
  return [mix(0), mix(1), mix(2)];
}

function ink(value: number): Rgb {
  return value > 0.5 ? [255, 255, 255] : [40, 40, 40];
}

/** Two decimals, and no minus sign before a zero. */
function label(value: number): string {
  return value.toFixed(2).replace(/^-(0\.00)$/, '$1');
}

/** Text for a terminal; plain numbers when `colours` is false. */
export function toTerminal(map: Heatmap, colours: boolean): string {
  const margin = Math.max(...map.rows.map((row) => row.length));
  const words = [...map.columns, ...(map.labels ?? []).flat()];
  const width = Math.max(7, ...words.map((word) => word.length + 2));
  const cell = (value: number, word: string | undefined): string => {
    const text = (word ?? label(value)).padStart(width - 2).padEnd(width);
    if (!colours) return text;
    return `\u001b[48;2;${colour(value).join(';')}m\u001b[38;2;${ink(value).join(';')}m${text}\u001b[0m`;
  };
  const header =
    ' '.repeat(margin + 2) + map.columns.map((column) => column.padStart(width - 1).padEnd(width)).join('');
  const lines = map.values.map(
    (row, index) =>
      `${(map.rows[index] ?? '').padStart(margin)}  ${row.map((value, column) => cell(value, map.labels?.[index]?.[column])).join('')}`,
  );
  return [map.title, header, ...lines].join('\n');
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** A self-contained SVG document. */
export function toSvg(map: Heatmap): string {
  const [left, top, width, height] = [110, 70, 92, 44];
  const text = (x: number, y: number, content: string, extra = ''): string =>
    `<text x="${x}" y="${y}" font-family="system-ui, sans-serif" font-size="14" ${extra}>${escape(content)}</text>`;
  const cells = map.values.flatMap((row, r) =>
    row.map((value, c) => {
      const [x, y] = [left + c * width, top + r * height];
      const box = `<rect x="${x}" y="${y}" width="${width - 2}" height="${height - 2}" rx="4" fill="rgb(${colour(value).join(',')})"/>`;
      return (
        box +
        text(
          x + width / 2 - 1,
          y + height / 2 + 4,
          map.labels?.[r]?.[c] ?? label(value),
          `text-anchor="middle" fill="rgb(${ink(value).join(',')})"`,
        )
      );
    }),
  );
  const columns = map.columns.map((name, c) =>
    text(left + c * width + width / 2, top - 10, name, 'text-anchor="middle"'),
  );
  const rows = map.rows.map((name, r) => text(left - 10, top + r * height + height / 2 + 4, name, 'text-anchor="end"'));
  const [w, h] = [left + map.columns.length * width + 20, top + map.rows.length * height + 20];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" role="img" aria-label="${escape(map.title)}">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    text(20, 28, map.title, 'font-weight="600"'),
    ...columns,
    ...rows,
    ...cells,
    '</svg>',
    '',
  ].join('\n');
}
