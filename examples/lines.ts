/** Draws series of numbers over labelled steps as an SVG picture. Knows nothing of models. */

export interface Lines {
  readonly title: string;
  readonly x: readonly (string | number)[];
  /** Name -> one value per x. */
  readonly series: Readonly<Record<string, readonly number[]>>;
}

const COLOURS = ['#4c2882', '#c2571a', '#1f7a5c', '#2166ac'];
const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [640, 340, 60, 60, 20, 50];

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** A self-contained SVG document. */
export function linesToSvg({ title, x, series }: Lines): string {
  const values = Object.values(series).flat();
  const [low, high] = [Math.min(0, ...values), Math.max(...values)];
  const across = (index: number): number => LEFT + (index * (WIDTH - LEFT - RIGHT)) / Math.max(1, x.length - 1);
  const down = (value: number): number =>
    HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - TOP - BOTTOM);
  const text = (left: number, top: number, content: string, more = ''): string =>
    `<text x="${left.toFixed(1)}" y="${top.toFixed(1)}" font-family="system-ui, sans-serif" font-size="13" ${more}>${escape(content)}</text>`;
  const marks = [low, (low + high) / 2, high].map(
    (value) =>
      `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${down(value).toFixed(1)}" y2="${down(value).toFixed(1)}" stroke="#ddd"/>` +
      text(LEFT - 8, down(value) + 4, Number(value.toPrecision(3)).toString(), 'text-anchor="end"'),
  );
  const every = Math.ceil(x.length / 12);
  const names = x.map((name, index) =>
    index % every === 0 ? text(across(index), HEIGHT - BOTTOM + 22, String(name), 'text-anchor="middle"') : '',
  );
  const drawn = Object.entries(series).map(([name, points], index) => {
    const colour = COLOURS[index % COLOURS.length]!;
    const path = points.map((value, at) => `${across(at).toFixed(1)},${down(value).toFixed(1)}`).join(' ');
    return (
      `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2.5"/>` +
      text(LEFT + index * 150, TOP - 14, name, `fill="${colour}"`)
    );
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escape(title)}">`,
    '<rect width="100%" height="100%" fill="white"/>',
    text(20, 26, title, 'font-weight="600"'),
    ...marks,
    ...names,
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
}
