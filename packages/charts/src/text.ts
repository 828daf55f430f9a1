/** Numbers and tokens as short readable text. @module */

/** What cannot be seen, or changes how its neighbours are shown, as a sign that can. */
// eslint-disable-next-line no-control-regex -- control characters are what is looked for
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\uffff]/g;
const SIGNS: Readonly<Record<string, string>> = { '\n': '⏎', '\t': '⇥', '\r': '␍' };

function sign(character: string): string {
  const code = character.charCodeAt(0);
  if (SIGNS[character] !== undefined) return SIGNS[character];
  return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, '0')}`;
}

/** A token so that it can be told apart: spaces as `·` at its ends, no control or direction characters, no half characters. */
export function visible(token: string): string {
  const ends = token.replace(/^ +| +$/g, (spaces) => '·'.repeat(spaces.length));
  return ends.toWellFormed().replace(UNSEEN, sign);
}

/** A text of lines as it was written, but for what cannot be seen or turns its direction. */
export const legible = (text: string): string =>
  text.toWellFormed().replace(UNSEEN, (character) => (/[\n\t]/.test(character) ? character : sign(character)));

/** At most this many characters, cut at the end. */
export function shorten(text: string, characters: number): string {
  const all = [...text];
  return all.length <= characters ? text : `${all.slice(0, Math.max(1, characters - 1)).join('')}…`;
}

/** Numbers at even steps, as many decimals as the step needs: 0, 20, 40 and not 0, 20.0, 40.0. */
export function formatTicks(values: readonly number[]): string[] {
  if (values.length < 2) return values.map(formatNumber);
  const step = Math.abs(values[1]! - values[0]!);
  const largest = Math.max(...values.map(Math.abs));
  if (step < 1e-3 || largest >= 1e5) return values.map(formatNumber);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return values.map((value) => value.toFixed(decimals).replace(/^-(0(\.0+)?)$/, '$1'));
}

/** Three significant digits, no minus before a zero. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
  const size = Math.abs(value);
  if (size === 0) return '0';
  if (size < 1e-3 || size >= 1e5) return value.toExponential(1).replace('e+', 'e');
  const text = size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 3);
  return Number(text) === 0 ? '0' : text;
}
