/** Nodes, deployments and their ranks on a map; deploy, drain and undeploy. @module */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type Cluster, type Role } from '../api.js';
import { DeployForm } from '../cluster/deploy-form.js';
import { Deployed } from '../cluster/deployed.js';
import { Node, type RankOnNode } from '../cluster/node.js';
import { useChanges } from '../live/use-changes.js';
import { useLoaded } from '../live/use-loaded.js';
import { Confirm, type Question } from '../look/confirm.js';
import { Card, Empty, Problem, Waiting } from '../look/parts.js';

export function ClusterPage({ role }: { readonly role: Role }): JSX.Element {
  const [question, ask] = useState<Question>();
  const nodes = useLoaded((signal) => api.cluster(signal), [], { everyMs: 5_000 });
  const models = useLoaded((signal) => api.models(signal), [], { everyMs: 15_000 });
  const queues = useLoaded((signal) => api.queues(1, signal), [], { everyMs: 10_000 });
  const refresh = (): void => {
    models.refresh();
    queues.refresh();
  };
  useChanges((news) => (news.kind === 'jobs' ? queues.refresh() : refresh()));
  const deployments = models.value?.models ?? [];
  const ranksOn = (node: Cluster['nodes'][number]): RankOnNode[] =>
    deployments.flatMap(({ spec, replicas }) =>
      replicas.flatMap(({ index, ranks }) =>
        ranks
          .filter((rank) => rank.node === node.id || rank.node === node.address)
          .map((rank) => ({ ...rank, model: spec.name, replica: index })),
      ),
    );
  const addresses = new Map(nodes.value?.nodes.map(({ id, address }) => [id, address]));
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
          <Deployed
            key={deployment.spec.name}
            {...{ deployment, role, addresses, ask }}
            queue={queues.value?.queues.find(({ model }) => model === deployment.spec.name)}
            changed={refresh}
          />
        ))}
      </Card>
      {role === 'operator' ? <DeployForm changed={refresh} /> : null}
      <Confirm question={question} close={() => ask(undefined)} />
    </>
  );
}
