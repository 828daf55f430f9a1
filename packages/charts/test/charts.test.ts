/** Pictures: what is drawn, what is escaped, and that pixels, colours and numbers are right. */
import assert from 'node:assert/strict';
import { inflateSync } from 'node:zlib';
import {
  THEMES,
  barChart,
  colourAt,
  display,
  domainOf,
  formatNumber,
  formatTicks,
  gridToCsv,
  heatmap,
  histogram,
  histogramOf,
  inkOn,
  legible,
  lineChart,
  rasterUrl,
  sparkline,
  stackedBar,
  summarise,
  ticks,
  toSvg,
  toTerminal,
  tokenGrid,
  visible,
  type Scene,
} from '@patchbay/charts';

const HOSTILE = '<script>alert(1)</script>" onload="x\u0000\u202e\ud800 &amp;';

const scenes = (text: string): Record<string, Scene> => ({
  heatmap: heatmap({ title: text, rows: [text], columns: [text, 'b'], values: [[0.25, Number.NaN]], rowTitle: text }),
  tokenGrid: tokenGrid({
    title: text,
    rows: [text],
    columns: [text],
    cells: [[{ token: text, value: 0.5, more: [text] }]],
  }),
  histogram: histogram({ title: text, values: [1, 2, 2, 3], xTitle: text }),
  lineChart: lineChart({
    title: text,
    series: [
      { name: text, y: [1, null, 3] },
      { name: 'b', y: [2, 2, 2] },
    ],
  }),
  barChart: barChart({ title: text, bars: [{ name: text, value: 0.5 }] }),
  stackedBar: stackedBar(text, [
    { name: text, value: 3 },
    { name: 'b', value: 1 },
  ]),
});

