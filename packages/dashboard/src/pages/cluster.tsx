/** Nodes, deployments and their ranks on a map; deploy and undeploy. @module */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type Cluster, type Deployment, type Role } from '../api.js';
import { useChanges } from '../live/use-changes.js';
import { useLoaded } from '../live/use-loaded.js';
import { Confirm, type Question } from '../look/confirm.js';
import { bytes } from '../look/format.js';
import { Card, Empty, Facts, Problem, State, Waiting } from '../look/parts.js';
import { DeployForm } from './deploy-form.js';

const isMemory = (name: string): boolean => /memory$/.test(name);
const amount = (name: string, value: number): string =>
  isMemory(name) ? bytes(value) : String(Math.round(value * 100) / 100);

type Rank = Deployment['replicas'][number]['ranks'][number] & { readonly model: string; readonly replica: number };

function Node({
  node,
  ranks,
}: {
  readonly node: Cluster['nodes'][number];
  readonly ranks: readonly Rank[];
}): JSX.Element {
  const shown = Object.entries(node.resources).filter(([name]) => !/^(node|bundle|accelerator_type)/.test(name));
  return (
    <article class="node" aria-label={`Node ${node.address}`}>
      <header>
        <h3>{node.address}</h3>
        <State state={node.alive ? 'alive' : 'lost'} />
      </header>
      {shown.map(([name, total]) => {
        const used = node.used[name] ?? 0;
        return (
          <label class="meter" key={name}>
            {name}
            <span class="muted">
              {amount(name, used)} of {amount(name, total)} used
            </span>
            <meter min={0} max={total} value={used} />
          </label>
        );
      })}
      <ul class="ranks" aria-label="Ranks on this node">
        {ranks.map(({ model, replica, rank, pid }) => (
          <li key={`${model} ${replica} ${rank}`} title={`process ${pid}`}>
            <strong>{rank}</strong> {model}
            {replica > 0 ? ` · replica ${replica}` : ''}
          </li>
        ))}
      </ul>
      {ranks.length === 0 ? <p class="muted">No ranks here.</p> : null}
    </article>
  );
}

function Probes({ deployment }: { readonly deployment: Deployment }): JSX.Element | null {
  const description = deployment.description;
  if (description == null) return null;
  return (
    <details>
      <summary>
        Sandbox: <strong>{description.sandboxLevel}</strong>
        {description.sandboxLevel === 'trusted' ? ' — an editing function has the rights of the worker' : ''}
      </summary>
      <ul class="probes">
        {description.sandboxProbes.map((probe, index) => (
          <li key={index}>
            <code>
              {Object.entries(probe)
                .map(([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`)
                .join(' · ')}
            </code>
          </li>
        ))}
        {description.sandboxProbes.length === 0 ? <li class="muted">No probe was reported.</li> : null}
      </ul>
    </details>
  );
}

interface DeployedProps {
  readonly deployment: Deployment;
  readonly role: Role;
  readonly ask: (question: Question) => void;
  readonly changed: () => void;
}

function Deployed({ deployment, role, ask, changed }: DeployedProps): JSX.Element {
  const { spec, status, reason, replicas, description } = deployment;
  const undeploy = (): void =>
    ask({
      title: `Undeploy ${spec.name}?`,
      text: 'Its ranks end, running jobs are lost, and jobs that wait fail. To let running jobs end first, drain it on the Queues page.',
      action: 'Undeploy',
      run: () => api.undeploy(spec.name).then(changed),
    });
  return (
    <article class="deployment" aria-label={`Deployment ${spec.name}`}>
      <header>
        <h3>{spec.name}</h3>
        <State state={status} />
        <span class="muted">{spec.model}</span>
        {role === 'operator' ? (
          <button type="button" class="danger" onClick={undeploy}>
            Undeploy
          </button>
        ) : null}
      </header>
      {reason == null ? null : <p class="note">{reason.message}</p>}
      <Facts
        facts={[
          ['Mesh', `pp ${spec.pp} · dp ${spec.dp} · tp ${spec.tp}`],
          ['dtype', spec.dtype],
          ['Family', description?.family ?? '–'],
          ['Layers', description?.layers ?? '–'],
          ['Width', description?.hiddenSize ?? '–'],
        ]}
      />
      <table>
        <thead>
          <tr>
            {['Replica', 'State', 'Epoch', 'Restarts', 'Ranks', 'Supervisor'].map((name) => (
              <th scope="col" key={name} class={name === 'Epoch' || name === 'Restarts' ? 'num' : ''}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {replicas.map((replica) => (
            <tr key={replica.index}>
              <td>{replica.index}</td>
              <td>
                <State state={replica.state} />
                {replica.reason == null ? null : <div class="reason">{replica.reason.message}</div>}
              </td>
              <td class="num">{replica.epoch}</td>
              <td class="num">{Math.max(0, replica.epoch - 1)}</td>
              <td>{replica.ranks.map(({ rank, pid }) => `${rank} (pid ${pid})`).join(', ') || '–'}</td>
              <td>
                <code>{replica.address || '–'}</code>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      <Probes deployment={deployment} />
    </article>
  );
}

export function ClusterPage({ role }: { readonly role: Role }): JSX.Element {
  const [question, ask] = useState<Question>();
  const nodes = useLoaded((signal) => api.cluster(signal), [], { everyMs: 5_000 });
  const models = useLoaded((signal) => api.models(signal), [], { everyMs: 15_000 });
  useChanges((news) => news.kind !== 'jobs' && models.refresh());
  const deployments = models.value?.models ?? [];
  const ranksOn = (node: Cluster['nodes'][number]): Rank[] =>
    deployments.flatMap(({ spec, replicas }) =>
      replicas.flatMap(({ index, ranks }) =>
        ranks
          .filter((rank) => rank.node === node.id || rank.node === node.address)
          .map((rank) => ({ ...rank, model: spec.name, replica: index })),
      ),
    );
  const versions = Object.entries(nodes.value?.versions ?? {}).map(([name, version]) => `${name} ${version}`);
  return (
    <>
      <h1>Cluster</h1>
      <Card title="Nodes" aside={<span class="muted">{versions.join(' · ')}</span>}>
        {nodes.problem === undefined ? null : <Problem problem={nodes.problem} retry={nodes.refresh} />}
        {nodes.value === undefined && nodes.problem === undefined ? <Waiting what="the nodes" /> : null}
        <div class="nodes">
          {nodes.value?.nodes.map((node) => (
            <Node key={node.id} node={node} ranks={ranksOn(node)} />
          ))}
        </div>
      </Card>
      <Card title="Deployments">
        {models.problem === undefined ? null : <Problem problem={models.problem} retry={models.refresh} />}
        {models.value === undefined && models.problem === undefined ? <Waiting what="the deployments" /> : null}
        {models.value !== undefined && deployments.length === 0 ? <Empty title="Nothing is deployed." /> : null}
        {deployments.map((deployment) => (
          <Deployed key={deployment.spec.name} deployment={deployment} role={role} ask={ask} changed={models.refresh} />
        ))}
      </Card>
      {role === 'operator' ? <DeployForm changed={models.refresh} /> : null}
      <Confirm question={question} close={() => ask(undefined)} />
    </>
  );
}
