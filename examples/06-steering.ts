/** A steering vector, the difference of two means: asked for the language, the model generates the capital. */
import { toSvg, tokenGrid } from '@patchbay/charts';
import { HookFunction, type Patchbay } from '@patchbay/sdk';
import { script, wordGrid } from './script.js';

const LAYER = 'model.layers.2';
/** The vector is made from these countries and tried on others. */
const MADE_FROM = [
  'France',
  'Germany',
  'Italy',
  'Spain',
  'Greece',
  'Austria',
  'Ireland',
  'Finland',
  'Latvia',
  'Norway',
];
export const TRIED_ON = ['Japan', 'China', 'Iran', 'Egypt', 'Kenya', 'Cuba', 'Brazil', 'Chile'];
const STRENGTHS = [0, 0.25, 0.5, 0.75, 1, 1.5];

const meanAs = (name: string): HookFunction =>
  new HookFunction({
    moduleName: LAYER,
    save: 'none',
    where: { positions: [-1] },
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    save_ctx["${name}"] = inputs.mean(dim=(0, 1))
    return inputs
`,
  });

const steer = (strength: number): HookFunction =>
  new HookFunction({
    moduleName: LAYER,
    save: 'none',
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    return inputs + ${strength} * (save_ctx.capital - save_ctx.language)
`,
  });

/** By strength: what is generated after "The language of <country> is", one text per country. */
export async function steerLanguageToCapital(
  pb: Patchbay,
  model: string,
): Promise<{ readonly strength: number; readonly texts: readonly string[] }[]> {
  const prompts = (what: string, countries: readonly string[]): { text: string[] } => ({
    text: countries.map((country) => `The ${what} of ${country} is`),
  });
  const job = await pb.jobs.submit({
    model,
    runs: [
      { name: 'capital', inputs: prompts('capital', MADE_FROM), hooks: [meanAs('capital')] },
      { name: 'language', inputs: prompts('language', MADE_FROM), hooks: [meanAs('language')] },
      ...STRENGTHS.map((strength) => ({
        name: `strength-${strength}`,
        mode: 'generate' as const,
        maxNewTokens: 1,
        inputs: prompts('language', TRIED_ON),
        hooks: [steer(strength)],
      })),
    ],
  });
  const { runs } = await job.result();
  return STRENGTHS.map((strength) => ({ strength, texts: runs[`strength-${strength}`]!.text! }));
}

script(import.meta.url, async (pb, model) => {
  const steered = await steerLanguageToCapital(pb, model);
  const plain = steered[0]!.texts;
  const map = {
    title: 'After "The language of ... is", by strength of the vector (capital - language)',
    rows: steered.map(({ strength }) => String(strength)),
    columns: TRIED_ON,
    cells: steered.map(({ texts }) =>
      texts.map((token, index) => ({ token, value: token === plain[index] ? 0.1 : 0.8 })),
    ),
  };
  return { text: wordGrid(map), pictures: { steering: toSvg(tokenGrid(map)) } };
});
