/** `patchbay deploy`, `undeploy`, `models`. @module */
import { error, type Deployment } from '@patchbay/protocol';
import type { DeployProgress } from '@patchbay/sdk';
import { openClient } from '../client.js';
import { defineCommand, flag, positional, text } from '../define-command.js';
import { table, type Output } from '../output.js';
import { toSpec } from '../stack/deploy-model.js';
import { deploymentArguments } from './deployment-arguments.js';

const meshOf = ({ spec: { pp, dp, tp, fsdp, expertParallel } }: Deployment): string =>
  `pp ${pp}, ${fsdp ? 'fsdp' : 'dp'} ${dp}, tp ${tp}${expertParallel ? ' (experts)' : ''}`;

/** A bar where the cluster knows how far it is, else a line whose time runs. */
const deployProgress =
  (out: Output) =>
  (message: string, { fraction }: DeployProgress): void =>
    fraction === undefined ? out.working(message) : out.bar(message, Math.round(fraction * 100), 100, '%');

export const deploy = defineCommand({
  name: 'deploy',
  summary: 'Put a model on the cluster; returns when it is ready',
  args: { model: positional('a built-in name, a path or a hub name'), ...deploymentArguments },
  examples: ['patchbay deploy tiny-facts --tp 2', 'patchbay deploy ./my-checkpoint --name mine --dtype bfloat16'],
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    const ready = await client.models.deploy(toSpec(args), { signal, onProgress: deployProgress(out) });
    out.data(ready, `${ready.spec.name} is ${ready.status} (${meshOf(ready)})`);
    return undefined;
  },
});

export const undeploy = defineCommand({
  name: 'undeploy',
  summary: 'Take a deployment off the cluster',
  args: { name: positional('name of the deployment') },
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    const { existed } = await client.models.undeploy(args.name, { signal });
    if (!existed)
      throw error('PB_MODEL_NOT_FOUND', { model: args.name }, { hint: '`patchbay models` lists what is deployed.' });
    out.data({ name: args.name, existed }, `${args.name} is gone`);
    return undefined;
  },
});

function row(deployment: Deployment): string[] {
  const { spec, status, replicas, description, reason } = deployment;
  const ready = replicas.filter((replica) => replica.state === 'ready').length;
  return [
    spec.name,
    spec.model,
    meshOf(deployment),
    spec.dtype,
    status,
    `${ready}/${spec.replicas}`,
    description?.sandboxLevel ?? '-',
    reason?.message ?? '',
  ];
}

/** What a script needs to name hooks and parameters. */
function details({ description, ...rest }: Deployment, what: { modules: boolean; parameters: boolean }): string {
  const lines = [
    row({ description, ...rest })
      .filter((cell) => cell !== '')
      .join('  '),
  ];
  if (what.modules) {
    const shapes = new Map<string, string>();
    for (const site of description?.sites ?? []) {
      if (site.hookType === 'forward' && site.leaf === 0)
        shapes.set(site.module, `[${site.shape.join(', ')}] ${site.layout}`);
    }
    lines.push(
      ...(description?.modules ?? []).map(({ name, className }) =>
        `${name}  ${className}  ${shapes.get(name) ?? ''}`.trimEnd(),
      ),
    );
  }
  if (what.parameters)
    lines.push(
      ...(description?.parameters ?? []).map(({ name, shape, dtype }) => `${name}  [${shape.join(', ')}]  ${dtype}`),
    );
  return lines.join('\n');
}

export const models = defineCommand({
  name: 'models',
  summary: 'List the deployments, or show one with its modules and parameters',
  args: {
    name: text('only this deployment', { positional: true }),
    modules: flag('its modules, for moduleName of hooks, with full output shape and layout'),
    parameters: flag('its parameters'),
  },
  async run({ args, config, out, signal }) {
    await using client = await openClient(config);
    if (args.name !== undefined) {
      const one = await client.models.get(args.name, { signal });
      out.data(one, () => details(one, args));
      return undefined;
    }
    const deployments = await client.models.list({ signal });
    if (args.modules || args.parameters) {
      out.data({ models: deployments }, () => deployments.map((one) => details(one, args)).join('\n\n'));
    } else {
      const header = ['NAME', 'MODEL', 'MESH', 'DTYPE', 'STATUS', 'READY', 'SANDBOX', 'REASON'];
      out.data({ models: deployments }, () =>
        deployments.length === 0
          ? 'nothing is deployed; `patchbay deploy tiny-facts`'
          : table(header, deployments.map(row)),
      );
    }
    return undefined;
  },
});
