/** Prints the table of docs/http.md from the table of routes; the words around it are the page's own. */
import { ROUTES, type Route } from '../../packages/protocol/src/http/routes.js';

const [START, END] = ['<!-- routes: printed by `npm run gen` -->', '<!-- end of routes -->'];

const keysOf = (schema: Route['query']): string => Object.keys(schema?.shape ?? {}).join(', ');

function asked({ query, headers, body, takes }: Route): string {
  const parts = [
    query === undefined ? '' : `query: ${keysOf(query)}`,
    headers === undefined ? '' : `header: ${keysOf(headers)}`,
    body === undefined ? '' : 'JSON',
    takes === undefined ? '' : 'the file',
  ];
  return parts.filter((part) => part !== '').join('; ');
}

const answered = ({ status, answer, media }: Route): string =>
  `${status}${answer === undefined && media === undefined ? '' : ` ${media ?? 'application/json'}`}`;

export function httpPage(page: string): string {
  const [before, rest] = page.split(START);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) throw new Error(`docs/http.md has no ${START} ... ${END}`);
  const rows = Object.values<Route>(ROUTES).map(
    (route) =>
      `| \`${route.method} ${route.path}\` | ${route.summary}${route.open === true ? '; no token' : ''} | ${asked(route)} | ${answered(route)} |`,
  );
  const table = ['| request | | takes | answers |', '|---|---|---|---|', ...rows];
  return `${before}${START}\n${table.join('\n')}\n${END}${after}`;
}
