/** A scene of the chart package as elements of the page: no text becomes markup on the way. With files to take away. @module */
import { rowsToCsv, toSvg, type HeatmapLayout, type Scene, type SceneNode, type Theme } from '@patchbay/charts';
import { h, type JSX, type VNode } from 'preact';
import { useCellDrag, type CellBox } from './drag-cells.js';
import { useTheme } from './theme.js';

function element(node: SceneNode | string): VNode | string {
  if (typeof node === 'string') return node;
  return h(node.tag, { ...node.attributes }, ...node.children.map(element));
}

export function save(name: string, content: Blob): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name.replace(/[^\w.-]+/g, '-').slice(0, 80);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function toPng(svg: string, scene: Scene): Promise<Blob> {
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.ceil(scene.width) * 2, Math.ceil(scene.height) * 2];
  canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob === null ? reject(new Error('no picture')) : resolve(blob)), 'image/png'),
  );
}

interface ChartProps {
  /** Drawn for the theme of the page, and in light for files. */
  readonly draw: (theme?: Theme) => Scene;
  readonly name: string;
  /** Of a heat map: a box of cells may be dragged. */
  readonly cells?: { readonly layout: HeatmapLayout; readonly select: (box: CellBox) => void };
  readonly rows?: () => readonly (readonly (string | number)[])[];
}

export function Chart({ draw, name, cells, rows }: ChartProps): JSX.Element {
  const { theme } = useTheme();
  const scene = draw(theme);
  const [width, height] = [Math.ceil(scene.width), Math.ceil(scene.height)];
  const { handlers, box } = useCellDrag(cells?.layout, (cut) => cells?.select(cut));
  const svg = (): string => toSvg(draw());
  return (
    <figure class="chart">
      <div class="chart-scroll" tabIndex={0} role="group" aria-label={scene.label}>
        <svg
          viewBox={`0 0 ${width} ${height}`}
          width={width}
          height={height}
          role="img"
          aria-label={scene.label}
          {...(cells !== undefined && { class: 'draggable', ...handlers })}
        >
          {scene.nodes.map(element)}
          {box}
        </svg>
      </div>
      <figcaption class="exports">
        <button type="button" onClick={() => save(`${name}.svg`, new Blob([svg()], { type: 'image/svg+xml' }))}>
          SVG
        </button>
        <button type="button" onClick={() => void toPng(svg(), draw()).then((blob) => save(`${name}.png`, blob))}>
          PNG
        </button>
        {rows === undefined ? null : (
          <button
            type="button"
            onClick={() => save(`${name}.csv`, new Blob([rowsToCsv(rows())], { type: 'text/csv' }))}
          >
            CSV
          </button>
        )}
      </figcaption>
    </figure>
  );
}
