/** Tables as CSV (RFC 4180). Texts that a spreadsheet would take for a formula get an apostrophe in front. @module */

function field(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const harmless = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

export function rowsToCsv(rows: readonly (readonly (string | number)[])[]): string {
  return rows.map((row) => `${row.map(field).join(',')}\r\n`).join('');
}

/** A grid with the names of its rows and columns. */
export function gridToCsv(
  values: readonly ArrayLike<number>[],
  rows: readonly string[] = [],
  columns: readonly string[] = [],
): string {
  const width = values[0]?.length ?? 0;
  const header = ['', ...Array.from({ length: width }, (_, c) => columns[c] ?? String(c))];
  return rowsToCsv([header, ...values.map((row, r) => [rows[r] ?? String(r), ...Array.from(row)])]);
}
