/**
 * A picture as plain data, and its one way to SVG text. Every text and attribute is escaped here and only here. Looks are set
 * by presentation attributes, never by `style`, so that a picture can stand in a page with a strict content security policy.
 * @module
 */
import { THEMES, type Theme } from './theme.js';

export type Attributes = Readonly<Record<string, string | number | undefined>>;

export interface SceneNode {
  readonly tag: 'g' | 'rect' | 'text' | 'line' | 'path' | 'circle' | 'title' | 'image';
  readonly attributes: Attributes;
  readonly children: readonly (SceneNode | string)[];
}

export interface Scene {
  readonly width: number;
  readonly height: number;
  /** Said by screen readers. */
  readonly label: string;
  readonly nodes: readonly SceneNode[];
}

export function node(
  tag: SceneNode['tag'],
  attributes: Attributes,
  ...children: readonly (SceneNode | string)[]
): SceneNode {
  return { tag, attributes, children };
}

export const FONT = 'system-ui, -apple-system, "Segoe UI", sans-serif';
export const MONO = 'ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace';

export interface TextLook {
  readonly size?: number;
  readonly fill: string;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly weight?: number;
  readonly mono?: boolean;
}

export function label(x: number, y: number, content: string, look: TextLook): SceneNode {
  const { size = 12, fill, anchor = 'start', weight, mono = false } = look;
  return node(
    'text',
    {
      x: round(x),
      y: round(y),
      fill,
      'font-family': mono ? MONO : FONT,
      'font-size': size,
      'font-weight': weight,
      'text-anchor': anchor === 'start' ? undefined : anchor,
    },
    content,
  );
}

/** How wide a text is at a size, roughly: layouts have no font to ask. */
export function widthOf(text: string, size = 12, mono = false): number {
  return [...text].length * size * (mono ? 0.61 : 0.56);
}

export const round = (value: number): number => Math.round(value * 100) / 100;

/** Not allowed in XML, whatever the escape. */
// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const NOT_XML = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;
const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

const escape = (text: string): string =>
  text
    .toWellFormed()
    .replace(NOT_XML, '\ufffd')
    .replace(/[&<>"']/g, (sign) => ESCAPES[sign]!);

function print(item: SceneNode | string): string {
  if (typeof item === 'string') return escape(item);
  const attributes = Object.entries(item.attributes)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${name}="${escape(String(value))}"`)
    .join('');
  if (item.children.length === 0) return `<${item.tag}${attributes}/>`;
  return `<${item.tag}${attributes}>${item.children.map(print).join('')}</${item.tag}>`;
}

/** A self-contained SVG document on the theme's surface. */
export function toSvg(scene: Scene, theme: Theme = THEMES.light): string {
  const [width, height] = [Math.ceil(scene.width), Math.ceil(scene.height)];
  const size = `viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${escape(scene.label)}">`,
    `<rect width="100%" height="100%" fill="${escape(theme.surface)}"/>`,
    ...scene.nodes.map(print),
    '</svg>',
    '',
  ].join('\n');
}
