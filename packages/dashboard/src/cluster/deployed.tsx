/** A deployment: how its replicas do, which rank holds what, what the sandbox reaches; drain and undeploy. @module */
import type { JSX } from 'preact';
import { api, type Deployment, type QueueOverview, type Role } from '../api.js';
import type { Question } from '../look/confirm.js';
import { Facts, State } from '../look/parts.js';
import { DrainButton, Draining } from './drain.js';
import { Ranks } from './ranks.js';
import { Slices } from './slices.js';

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

const meshOf = ({ pp, dp, tp, fsdp, expertParallel }: Deployment['spec']): string =>
  `pp ${pp} · ${fsdp ? 'fsdp' : 'dp'} ${dp} · tp ${tp}${expertParallel ? ' (experts)' : ''}`;

interface DeployedProps {
  readonly deployment: Deployment;
  /** Its jobs; undefined until they are known. */
  readonly queue: QueueOverview | undefined;
  readonly role: Role;
  readonly addresses: ReadonlyMap<string, string>;
  readonly ask: (question: Question) => void;
  readonly changed: () => void;
}

export function Deployed({ deployment, queue, role, addresses, ask, changed }: DeployedProps): JSX.Element {
  const { spec, status, reason, replicas, description } = deployment;
  const undeploy = (): void =>
    ask({
      title: `Undeploy ${spec.name}?`,
      text: 'Its ranks end, running jobs are lost, and jobs that wait fail. To let running jobs end first, drain it.',
      action: 'Undeploy',
      run: () => api.undeploy(spec.name).then(changed),
    });
  return (
    <article class="deployment" aria-label={`Deployment ${spec.name}`}>
      <header>
        <h3>{spec.name}</h3>
        <State state={status} />
        <Draining queue={queue} />
        <span class="muted">{spec.model}</span>
        <div class="actions">
          <DrainButton {...{ queue, role, ask, changed }} />
          {role === 'operator' ? (
            <button type="button" class="danger" onClick={undeploy}>
              Undeploy
            </button>
          ) : null}
        </div>
      </header>
      {reason == null ? null : <p class="note">{reason.message}</p>}
      <Facts
        facts={[
          ['Mesh', meshOf(spec)],
          ['Placement', `${spec.placement}, ${spec.cpusPerRank} CPU per rank`],
          ['Jobs', queue === undefined ? '–' : `${queue.running} running, ${queue.waiting} waiting`],
          ['dtype', spec.dtype],
          ['Family', description?.family ?? '–'],
          ['Layers', description?.layers ?? '–'],
          ['Width', description?.hiddenSize ?? '–'],
        ]}
      />
      {replicas.length === 0 ? null : (
        <div class="scroll" tabIndex={0} role="group" aria-label={`Replicas of ${spec.name}`}>
          <table>
            <thead>
              <tr>
                {['Replica', 'State', 'Epoch', 'Restarts', 'Supervisor'].map((name) => (
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
                  <td>
                    <code>{replica.address || '–'}</code>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Ranks deployment={deployment} addresses={addresses} />
      <Slices deployment={deployment} />
      <Probes deployment={deployment} />
    </article>
  );
}
