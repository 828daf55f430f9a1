/**
 * What the files of `infra/` name exists in the code: modules, entry points, variables, ports, probes, metrics. No container
 * engine and no Kubernetes is needed, and none is replaced: that images build and pods start is not shown here.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StatefulSet } from 'kubernetes-models/apps/v1/StatefulSet';
import { Pod } from 'kubernetes-models/v1/Pod';
import { Service } from 'kubernetes-models/v1/Service';
import { parseConfig } from '../../packages/orchestrator/src/config.js';
import { ROUTES } from '../../packages/protocol/src/http/routes.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const python = process.env['PATCHBAY_PYTHON'] ?? join(root, '.venv/bin/python');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const infra = readdirSync(join(root, 'infra'), { recursive: true, encoding: 'utf8' }).map((path) =>
  join('infra', path),
);

type Yaml = Record<string, unknown>; // files of other programs

/** Every document of the text; merges and anchors resolved. */
function parseYaml(text: string): Yaml[] {
  const script = 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))';
  return JSON.parse(execFileSync(python, ['-c', script], { input: text, encoding: 'utf8' })) as Yaml[];
}

/** The little of Helm's language that our templates use; anything else fails. */
function render(template: string, given: Yaml): string {
  const whole = template.replace(/\{\{ if gt \(int \.Values\.[\w.]+\) 0 \}\}.*?\{\{ end \}\}/g, '');
  return whole.replace(/\{\{ (\.[\w.]+)( \| quote)? \}\}/g, (_, path: string, quote?: string) => {
    if (path === '.Release.Name') return 'pb';
    const value: unknown = path
      .split('.')
      .slice(2)
      .reduce<Yaml | undefined>((at, key) => at?.[key] as Yaml | undefined, given);
    assert.ok(value !== undefined, `values.yaml has no ${path}`);
    const told = typeof value === 'string' ? value : JSON.stringify(value);
    return quote === undefined ? told : JSON.stringify(told);
  });
}

/** Variables that some part reads. */
function knownVariables(): Set<string> {
  const config = Object.keys(parseConfig({})).concat('token', 'artifactUrl');
  const ours = config.map((key) => `PATCHBAY_${key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`);
  const folder = join(root, 'packages/worker-py/src');
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.py'));
  const theirs = sources.flatMap((path) => readFileSync(join(folder, path), 'utf8').match(/PATCHBAY_[A-Z_]+/g) ?? []);
  return new Set([...ours, ...theirs]);
}

const existingModule = (name: string): boolean =>
  name.startsWith('ray.') || existsSync(join(root, 'packages/worker-py/src', ...name.split('.'), '__main__.py'));

const compose = parseYaml(read('infra/compose/compose.yaml'))[0]!;
const services = Object.entries(compose['services'] as Yaml) as [string, Yaml][];
const values = parseYaml(read('infra/helm/patchbay/values.yaml'))[0]!;
const manifests = infra
  .filter((path) => path.includes('templates/'))
  .flatMap((path) => parseYaml(render(read(path), values)));
const containers = manifests.flatMap((manifest) => findContainers(manifest));

/** @throws when it is not what the schema of its kind says */
function check(manifest: Yaml): void {
  const kinds = { StatefulSet, Service, Pod };
  const Kind = kinds[manifest['kind'] as keyof typeof kinds];
  new Kind(manifest).validate();
}

function findContainers(value: unknown): Yaml[] {
  if (Array.isArray(value)) return value.flatMap(findContainers);
  if (typeof value !== 'object' || value === null) return [];
  const own = (value as Yaml)['containers'];
  return [...(Array.isArray(own) ? (own as Yaml[]) : []), ...Object.values(value).flatMap(findContainers)];
}

describe('files of infra/', () => {
  it('only name variables that are read somewhere', () => {
    const known = knownVariables();
    const own = new Set(['PATCHBAY_MODELS']); // of the compose file itself
    const files = infra.filter((path) => /\.(yaml|yml|service|Dockerfile|env)$/.test(path));
    const named = files.flatMap((path) => read(path).match(/PATCHBAY_[A-Z_]+/g) ?? []);
    assert.ok(named.length > 20);
    assert.deepEqual(
      [...new Set(named)].filter((name) => !known.has(name) && !own.has(name)),
      [],
    );
  });

  it('start modules and scripts that exist', () => {
    const commands = [
      ...services.map(([, { command }]) => command as string[] | undefined),
      ...containers.map(({ command }) => command as string[]),
    ];
    const modules = commands
      .flatMap((command) => command ?? [])
      .filter((word) => /^(patchbay_worker|ray)\.[a-z.]+$/.test(word));
    assert.ok(modules.length >= 4);
    assert.deepEqual(
      modules.filter((name) => !existingModule(name)),
      [],
    );
    const units = infra.filter((path) => path.endsWith('.service'));
    for (const path of units) {
      const start = /^ExecStart=(.*)$/m.exec(read(path))![1]!;
      const script = /\/opt\/patchbay\/packages\/(\S+)\/dist\/(\S+)\.js/.exec(start);
      if (script) assert.ok(existsSync(join(root, `packages/${script[1]}/src/${script[2]}.ts`)), path);
      else assert.ok(existingModule(/-m (\S+)/.exec(start)![1]!), path);
    }
    assert.match(read('infra/images/orchestrator.Dockerfile'), /"dist\/main\.js"/);
    assert.ok(existsSync(join(root, 'packages/orchestrator/src/main.ts')));
  });

  it('copy what is there into the images', () => {
    for (const name of ['worker', 'orchestrator']) {
      const text = read(`infra/images/${name}.Dockerfile`);
      const copies = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, sources]) => sources!.split(' '));
      assert.ok(copies.length >= 3);
      assert.deepEqual(
        copies.filter((path) => !existsSync(join(root, path))),
        [],
      );
      assert.match(text, /^USER patchbay$/m, 'not root');
      assert.doesNotMatch(text, /:latest/);
    }
  });
});

