/** A node: what it has, what is used of it, and the ranks on it. @module */
import type { JSX } from 'preact';
import type { Cluster, Deployment } from '../api.js';
import { bytes } from '../look/format.js';
import { State } from '../look/parts.js';

const isMemory = (name: string): boolean => /memory$/.test(name);
/** Ray's names, said plainly; what is used of them is what was asked for. */
const NAMES: Readonly<Record<string, string>> = { memory: 'memory, reserved', object_store_memory: 'object store' };
const amount = (name: string, value: number): string =>
  isMemory(name) ? bytes(value) : String(Math.round(value * 100) / 100);

export type RankOnNode = Deployment['replicas'][number]['ranks'][number] & {
  readonly model: string;
  readonly replica: number;
};

export function Node({
  node,
  ranks,
}: {
  readonly node: Cluster['nodes'][number];
  readonly ranks: readonly RankOnNode[];
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
            {NAMES[name] ?? name}
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
            <strong>rank {rank}</strong> {model}
            {replica > 0 ? ` · replica ${replica}` : ''}
          </li>
        ))}
      </ul>
      {ranks.length === 0 ? <p class="muted">No ranks here.</p> : null}
    </article>
  );
}
