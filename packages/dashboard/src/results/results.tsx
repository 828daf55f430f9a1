/** Everything that came out of a job, as pictures. @module */
import { legible } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { api, type JobResult, type TensorPlace } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';
import { bytes } from '../look/format.js';
import { Card, Empty, Problem, Waiting } from '../look/parts.js';
import { Answers, Grids, Losses, Texts } from './pictures.js';
import { dtypeOf } from './read-tensor.js';
import { runGrids } from './run-grid.js';
import { TensorViewer } from './tensor-viewer.js';

interface TensorListProps {
  readonly tensors: readonly TensorPlace[];
  readonly chosen: TensorPlace | undefined;
  readonly choose: (place: TensorPlace) => void;
}

const MAX_LISTED = 500;

function TensorList({ tensors, chosen, choose }: TensorListProps): JSX.Element {
  const [text, setText] = useState('');
  const fitting = tensors.filter(({ name, file }) => `${file}/${name}`.toLowerCase().includes(text.toLowerCase()));
  return (
    <div class="tensor-list">
      <input
        type="search"
        aria-label="Find a tensor"
        placeholder="Find a tensor"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <ul tabIndex={0} aria-label="Tensors">
        {fitting.slice(0, MAX_LISTED).map((place) => (
          <li key={`${place.file} ${place.name}`}>
            <button type="button" aria-pressed={place === chosen} onClick={() => choose(place)} title={place.name}>
              <code>{place.name}</code>
              <span class="muted">
                {dtypeOf(place)} [{place.shape.join(', ')}] {bytes(place.end - place.begin)}
              </span>
            </button>
          </li>
        ))}
      </ul>
      {fitting.length > MAX_LISTED ? (
        <p class="muted">{fitting.length - MAX_LISTED} more: write a part of the name.</p>
      ) : null}
    </div>
  );
}

const plainValues = (result: JobResult): [string, unknown][] =>
  Object.entries(result.saveCtx).filter(
    ([, value]) => typeof value !== 'object' || value === null || !('tensor' in value),
  );

export function Results({ result }: { readonly result: JobResult }): JSX.Element | null {
  const { value, problem } = useLoaded((signal) => api.tensors(result.jobId, signal), [result.jobId, result.attempt]);
  const [picked, choose] = useState<TensorPlace>();
  if (result.state !== 'completed') return null;
  const tensors = value?.tensors ?? [];
  // what an edit saved on purpose first; a name with _ is between edits
  const saved = tensors.find(({ file, name }) => file === 'save_ctx.safetensors' && !name.startsWith('_'));
  const chosen = picked ?? saved ?? tensors[0];
  const plain = plainValues(result);
  const told = Object.values(result.runs).some(({ topK, text, losses }) => topK ?? text ?? losses);
  const nothing = !told && plain.length === 0 && runGrids(result).length === 0;
  return (
    <>
      <Card title="Results">
        {nothing ? <Empty title="No answers were asked for." /> : null}
        <Grids result={result} tensors={tensors} key={tensors.length} />
        <Losses runs={result.runs} id={result.jobId} />
        <Answers result={result} />
        <Texts runs={result.runs} />
        {plain.length > 0 ? (
          <>
            <h3>save_ctx</h3>
            <pre class="code" tabIndex={0}>
              {legible(JSON.stringify(Object.fromEntries(plain), null, 2))}
            </pre>
          </>
        ) : null}
      </Card>
      <Card title="Tensors" aside={<span class="muted">{tensors.length}</span>}>
        {problem === undefined ? null : <Problem problem={problem} />}
        {value === undefined && problem === undefined ? <Waiting what="the tensors" /> : null}
        {value !== undefined && tensors.length === 0 ? <Empty title="This job gave no tensors back." /> : null}
        {chosen === undefined ? null : (
          <div class="tensors">
            <TensorList tensors={tensors} chosen={chosen} choose={choose} />
            <TensorViewer result={result} place={chosen} key={`${chosen.file} ${chosen.name}`} />
          </div>
        )}
      </Card>
    </>
  );
}
