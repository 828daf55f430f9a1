/** Which indices of which activations each rank of the tp axis holds; everything else is whole on every rank of its stage. @module */
import type { JSX } from 'preact';
import type { Deployment } from '../api.js';
import { sharded, sliceOf } from './mesh.js';

export function Slices({ deployment }: { readonly deployment: Deployment }): JSX.Element | null {
  const { spec, description } = deployment;
  const sites = sharded(description?.sites ?? []);
  if (sites.length === 0) return null;
  const axis = Array.from({ length: spec.tp }, (_, tp) => tp);
  return (
    <details>
      <summary>
        Slices: <strong>{sites.length}</strong> kinds of activation are divided over tp
      </summary>
      <div class="scroll" tabIndex={0} role="group" aria-label={`Slices of ${spec.name}`}>
        <table>
          <thead>
            <tr>
              {['Module', 'Hook', 'Shape', 'Dim', ...axis.map((tp) => `Slice ${tp + 1}`)].map((name) => (
                <th scope="col" key={name}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {sites.map(({ module, hookType, leaf, shape, shardDim }) => (
              <tr key={`${module} ${hookType} ${leaf}`}>
                <th scope="row">
                  <code>{module}</code>
                </th>
                <td>{leaf === 0 ? hookType : `${hookType}, leaf ${leaf}`}</td>
                <td>
                  <code>[{shape.join(', ')}]</code>
                </td>
                <td>{shardDim}</td>
                {axis.map((tp) => {
                  const size = shape.at(shardDim!);
                  if (typeof size !== 'number') return <td key={tp}>–</td>;
                  const [from, to] = sliceOf(size, tp, spec.tp);
                  return <td key={tp}>{`${from} – ${to - 1}`}</td>;
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
