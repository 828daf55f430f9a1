/** Deploys a model and tells how it goes; what is refused stands at its field. @module */
import type { ComponentChildren, JSX } from 'preact';
import { useRef, useState } from 'preact/hooks';
import { ApiError, api } from '../api.js';
import { problemOf } from '../live/use-loaded.js';
import { Card, Problem } from '../look/parts.js';
import { DTYPES, PLACEMENTS, fieldOf, readSpec, type FieldName } from './deploy-fields.js';

interface Going {
  readonly text: string;
  readonly fraction?: number | undefined;
}

interface Described {
  readonly name: FieldName;
  readonly 'aria-invalid'?: true;
  readonly 'aria-describedby'?: string;
}

interface PlainProps {
  readonly name: FieldName;
  readonly label: string;
  readonly problems: readonly ApiError[];
}

interface FieldProps extends PlainProps {
  readonly class?: string;
  readonly children: (described: Described) => ComponentChildren;
}

/** A label, what is filled in, and why that was refused. */
function Field({ name, label, problems, class: kind = '', children }: FieldProps): JSX.Element {
  const problem = problems.find((each) => fieldOf(each) === name);
  const id = `deploy-${name}-problem`;
  const described = problem === undefined ? {} : { 'aria-invalid': true as const, 'aria-describedby': id };
  return (
    <div class={`field ${kind}`}>
      <label>
        {label}
        {children({ name, ...described })}
      </label>
      {problem === undefined ? null : (
        <p class="field-problem" id={id} role="alert">
          {problem.message}
          {problem.detail.hint ? ` ${problem.detail.hint}` : ''} <code>{problem.detail.code}</code>
        </p>
      )}
    </div>
  );
}

function Count({ least = 1, step, ...field }: PlainProps & { least?: number; step?: string }): JSX.Element {
  return (
    <Field {...field}>
      {(described) => (
        <input {...described} type="number" min={least} {...(step !== undefined && { step })} defaultValue={1} />
      )}
    </Field>
  );
}

function Choice({ options, ...field }: PlainProps & { readonly options: readonly string[] }): JSX.Element {
  return (
    <Field {...field}>
      {(described) => (
        <select {...described}>
          {options.map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      )}
    </Field>
  );
}

const MESH = [
  ['tp', 'Ranks per layer (tp)'],
  ['pp', 'Stages (pp)'],
  ['dp', 'Copies (dp)'],
] as const;
const FLAGS = [
  ['fsdp', 'Copies share one set of weights (fsdp)'],
  ['expertParallel', 'tp divides the experts only'],
] as const;

export function DeployForm({ changed }: { readonly changed: () => void }): JSX.Element {
  const form = useRef<HTMLFormElement>(null);
  const [going, setGoing] = useState<Going>();
  const [problems, setProblems] = useState<readonly ApiError[]>([]);
  const refuse = (found: readonly ApiError[]): void => {
    setProblems(found);
    const first = found.map(fieldOf).find((name) => name !== undefined);
    if (first !== undefined) form.current?.querySelector<HTMLElement>(`[name=${first}]`)?.focus();
  };
  const submit = async (filled: HTMLFormElement): Promise<void> => {
    const read = readSpec(filled);
    if ('problems' in read) return refuse(read.problems);
    setProblems([]);
    setGoing({ text: 'asking the cluster' });
    try {
      await api.deploy(read.spec, (line) => {
        if (line.type === 'failed') throw new ApiError(line.error);
        if (line.type === 'progress') setGoing({ text: line.message, fraction: line.fraction });
      });
      filled.reset();
    } catch (cause) {
      refuse([problemOf(cause)]);
    }
    setGoing(undefined);
    changed();
  };
  return (
    <Card title="Deploy a model">
      <form
        ref={form}
        class="deploy"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void submit(event.currentTarget);
        }}
      >
        <Field name="model" label="Model" problems={problems} class="wide">
          {(described) => <input {...described} required placeholder="path on the nodes, or hub name" />}
        </Field>
        <Field name="name" label="Name" problems={problems}>
          {(described) => <input {...described} placeholder="last part of the model" />}
        </Field>
        <Choice name="dtype" label="dtype" problems={problems} options={DTYPES} />
        {MESH.map(([name, label]) => (
          <Count key={name} {...{ name, label, problems }} />
        ))}
        <div class="flags">
          {FLAGS.map(([name, label]) => (
            <label key={name} class="inline">
              <input type="checkbox" name={name} /> {label}
            </label>
          ))}
        </div>
        <Count name="replicas" label="Replicas" problems={problems} />
        <Choice name="placement" label="Ranks over the nodes" problems={problems} options={PLACEMENTS} />
        <Count name="cpusPerRank" label="CPU slots per rank" problems={problems} least={0.01} step="any" />
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
      {problems
        .filter((problem) => fieldOf(problem) === undefined)
        .map((problem) => (
          <Problem key={problem.detail.code} problem={problem} />
        ))}
    </Card>
  );
}