describe('charts', () => {
  for (const [name, scene] of Object.entries(scenes(HOSTILE))) {
    it(`${name} shows hostile text as text`, () => {
      const svg = toSvg(scene);
      assert.doesNotMatch(svg, /<script|<foreignObject|\sonload="/);
      assert.match(svg, /&lt;script&gt;/);
      // eslint-disable-next-line no-control-regex -- control characters are what is looked for
      assert.doesNotMatch(svg, /[\u0000-\u0008]|\ud800/);
      assert.doesNotMatch(svg, /style=/, 'a strict content security policy blocks style attributes');
      assert.equal(svg.match(/<text/g)?.length, svg.match(/<\/text>/g)?.length);
    });
  }

  it('writes every cell of a small heat map with a colour that its number has', () => {
    const svg = toSvg(heatmap({ title: 't', values: [[0, 1]], rows: ['r'], columns: ['a', 'b'] }));
    assert.match(svg, /<title>r, a: 0<\/title><rect [^>]*fill="rgb\(0,34,78\)"/);
    assert.match(svg, /<title>r, b: 1<\/title><rect [^>]*fill="rgb\(254,232,56\)"/);
  });

  it('draws a large heat map as one picture with the same colours, a pixel per cell', () => {
    const values = Array.from({ length: 100 }, (_, r) => Float32Array.from({ length: 700 }, (_, c) => r * 700 + c));
    values[3]![5] = Number.NaN;
    assert.match(toSvg(heatmap({ title: 't', values })), /<image [^>]*href="data:image\/png;base64,/);
    const png = Buffer.from(rasterUrl(values, { low: 0, high: 69_999 }, 'sequential').split(',')[1]!, 'base64');
    const chunks = new Map<string, Buffer>();
    for (let at = 8; at < png.length; at += 12 + png.readUInt32BE(at))
      chunks.set(png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + png.readUInt32BE(at)));
    assert.deepEqual([chunks.get('IHDR')!.readUInt32BE(0), chunks.get('IHDR')!.readUInt32BE(4)], [700, 100]);
    const pixels = inflateSync(chunks.get('IDAT')!);
    const colour = (r: number, c: number): number[] => {
      const shade = pixels[r * 701 + 1 + c]! * 3;
      return [...chunks.get('PLTE')!.subarray(shade, shade + 3)];
    };
    assert.deepEqual(colour(0, 0), [...colourAt(0)]);
    assert.deepEqual(colour(99, 699), [...colourAt(1)]);
    assert.deepEqual(colour(3, 5), [190, 190, 198]);
  });

  it('has scales whose lightness only rises, and ink that can be read on all of them', () => {
    const light = ([r, g, b]: readonly [number, number, number]): number => 0.2126 * r + 0.7152 * g + 0.0722 * b;
    for (let step = 1; step <= 50; step++) {
      assert.ok(light(colourAt(step / 50)) > light(colourAt((step - 1) / 50)), `step ${step}`);
      assert.notDeepEqual(colourAt(step / 50, 'diverging'), colourAt((step - 1) / 50, 'diverging'));
    }
    assert.deepEqual(inkOn([255, 255, 255]), [0, 0, 0]);
    assert.deepEqual(inkOn([0, 34, 78]), [255, 255, 255]);
  });

  it('summarises values with their exceptions', () => {
    const summary = summarise([1, 2, 3, 4, 0, Number.NaN, Infinity]);
    assert.deepEqual(
      [summary.count, summary.mean, summary.low, summary.high, summary.zeros, summary.notANumber, summary.infinite],
      [7, 2, 0, 4, 1, 1, 1],
    );
    assert.ok(Math.abs(summary.deviation - Math.SQRT2) < 1e-12);
    assert.deepEqual(histogramOf([0, 1, 2, 3, 4, Number.NaN], 4).counts, [1, 1, 1, 2]);
  });

  it('finds domains and round ticks', () => {
    assert.deepEqual(domainOf([3, -1, Number.NaN], 'diverging'), { low: -3, high: 3 });
    assert.deepEqual(domainOf([2, 2]), { low: 0, high: 2 });
    assert.deepEqual(ticks({ low: 0, high: 1 }, 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
    assert.deepEqual(formatTicks([-40, -20, 0, 20]), ['-40', '-20', '0', '20']);
    assert.deepEqual(formatTicks([-0.2, -0, 0.2]), ['-0.2', '0.0', '0.2']);
    assert.deepEqual(formatTicks([0, 0.05, 0.1]), ['0.00', '0.05', '0.10']);
    assert.deepEqual(formatTicks([0, 2e5]), ['0', '2.0e5']);
    assert.deepEqual([-0.0001, 0, 1234.5, 0.5, 2e-7].map(formatNumber), ['-1.0e-4', '0', '1235', '0.500', '2.0e-7']);
  });

  it('makes what cannot be seen visible', () => {
    assert.equal(visible(' Paris\n'), '·Paris⏎');
    assert.equal(visible('a\u202eb\u0007'), 'a\\u202eb␇');
  });

  it('leaves lines as they are', () => {
    assert.equal(legible('  a\n\tb\u202e\u001b[1m'), '  a\n\tb\\u202e␛[1m');
  });

  it('writes CSV that no spreadsheet takes for a formula', () => {
    assert.equal(gridToCsv([[1, -2]], ['=cmd|x'], ['a,"b"', 'c']), ',"a,""b""",c\r\n\'=cmd|x,1,-2\r\n');
  });

  it('prints for terminals, with colours only when asked', () => {
    const map = { title: 't', rows: ['l0'], columns: ['a'], values: [[0.5]] };
    assert.equal(toTerminal(map, false), 't\n         a\nl0  0.500  ');
    // eslint-disable-next-line no-control-regex -- control characters are what is looked for
    assert.match(toTerminal(map, true), /\u001b\[48;2;/);
    assert.equal(sparkline([0, 0.5, 1]), '▁▅█');
  });

  it('is shown by notebooks', () => {
    const shown = display(heatmap({ title: 't', values: [[1]] }, THEMES.dark), 'text');
    const bundle = shown[Symbol.for('Jupyter.display') as unknown as keyof typeof shown] as unknown as () => Record<
      string,
      string
    >;
    assert.deepEqual(Object.keys(bundle()), ['image/svg+xml', 'text/plain']);
  });
});
