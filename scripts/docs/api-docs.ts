/**
 * Prints the reference of the packages that scripts import, from their TSDoc, as Markdown: `npm run api-docs`. What is not
 * documented well enough to be printed (a broken link, a type that is not exported) is a warning, and a warning is a failure.
 */
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Application, LogLevel, type TypeDocOptions } from 'typedoc';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Folder of `packages` -> what its signatures are put together from, and nobody names. */
export const DOCUMENTED = {
  sdk: ['WithHooks', 'DocumentRun', 'ARRAYS', 'EditSpec', 'ModuleOptions', 'Options', 'Page'],
  charts: [],
  testing: [],
} as const;
export type Documented = keyof typeof DOCUMENTED;

/** @returns whether there was nothing to complain of; complaints go to standard error */
export async function printApiDocs(name: Documented, folder: string): Promise<boolean> {
  const own = join(root, 'packages', name);
  const options: TypeDocOptions & Record<string, unknown> = {
    entryPoints: [join(own, 'src/index.ts')],
    tsconfig: join(own, 'tsconfig.json'),
    out: folder,
    plugin: ['typedoc-plugin-markdown'],
    readme: join(own, 'README.md'),
    name: `@patchbay/${name}`,
    disableSources: true,
    excludeInternal: true,
    excludePrivate: true,
    githubPages: false,
    logLevel: LogLevel.Warn,
    hideBreadcrumbs: true,
    intentionallyNotExported: [...DOCUMENTED[name]],
    validation: { notExported: true, invalidLink: true, notDocumented: false },
  };
  const app = await Application.bootstrapWithPlugins(options);
  const project = await app.convert();
  if (project === undefined) return false;
  app.validate(project);
  await app.generateOutputs(project);
  return !app.logger.hasErrors() && !app.logger.hasWarnings();
}

if (process.argv[1] !== undefined && fileURLToPath(import.meta.url) === resolve(process.argv[1])) {
  const folder = resolve(process.argv[2] ?? 'out/api');
  let fine = true;
  for (const name of Object.keys(DOCUMENTED) as Documented[])
    fine = (await printApiDocs(name, join(folder, name))) && fine;
  process.stdout.write(`${folder}\n`);
  process.exitCode = fine ? 0 : 1;
}
