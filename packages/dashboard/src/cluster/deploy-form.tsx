/** Deploys a model and tells how it goes. @module */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { ApiError, api } from '../api.js';
import { problemOf } from '../live/use-loaded.js';
import { textOf } from '../look/form.js';
import { Card, Problem } from '../look/parts.js';

const SIZES = ['tp', 'pp', 'dp', 'replicas'] as const;

interface Going {
  readonly text: string;
  readonly fraction?: number | undefined;
}

export function DeployForm({ changed }: { readonly changed: () => void }): JSX.Element {
  const [going, setGoing] = useState<Going>();
  const [problem, setProblem] = useState<ApiError>();
  const submit = async (form: HTMLFormElement): Promise<void> => {
    const model = textOf(form, 'model');
    const name = textOf(form, 'name') || (model.replace(/\/+$/, '').split('/').at(-1) ?? '');
    const sizes = Object.fromEntries(SIZES.map((size) => [size, Number(textOf(form, size))]));
    setProblem(undefined);
    setGoing({ text: 'asking the cluster' });
    try {
      await api.deploy({ name, model, dtype: textOf(form, 'dtype'), ...sizes }, (line) => {
        if (line.type === 'failed') throw new ApiError(line.error);
        if (line.type === 'progress') setGoing({ text: line.message, fraction: line.fraction });
      });
      form.reset();
    } catch (cause) {
      setProblem(problemOf(cause));
    }
    setGoing(undefined);
    changed();
  };
  return (
    <Card title="Deploy a model">
      <form
        class="filter"
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <label class="grow">
          Model
          <input name="model" required placeholder="path on the nodes, or hub name" />
        </label>
        <label>
          Name
          <input name="name" placeholder="last part of the model" pattern="[A-Za-z0-9_.\-]{1,64}" />
        </label>
        {SIZES.map((size) => (
          <label key={size}>
            {size}
            <input name={size} type="number" min={1} max={64} defaultValue={1} class="small" />
          </label>
        ))}
        <label>
          dtype
          <select name="dtype">
            {['float32', 'bfloat16', 'float16'].map((dtype) => (
              <option key={dtype}>{dtype}</option>
            ))}
          </select>
        </label>
        <button type="submit" class="primary" disabled={going !== undefined}>
          Deploy
        </button>
      </form>
      {going === undefined ? null : (
        <label class="progress" role="status">
          {going.text}
          <progress {...(going.fraction !== undefined && { value: going.fraction, max: 1 })} />
        </label>
      )}
      {problem === undefined ? null : <Problem problem={problem} />}
    </Card>
  );
}
