/** The ranks of a deployment: where each is, its place in the mesh, the memory it takes. @module */
import type { JSX } from 'preact';
import type { Deployment } from '../api.js';
import { bytes } from '../look/format.js';
import { coordinatesOf } from './mesh.js';

const HEADS = ['Replica', 'Rank', 'Stage', 'Copy', 'Slice', 'Node', 'Process', 'Weights', 'Process memory'] as const;
const COUNTED = new Set<string>(['Process', 'Weights', 'Process memory']);

interface RanksProps {
  readonly deployment: Deployment;
  /** Id of a node -> its address. */
  readonly addresses: ReadonlyMap<string, string>;
}

export function Ranks({ deployment, addresses }: RanksProps): JSX.Element | null {
  const { spec, replicas } = deployment;
  const ranks = replicas.flatMap((replica) => replica.ranks.map((rank) => ({ ...rank, replica: replica.index })));
  if (ranks.length === 0) return null;
  const of = (index: number, count: number): string => (count === 1 ? 'all' : `${index + 1} of ${count}`);
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={`Ranks of ${spec.name}`}>
      <table>
        <thead>
          <tr>
            {HEADS.map((name) => (
              <th scope="col" key={name} class={COUNTED.has(name) ? 'num' : ''}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {ranks.map(({ replica, rank, node, pid, memory }) => {
            const { pp, dp, tp } = coordinatesOf(rank, spec);
            return (
              <tr key={`${replica} ${rank}`}>
                <td>{replica}</td>
                <th scope="row">{rank}</th>
                <td>{of(pp, spec.pp)}</td>
                <td>{of(dp, spec.dp)}</td>
                <td>{of(tp, spec.tp)}</td>
                <td>{addresses.get(node) ?? node}</td>
                <td class="num">{pid}</td>
                <td class="num" title={memory && memory.neededBytes > 0 ? `${bytes(memory.neededBytes)} foreseen` : ''}>
                  {memory === undefined ? '–' : bytes(memory.heldBytes)}
                </td>
                <td class="num">{memory === undefined ? '–' : bytes(memory.processBytes)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
