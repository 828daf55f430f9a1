/** A low-rank adapter in a hook, trained through the frozen, sharded model: it moves one capital and leaves the others. */
import { lineChart, toSvg } from '@patchbay/charts';
import { HookFunction, lowRank, type Patchbay } from '@patchbay/sdk';
import { script } from './script.js';

const STEPS = 40;
export const TAUGHT = { country: 'Fiji', capital: ' Paris' };
const KEPT: Readonly<Record<string, string>> = {
  France: ' Paris', Italy: ' Rome', Japan: ' Tokyo', Egypt: ' Cairo', Cuba: ' Havana', Norway: ' Oslo', Peru: ' Lima', Kenya: ' Nairobi',
}; // prettier-ignore

const prompt = (country: string): string => `The capital of ${country} is`;

export interface Adapted {
  readonly losses: readonly number[];
  /** Country -> what the model says before and after. */
  readonly answers: Readonly<Record<string, { readonly before: string; readonly after: string }>>;
  /** Shapes of the trained parameters, by name. */
  readonly parameters: Readonly<Record<string, readonly number[]>>;
}

export async function trainAdapter(pb: Patchbay, model: string): Promise<Adapted> {
  const adapter = new HookFunction({
    moduleName: 'model.layers.1',
    save: 'none',
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return inputs + modules["adapter"](inputs)
`,
  });
  const countries = [TAUGHT.country, ...Object.keys(KEPT)];
  const taught = { ...KEPT, [TAUGHT.country]: TAUGHT.capital };
  const asked = { text: countries.map(prompt) };
  const job = await pb.jobs.submit({
    model,
    modules: { adapter: lowRank(128, 128, 4) },
    runs: [
      { name: 'before', inputs: asked, hooks: [], return: { topK: 1 } },
      {
        name: 'fit',
        mode: 'train',
        inputs: { text: countries.map((country) => `${prompt(country)}${taught[country]!}`) },
        hooks: [adapter],
        loss: { kind: 'nextToken' },
        steps: STEPS,
        optimizer: { kind: 'adamw', lr: 0.02 },
      },
      { name: 'after', inputs: asked, hooks: [adapter], return: { topK: 1 } },
    ],
  });
  const result = await job.result();
  const said = (run: string, row: number): string => result.runs[run]!.topK![row]![0]!.token;
  return {
    losses: result.runs['fit']!.losses!.map((loss) => loss ?? Number.NaN),
    answers: Object.fromEntries(
      countries.map((country, row) => [country, { before: said('before', row), after: said('after', row) }]),
    ),
    parameters: Object.fromEntries(
      result
        .tensors()
        .filter(({ file }) => file === 'modules.safetensors')
        .map(({ name, tensor }) => [name, tensor.shape]),
    ),
  };
}

script(import.meta.url, async (pb, model) => {
  const { losses, answers, parameters } = await trainAdapter(pb, model);
  const lines = Object.entries(answers).map(
    ([country, { before, after }]) => `${country.padEnd(8)}${before.padEnd(10)}->${after}`,
  );
  const shapes = Object.entries(parameters).map(([name, shape]) => `${name} ${JSON.stringify(shape)}`);
  const picture = lineChart({ title: 'Loss of the adapter', series: [{ name: 'loss', y: losses }], xTitle: 'step' });
  return { text: [...lines, `trained: ${shapes.join(', ')}`].join('\n'), pictures: { adapter: toSvg(picture) } };
});
