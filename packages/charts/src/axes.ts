/** The frame that charts with two axes share: title, grid lines, numbers along the sides. @module */
import { position, ticks, type Domain } from './domain.js';
import { label, node, round, type SceneNode } from './scene.js';
import { formatTicks } from './text.js';
import type { Theme } from './theme.js';

export interface Frame {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface Axes {
  readonly title: string;
  readonly x: Domain;
  readonly y: Domain;
  readonly xTitle?: string | undefined;
  readonly yTitle?: string | undefined;
}

export const atX = (value: number, frame: Frame, domain: Domain): number =>
  round(frame.left + position(value, domain) * frame.width);
export const atY = (value: number, frame: Frame, domain: Domain): number =>
  round(frame.top + (1 - position(value, domain)) * frame.height);

export function axes({ title, x, y, xTitle, yTitle }: Axes, frame: Frame, theme: Theme): SceneNode[] {
  const look = { fill: theme.muted, size: 11 } as const;
  const bottom = frame.top + frame.height;
  const [across, up] = [ticks(x, 6), ticks(y, 4)];
  const [belowTexts, besideTexts] = [formatTicks(across), formatTicks(up)];
  return [
    label(16, 24, title, { size: 14, weight: 600, fill: theme.ink }),
    ...(yTitle === undefined ? [] : [label(16, frame.top - 8, yTitle, look)]),
    ...up.flatMap((value, index) => {
      const at = atY(value, frame, y);
      return [
        node('line', { x1: frame.left, x2: frame.left + frame.width, y1: at, y2: at, stroke: theme.grid }),
        label(frame.left - 6, at + 4, besideTexts[index]!, { ...look, anchor: 'end' }),
      ];
    }),
    ...across.map((value, index) =>
      label(atX(value, frame, x), bottom + 16, belowTexts[index]!, { ...look, anchor: 'middle' }),
    ),
    ...(xTitle === undefined
      ? []
      : [label(frame.left + frame.width / 2, bottom + 34, xTitle, { ...look, anchor: 'middle' })]),
  ];
}
