/** Ablation: each attention head in turn is set to zero. Which ones does the model need to name capitals? */
import { heatmap, toSvg, toTerminal } from '@patchbay/charts';
import { HookFunction, type Patchbay } from '@patchbay/sdk';
import { script, type Grid } from './script.js';

const [LAYERS, HEADS, WIDTH] = [4, 8, 16];
const FACTS: Readonly<Record<string, string>> = {
  France: ' Paris', Germany: ' Berlin', Italy: ' Rome', Japan: ' Tokyo', Egypt: ' Cairo', Cuba: ' Havana', Chile: ' Santiago',
  Kenya: ' Nairobi', Norway: ' Oslo', Nepal: ' Kathmandu', Angola: ' Luanda', Fiji: ' Suva',
}; // prettier-ignore

/** The heads' outputs, side by side, are what o_proj takes: sharded over the ranks, whole in the edit. */
const withoutHead = (layer: number, head: number): HookFunction =>
  new HookFunction({
    moduleName: `model.layers.${layer}.self_attn.o_proj`,
    hookType: 'forward_pre',
    expectedShape: [null, null, HEADS * WIDTH],
    save: 'none',
    editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    inputs = inputs.clone()
    inputs[..., ${head * WIDTH}:${(head + 1) * WIDTH}] = 0
    return inputs
`,
  });

/** Mean probability of the right capital that is lost without the head: [layer][head]. */
export async function ablateHeads(pb: Patchbay, model: string): Promise<Grid> {
  const inputs = { text: Object.keys(FACTS).map((country) => `The capital of ${country} is`) };
  const grid = Array.from({ length: LAYERS }, (_, layer) =>
    Array.from({ length: HEADS }, (_, head) => ({ layer, head })),
  );
  const job = await pb.jobs.submit({
    model,
    runs: [
      { name: 'whole', inputs, hooks: [], return: { topK: 20 } },
      ...grid.flat().map(({ layer, head }) => ({
        name: `without-${layer}-${head}`,
        inputs,
        hooks: [withoutHead(layer, head)],
        return: { topK: 20 },
      })),
    ],
  });
  const { runs } = await job.result();
  const right = (run: string): number => {
    const answers = Object.values(FACTS);
    const found = answers.map((answer, row) => runs[run]!.topK![row]!.find(({ token }) => token === answer));
    return found.reduce((sum, top) => sum + (top?.probability ?? 0), 0) / answers.length;
  };
  const whole = right('whole');
  return {
    title: 'Probability of the right capital that is lost without a head',
    rows: grid.map((_, layer) => `layer ${layer}`),
    columns: Array.from({ length: HEADS }, (_, head) => `head ${head}`),
    values: grid.map((row) => row.map(({ layer, head }) => whole - right(`without-${layer}-${head}`))),
  };
}

script(import.meta.url, async (pb, model) => {
  const map = await ablateHeads(pb, model);
  return { text: toTerminal(map, process.stdout.isTTY), pictures: { 'ablate-heads': toSvg(heatmap(map)) } };
});
