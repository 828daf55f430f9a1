/** Python source out of a template literal: the indentation that all lines share and the first empty line go. @module */

/** Line 1 of the result is the first line with code, which is how errors count too. */
export function dedent(source: string): string {
  const lines = source.replace(/^[ \t]*\r?\n/, '').split('\n');
  const margins = lines.filter((line) => line.trim() !== '').map((line) => /^[ \t]*/.exec(line)![0]);
  const margin = margins.reduce((shared, next) => commonStart(shared, next), margins[0] ?? '');
  return lines
    .map((line) => (line.trim() === '' ? '' : line.slice(margin.length)))
    .join('\n')
    .replace(/\n*$/, '\n');
}

function commonStart(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}
