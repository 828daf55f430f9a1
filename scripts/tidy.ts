/**
 * The rules on files and folders that no linter has: sizes, names, which few files may touch a library. Part of
 * `npm run lint`. An exception needs a reason, and one that is not needed any more is an error too.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

interface SourceFile {
  readonly path: string;
  readonly text: string;
}

interface Finding {
  readonly rule: string;
  readonly path: string;
  readonly message: string;
}

type Rule = (files: readonly SourceFile[]) => Finding[];

/** `<rule> <path>` -> why this one is right as it is. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'folder-files packages/cli/src/commands': 'one file per command, found by its name',
  'folder-files examples': 'one file per example, found by its number',
  'folder-files packages/worker-py/src/patchbay_worker/hooks': 'one flat list of the steps of a hook call',
  'folder-files packages/charts/src': 'one flat list of pictures and what they are drawn with',
  'folder-files packages/protocol/src': 'one flat list of the concepts of the contract; folders would only hide them',
};

/** What may be imported or called, and by which files alone; tests may do anything. */
const RESERVED = [
  {
    rule: 'bullmq',
    pattern: /\bfrom 'bullmq'/,
    files: [
      'packages/sdk/src/jobs/submit.ts',
      'packages/orchestrator/src/jobs/consumer.ts',
      'packages/orchestrator/src/jobs/queues.ts',
      'bench/bare/consumer.ts',
      'bench/bare/path.ts',
    ],
  },
  {
    rule: 'generated-typescript',
    pattern: /\bfrom '(@patchbay\/protocol\/worker|[./]*gen\/ts\/)/,
    files: ['packages/orchestrator/src/cluster-client/'],
  },
  {
    rule: 'generated-python',
    pattern: /^\s*(from|import) patchbay_protocol\b.*_pb2/m,
    files: ['packages/worker-py/src/patchbay_worker/gateway/', 'packages/worker-py/src/patchbay_worker/cluster/'],
  },
  { rule: 'ray-init', pattern: /\bray\.init\(/, files: ['packages/worker-py/src/patchbay_worker/gateway/driver.py'] },
  { rule: 'ray-stop', pattern: /['"`]ray stop\b|['"`]ray['"`], *\[? *['"`]stop/, files: [] },
  {
    rule: 'pickle',
    pattern: /^\s*(from|import) (pickle|cloudpickle|dill)\b|(?<!safetensors\.)\btorch\.load\(/m,
    files: [],
  },
] as const;

const MAX_LINES = 400;
const MAX_FUNCTION_LINES = 60;
const MAX_FILES = 12;
const MAX_DEPTH = 2;
const VAGUE = /(^|\/)(utils?|common|misc|base|helpers?|lib)(\/|\.(ts|mjs|py)$)/;
const SOURCE_ROOT = /^(packages\/[^/]+\/src(\/patchbay_worker)?)\//;
const SOURCE = /\.(ts|tsx|mts|mjs|js|py|lua)$/;
const TEST = /(^|\/)tests?\//;
const GENERATED = /(^|\/)gen\//;

const root = dirname(dirname(fileURLToPath(import.meta.url)));

const linesOf = (text: string): string[] => text.trimEnd().split('\n');

const tooLong: Rule = (files) =>
  files
    .map(({ path, text }) => ({ path, lines: linesOf(text).length }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => ({ rule: 'file-lines', path, message: `${lines} lines, the limit is ${MAX_LINES}` }));

const crowdedFolder: Rule = (files) => {
  const folders = new Map<string, number>();
  for (const { path } of files) {
    if (/^(__init__\.py|index\.ts|conftest\.py)$/.test(basename(path))) continue;
    folders.set(dirname(path), (folders.get(dirname(path)) ?? 0) + 1);
  }
  return [...folders]
    .filter(([, count]) => count > MAX_FILES)
    .map(([path, count]) => ({
      rule: 'folder-files',
      path,
      message: `${count} source files, the limit is ${MAX_FILES}`,
    }));
};

const vagueName: Rule = (files) =>
  files
    .filter(({ path }) => VAGUE.test(path))
    .map(({ path }) => ({ rule: 'vague-name', path, message: 'name the folder or file after its concern' }));

const deepFolder: Rule = (files) =>
  files
    .filter(({ path }) => SOURCE_ROOT.test(path) && path.replace(SOURCE_ROOT, '').split('/').length - 1 > MAX_DEPTH)
    .map(({ path }) => ({ rule: 'depth', path, message: `more than ${MAX_DEPTH} folders below the source root` }));

const noHeader: Rule = (files) =>
  files
    .filter(({ path, text }) => !(basename(path) === '__init__.py' && text.trim() === ''))
    .filter(({ text }) => !/^(#!.*\n)?\s*(\/\*\*|\/\/|#|--|r?""")/.test(text))
    .map(({ path }) => ({ rule: 'header', path, message: 'the first lines say what the file is for' }));

const marker: Rule = (files) =>
  files.flatMap(({ path, text }) =>
    linesOf(text).flatMap((line, index) =>
      /(\/\/|#|\*) *(TODO|FIXME|XXX)\b/.test(line)
        ? [{ rule: 'marker', path, message: `line ${index + 1}: finish it, or file an issue` }]
        : [],
    ),
  );

const reserved: Rule = (files) =>
  RESERVED.flatMap(({ rule, pattern, files: allowed }) =>
    files
      .filter(({ path, text }) => !TEST.test(path) && pattern.test(text))
      .filter(({ path }) => !allowed.some((prefix) => path.startsWith(prefix)))
      .map(({ path }) => ({ rule, path, message: `only ${allowed.join(', ') || 'nobody'} may do this` })),
  );

/** TypeScript's functions are measured by eslint; here Python's, by their indentation. */
const longFunction: Rule = (files) =>
  files
    .filter(({ path }) => path.endsWith('.py'))
    .flatMap(({ path, text }) => {
      const lines = linesOf(text);
      return lines.flatMap((line, start) => {
        const match = /^(\s*)(async )?def (\w+)/.exec(line);
        if (match === null) return [];
        const indent = match[1]?.length ?? 0;
        const body = /^\s*(\)|$)/; // the closing line of a signature, a blank line
        const after = lines.findIndex(
          (l, i) => i > start && !body.test(l) && (/^\s*/.exec(l)?.[0].length ?? 0) <= indent,
        );
        const counted = lines.slice(start, after === -1 ? undefined : after).filter((l) => !/^\s*(#|$)/.test(l));
        if (counted.length <= MAX_FUNCTION_LINES) return [];
        return [
          {
            rule: 'function-lines',
            path,
            message: `${match[3]}: ${counted.length} lines, the limit is ${MAX_FUNCTION_LINES}`,
          },
        ];
      });
    });

/** Lock files hold names and versions; where packages come from is the user's own configuration. */
function addressInLockFile(): Finding[] {
  return ['pnpm-lock.yaml', 'packages/worker-py/constraints.txt']
    .filter((path) => /(https?|file):\/\//.test(readFileSync(join(root, path), 'utf8')))
    .map((path) => ({ rule: 'lock-address', path, message: 'a lock file names an address' }));
}

/** One version for everything, and it has a section in the change log, as has what comes next. */
function versions(): Finding[] {
  const rule = 'version';
  const read = (path: string): string => readFileSync(join(root, path), 'utf8');
  const { version } = JSON.parse(read('package.json')) as { version: string };
  const manifests = readdirSync(join(root, 'packages'))
    .map((name) => `packages/${name}/package.json`)
    .filter((path) => existsSync(join(root, path)));
  const declared = [
    ...manifests.map((path) => ({ path, found: (JSON.parse(read(path)) as { version: string }).version })),
    {
      path: 'packages/worker-py/pyproject.toml',
      found: /^version = "(.*)"$/m.exec(read('packages/worker-py/pyproject.toml'))?.[1],
    },
  ];
  const different = declared.filter(({ found }) => found !== version);
  const log = read('CHANGELOG.md');
  const unreleased = /^## \[Unreleased\]\n([^]*?)(?=^## \[|$(?![^]))/m.exec(log)?.[1] ?? '';
  const released = log.includes(`## [${version}]`);
  return [
    ...different.map(({ path, found }) => ({
      rule,
      path,
      message: `${found} is not ${version}, the version of package.json`,
    })),
    ...(released || /^- /m.test(unreleased)
      ? []
      : [
          {
            rule,
            path: 'CHANGELOG.md',
            message: `nothing is said of ${version}, neither under it nor under Unreleased`,
          },
        ]),
  ];
}

function sourceFiles(): SourceFile[] {
  const listed = execFileSync(
    'git',
    ['-c', `safe.directory=${root}`, 'ls-files', '--cached', '--others', '--exclude-standard'],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  return [...new Set(listed.split('\n'))]
    .filter((path) => SOURCE.test(path) && !GENERATED.test(path) && existsSync(join(root, path)))
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
}

function main(): void {
  const files = sourceFiles();
  const rules: Rule[] = [tooLong, crowdedFolder, vagueName, deepFolder, noHeader, marker, reserved, longFunction];
  const all = [...rules.flatMap((rule) => rule(files)), ...addressInLockFile(), ...versions()];
  const keys = new Set(all.map(({ rule, path }) => `${rule} ${path}`));
  const shown = all.filter(({ rule, path }) => EXCEPTIONS[`${rule} ${path}`] === undefined);
  for (const { rule, path, message } of shown) process.stdout.write(`${path}: ${message} [${rule}]\n`);
  const unneeded = Object.keys(EXCEPTIONS).filter((key) => !keys.has(key));
  for (const key of unneeded) process.stdout.write(`scripts/tidy.ts: the exception '${key}' is not needed any more\n`);
  process.stdout.write(`tidy: ${files.length} files, ${shown.length + unneeded.length} findings\n`);
  process.exitCode = shown.length + unneeded.length > 0 ? 1 : 0;
}

main();
