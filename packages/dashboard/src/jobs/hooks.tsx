/** What the hooks did, and where they sit in the model. @module */
import { formatNumber } from '@patchbay/charts';
import type { JSX } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { api, type Deployment, type JobDocument, type JobResult } from '../api.js';
import { useLoaded } from '../live/use-loaded.js';
import { bytes, duration } from '../look/format.js';
import { Card, Empty, Problem, Waiting } from '../look/parts.js';

type Description = NonNullable<Deployment['description']>;

const NUMBERS = ['Calls', 'Rows', 'Change', 'Gathered', 'Gather', 'Edit', 'Scatter'];

/** A hook that reads touches no row and gives nothing back. */
const ofEdit = ({ route }: JobResult['hooks'][number], text: string): string => (route === 'read' ? '–' : text);

export function HookTable({ result }: { readonly result: JobResult }): JSX.Element {
  return (
    <Card title="Hooks" aside={<span class="muted">{result.hooks.length} reports</span>}>
      {result.hooks.length === 0 ? <Empty title="This job had no hooks." /> : null}
      <div class="scroll tall" tabIndex={0} role="group" aria-label="Hook reports">
        <table>
          <thead>
            <tr>
              {[
                'Run',
                'Hook',
                'Module',
                'Calls',
                'Rows',
                'Change',
                'Route',
                'Gathered',
                'Gather',
                'Edit',
                'Scatter',
              ].map((name) => (
                <th scope="col" key={name} class={NUMBERS.includes(name) ? 'num' : ''}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {result.hooks.map((report, index) => (
              <tr key={index}>
                <td>{report.run}</td>
                <td>{report.hook}</td>
                <td>
                  <code>{report.module}</code>
                </td>
                <td class="num">{report.calls}</td>
                <td class="num">{ofEdit(report, String(report.rowsTouched))}</td>
                <td class="num">{report.relativeChange === null ? '–' : formatNumber(report.relativeChange)}</td>
                <td>{report.route}</td>
                <td class="num">{bytes(report.gatheredBytes)}</td>
                <td class="num">{duration(report.gatherMs)}</td>
                <td class="num">{ofEdit(report, duration(report.editMs))}</td>
                <td class="num">{ofEdit(report, duration(report.scatterMs))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

/** `*` is one segment, `**` any number. */
function matcher(glob: string): RegExp {
  const parts = glob.split('.').map((part) => (part === '**' ? '.*' : part.split('*').map(escape).join('[^.]*')));
  return new RegExp(`^${parts.join('\\.')}$`);
}
const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

interface Module {
  readonly name: string;
  readonly className: string;
  readonly hooks: readonly string[];
  readonly layout: string;
}

function modulesOf(description: Description, document: JobDocument): Module[] {
  const hooks = document.hooks.map((hook) => ({
    fits: matcher(hook.moduleName),
    text: `${hook.name} · ${hook.hookType}${hook.edit.kind === 'none' ? ' · read' : ''}`,
  }));
  const { tp, pp, dp } = description.mesh;
  const sites = new Map(
    description.sites.filter(({ hookType }) => hookType === 'forward').map((site) => [site.module, site]),
  );
  return description.modules.map(({ name, className }) => {
    const site = sites.get(name);
    const shape = site === undefined ? '' : `[${site.shape.join(', ')}] `;
    const where =
      site === undefined
        ? ''
        : site.layout === 'sharded'
          ? `dim ${site.shardDim ?? '?'} over ${tp} ranks`
          : site.layout === 'replicated'
            ? tp * pp * dp > 1
              ? 'whole on every rank'
              : 'one rank'
            : site.layout;
    return {
      name,
      className,
      layout: shape + where,
      hooks: hooks.filter(({ fits }) => fits.test(name)).map(({ text }) => text),
    };
  });
}

function Tree({ modules }: { readonly modules: readonly Module[] }): JSX.Element {
  return (
    <ul class="tree">
      {modules.map(({ name, className, hooks, layout }) => (
        <li
          key={name}
          class={hooks.length > 0 ? 'hooked' : ''}
          style={{ paddingInlineStart: `${name.split('.').length * 14}px` }}
        >
          <code>{name === '' ? 'model' : name.split('.').slice(-1)}</code> <span class="muted">{className}</span>
          {layout === '' ? null : <span class="layout">{layout}</span>}
          {hooks.map((hook) => (
            <span class="label hook" key={hook}>
              {hook}
            </span>
          ))}
        </li>
      ))}
    </ul>
  );
}

export function HookMap({ document }: { readonly document: JobDocument }): JSX.Element {
  const [all, setAll] = useState(false);
  const { value, problem } = useLoaded((signal) => api.model(document.model, signal), [document.model]);
  const description = value?.description;
  const modules = useMemo(() => (description == null ? [] : modulesOf(description, document)), [description, document]);
  const hooked = modules.filter(({ hooks }) => hooks.length > 0).map(({ name }) => name);
  const shown = all
    ? modules
    : modules.filter(({ name }) => hooked.some((hook) => hook === name || hook.startsWith(`${name}.`)));
  return (
    <Card
      title="Hook map"
      aside={
        <label class="inline">
          <input type="checkbox" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} /> whole model
        </label>
      }
    >
      {problem === undefined ? null : <Problem problem={problem} />}
      {value === undefined && problem === undefined ? <Waiting what="the model" /> : null}
      {value !== undefined && shown.length === 0 ? (
        <Empty title="No hook of this job is on a module of the model." />
      ) : null}
      <div class="scroll tall" tabIndex={0} role="group" aria-label="Modules with hooks">
        <Tree modules={shown} />
      </div>
    </Card>
  );
}
