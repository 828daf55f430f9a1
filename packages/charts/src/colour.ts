/**
 * Colours for numbers and for categories. The scales are perceptually uniform and keep their order for colour-blind
 * readers: cividis (Nunez et al. 2018), and vik (Crameri 2018) for values with a middle. Categories: Okabe and Ito.
 * @module
 */

/** Red, green, blue, each 0 to 255. */
export type Rgb = readonly [number, number, number];
/** `sequential` runs from low to high, `diverging` from one side of a middle to the other. */
export type ScaleName = 'sequential' | 'diverging';

const parse = (hex: string): Rgb[] =>
  hex.split(' ').map((text) => [0, 2, 4].map((at) => Number.parseInt(text.slice(at, at + 2), 16)) as unknown as Rgb);

/** cividis, from dark blue to yellow. */
export const SEQUENTIAL = parse(
  '00224e 00306f 2a3f6d 434e6c 575d6d 6a6c71 7d7c78 928d78 a79f73 bdb16a d3c45d ead949 fee838',
);
/** vik, from dark blue over near-white to dark red. */
export const DIVERGING = parse(
  '001261 02307c 185a9a 4b8cb9 8bbad4 c8dde7 ece5e0 e6c5b0 d49d7d c27549 a84a1a 7d1d07 590008',
);
/** For at most seven categories; black and the yellow that vanishes on white are left out. */
export const CATEGORIES = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#7f7f7f'] as const;
/** What is not a number. */
export const MISSING: Rgb = [190, 190, 198];

const STOPS: Readonly<Record<ScaleName, readonly Rgb[]>> = { sequential: SEQUENTIAL, diverging: DIVERGING };

/** The colour at a share of the scale, 0 to 1; outside it is cut, and what is not a number is grey. */
export function colourAt(share: number, scale: ScaleName = 'sequential'): Rgb {
  if (Number.isNaN(share)) return MISSING;
  const stops = STOPS[scale];
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const below = Math.min(stops.length - 2, Math.floor(place));
  const [from, to] = [stops[below]!, stops[below + 1]!];
  const mix = (part: 0 | 1 | 2): number => Math.round(from[part] + (to[part] - from[part]) * (place - below));
  return [mix(0), mix(1), mix(2)];
}

const linear = (part: number): number => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4);

/** Relative luminance as WCAG defines it. */
export const luminance = ([red, green, blue]: Rgb): number =>
  0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);

/** Black or white: whichever can be read better on this colour. */
export function inkOn(background: Rgb): Rgb {
  const light = luminance(background);
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? [0, 0, 0] : [255, 255, 255];
}

export const css = ([red, green, blue]: Rgb): string => `rgb(${red},${green},${blue})`;