describe('the compose file', () => {
  it('is valid by its schema, which refuses what is not, and so are the workflows', () => {
    const valid = (schema: string, text: string): void => {
      const options = ['--builtin-schema', `vendor.${schema}`, '--default-filetype', 'yaml', '-'];
      execFileSync(python, ['-m', 'check_jsonschema', ...options], { input: text, stdio: 'pipe' });
    };
    const composed = read('infra/compose/compose.yaml');
    valid('compose-spec', composed);
    const wrong = composed.replace('healthcheck:', 'healthchecks:');
    assert.throws(
      () => valid('compose-spec', wrong),
      (problem: { readonly stdout: Buffer }) => problem.stdout.toString().includes('healthchecks'),
    );
    for (const name of readdirSync(join(root, '.github/workflows')))
      valid('github-workflows', read(join('.github/workflows', name)));
  });

  it('what a service waits for exists and can tell that it is healthy; volumes are declared', () => {
    const byName = new Map(services);
    for (const [name, service] of services) {
      assert.ok(service['image'], name);
      for (const needed of Object.keys(service['depends_on'] ?? {}))
        assert.ok(byName.get(needed)?.['healthcheck'], `${name} waits for ${needed}`);
      for (const volume of (service['volumes'] ?? []) as string[]) {
        const source = volume.split(':')[0]!;
        if (/^\w+$/.test(source)) assert.ok(source in (compose['volumes'] as Yaml), volume);
        else if (source.startsWith('..')) assert.ok(existsSync(join(root, 'infra/compose', source)), volume);
      }
    }
    assert.deepEqual([...byName.keys()].sort(), ['gateway', 'orchestrator', 'ray-head', 'ray-worker', 'redis']);
  });
});

describe('files of infra/ against the code', () => {
  it('ports and probes are those of the code', () => {
    const { httpPort, gateway } = parseConfig({});
    const orchestrator = containers.find(({ name }) => name === 'orchestrator')!;
    assert.deepEqual((orchestrator['ports'] as Yaml[])[0], { containerPort: httpPort, name: 'http' });
    assert.equal((orchestrator['readinessProbe'] as { httpGet: Yaml }).httpGet['path'], '/healthz');
    assert.deepEqual([ROUTES.health.path, ROUTES.metrics.path], ['/healthz', '/metrics']);
    const port = Number(gateway.split(':')[1]);
    const gate = containers.find(({ name }) => name === 'gateway')!;
    assert.deepEqual((gate['readinessProbe'] as Yaml)['tcpSocket'], { port });
    assert.match(read('packages/orchestrator/src/http/routes/health.ts'), /metrics/);
    const [prometheus] = parseYaml(read('infra/observability/prometheus.yml'));
    const jobs = prometheus!['scrape_configs'] as { static_configs: { targets: string[] }[] }[];
    const targets = jobs.flatMap((job) => job.static_configs.flatMap((one) => one.targets));
    assert.deepEqual(targets, [`orchestrator:${httpPort}`, 'ray-head:9464']);
  });

  it('helm: every template renders with the values, and every kind says its version and name', () => {
    assert.deepEqual(manifests.map(({ kind }) => kind as string).sort(), ['RayCluster', 'Service', 'StatefulSet']);
    for (const { apiVersion, metadata } of manifests) assert.ok(apiVersion && (metadata as Yaml)['name']);
    const chart = parseYaml(read('infra/helm/patchbay/Chart.yaml'))[0]!;
    assert.equal(chart['apiVersion'], 'v2');
    const constraints = read('packages/worker-py/constraints.txt');
    assert.match(
      constraints,
      new RegExp(`^ray==${(values['ray'] as { version: string }).version}$`, 'm'),
      'the Ray of the image',
    );
  });

  it('helm: what is made is valid by the schemas of Kubernetes, the pods of the Ray cluster too', () => {
    const [ray] = manifests.filter(({ kind }) => kind === 'RayCluster');
    const { headGroupSpec, workerGroupSpecs } = ray!['spec'] as { headGroupSpec: Yaml; workerGroupSpecs: Yaml[] };
    const templates = [headGroupSpec, ...workerGroupSpecs].map(({ template }) => template as Yaml);
    const made = [
      ...manifests.filter(({ kind }) => kind !== 'RayCluster'),
      ...templates.map(({ spec }) => ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'one' }, spec })),
    ];
    assert.equal(made.length, 4);
    for (const manifest of made) check(manifest);
    const wrong = structuredClone(made.at(-1)!) as { spec: { containers: Yaml[] } };
    delete wrong.spec.containers[0]!['name'];
    assert.throws(() => check(wrong), /name/, 'the schema is one');
  });

  it('the dashboard asks for metrics that exist', () => {
    const page = read('docs/metrics.md');
    const { panels } = JSON.parse(read('infra/observability/grafana-dashboard.json')) as {
      panels: { targets: { expr: string }[] }[];
    };
    const names = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => expr.match(/patchbay_\w+/g) ?? []));
    assert.ok(names.length >= 9);
    for (const name of names) assert.ok(page.includes(`\`${name.replace(/_bucket$/, '')}\``), name);
  });
});
