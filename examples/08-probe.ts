/**
 * Linear probes, trained inside the hook: can the continent be read from the residual stream after each layer? The
 * countries that a probe was trained on say little (it can learn them by heart); those that it never saw, everything.
 */
import { lineChart, toSvg } from '@patchbay/charts';
import { HookFunction, linear, type Patchbay } from '@patchbay/sdk';
import { script } from './script.js';

const [LAYERS, WIDTH, STEPS] = [4, 128, 60];
const COUNTRIES: Readonly<Record<string, readonly [seen: string, unseen: string]>> = {
  Europe: ['France Germany Italy Spain Portugal Greece Austria Finland Estonia Poland Hungary Sweden Norway Serbia', 'Ireland Latvia Croatia Denmark Romania Ukraine'],
  Asia: ['Japan China Thailand Vietnam Nepal Bangladesh Iran Iraq Jordan Qatar', 'Mongolia Lebanon Syria Armenia Laos'],
  Africa: ['Egypt Morocco Tunisia Libya Sudan Kenya Tanzania Ghana Nigeria Angola', 'Uganda Senegal Mozambique Zambia'],
}; // prettier-ignore
const CONTINENTS = Object.values(COUNTRIES);

function sample(which: 0 | 1): { readonly text: string[]; readonly labels: number[] } {
  const pairs = CONTINENTS.flatMap((names, label) => names[which].split(' ').map((name) => [name, label] as const));
  return { text: pairs.map(([name]) => `The capital of ${name} is`), labels: pairs.map(([, label]) => label) };
}

/** One hook per layer, on the last token. */
const atLayers = (body: (layer: number) => string): HookFunction[] =>
  Array.from(
    { length: LAYERS },
    (_, layer) =>
      new HookFunction({
        moduleName: `model.layers.${layer}`,
        save: 'none',
        where: { positions: [-1] },
        editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    probe, seen = modules["probe-${layer}"], inputs[:, 0].clone()
${body(layer)}
    return inputs
`,
      }),
  );

/** The model is frozen, so its activations are the same at every step: one pass brings them, and the edit does the steps. */
const fit = (labels: readonly number[]): HookFunction[] =>
  atLayers(
    (layer) => `    labels = torch.tensor(${JSON.stringify(labels)})
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.03, weight_decay=0.1)
    losses = []
    with torch.enable_grad():
        for _ in range(${STEPS}):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(probe(seen), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    save_ctx["losses-${layer}"] = losses
    save_ctx["seen-${layer}"] = probe(seen).argmax(-1)`,
  );
const ask = (): HookFunction[] => atLayers((layer) => `    save_ctx["unseen-${layer}"] = probe(seen).argmax(-1)`);

export interface ProbeScores {
  readonly layer: number;
  /** Share of countries whose continent is right. */
  readonly seen: number;
  readonly unseen: number;
  readonly losses: readonly number[];
}

export async function probeContinents(pb: Patchbay, model: string): Promise<ProbeScores[]> {
  const [seen, unseen] = [sample(0), sample(1)];
  const layers = Array.from({ length: LAYERS }, (_, layer) => layer);
  const job = await pb.jobs.submit({
    model,
    modules: Object.fromEntries(layers.map((layer) => [`probe-${layer}`, linear(WIDTH, CONTINENTS.length)])),
    runs: [
      { name: 'fit', inputs: { text: seen.text }, hooks: fit(seen.labels) },
      { name: 'unseen', inputs: { text: unseen.text }, hooks: ask() },
    ],
  });
  const result = await job.result();
  const right = (name: string, labels: readonly number[]): number => {
    const said = result.saveCtx.tensor(name).toFloat32();
    return labels.filter((label, index) => said[index] === label).length / labels.length;
  };
  return layers.map((layer) => ({
    layer,
    seen: right(`seen-${layer}`, seen.labels),
    unseen: right(`unseen-${layer}`, unseen.labels),
    losses: result.saveCtx.get(`losses-${layer}`) as number[],
  }));
}

script(import.meta.url, async (pb, model) => {
  const scores = await probeContinents(pb, model);
  const lines = scores.map(
    ({ layer, seen, unseen }) =>
      `layer ${layer}: right for ${(seen * 100).toFixed(0)} % of the countries it was trained on, ${(unseen * 100).toFixed(0)} % of others`,
  );
  const picture = lineChart({
    title: 'Continent read from the last token by a linear probe',
    series: [
      { name: 'trained on', y: scores.map(({ seen }) => seen) },
      { name: 'never seen', y: scores.map(({ unseen }) => unseen) },
    ],
    xTitle: 'layer',
    yTitle: 'share that is right',
  });
  return { text: lines.join('\n'), pictures: { probe: toSvg(picture) } };
});
