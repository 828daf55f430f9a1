/**
 * Pictures in notebooks. Deno's Jupyter kernel shows what has a method under `Symbol.for('Jupyter.display')`; tslab and others
 * take the bundle: `tslab.display.svg(display(scene).svg)`.
 * @module
 */
import { toSvg, type Scene } from './scene.js';
import { THEMES, type Theme } from './theme.js';

const JUPYTER = Symbol.for('Jupyter.display');

export interface Displayable {
  readonly svg: string;
  /** MIME type -> content. */
  readonly bundle: Readonly<Record<'image/svg+xml' | 'text/plain', string>>;
  readonly [JUPYTER]: () => Displayable['bundle'];
}

/** @param text - for front ends without pictures, such as what `toTerminal` prints */
export function display(scene: Scene, text: string = scene.label, theme: Theme = THEMES.light): Displayable {
  const svg = toSvg(scene, theme);
  const bundle = { 'image/svg+xml': svg, 'text/plain': text };
  return { svg, bundle, [JUPYTER]: () => bundle };
}
