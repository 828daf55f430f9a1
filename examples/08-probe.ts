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

/** Calls the probe of its layer on the last token and keeps what `keep` makes of the scores. */
const probes = (keep: (layer: number) => string): HookFunction[] =>
  Array.from(
    { length: LAYERS },
    (_, layer) =>
      new HookFunction({
        moduleName: `model.layers.${layer}`,
        save: 'none',
        where: { positions: [-1] },
        editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    scores = modules["probe-${layer}"](inputs[:, 0])
    ${keep(layer)}
    return inputs
`,
      }),
  );
const answers = (name: string): HookFunction[] => probes((layer) => `save_ctx["${name}-${layer}"] = scores.argmax(-1)`);

export interface ProbeScores {
  readonly layer: number;
  /** Share of countries whose continent is right. */
  readonly seen: number;
  readonly unseen: number;
  readonly losses: readonly number[];
}

/** Edits return their inputs, so the probes do not see each other: one pass per step trains all of them. */
export async function probeContinents(pb: Patchbay, model: string): Promise<ProbeScores[]> {
  const [seen, unseen] = [sample(0), sample(1)];
  const layers = Array.from({ length: LAYERS }, (_, layer) => layer);
  const job = await pb.jobs.submit({
    model,
    modules: Object.fromEntries(layers.map((layer) => [`probe-${layer}`, linear(WIDTH, CONTINENTS.length)])),
    runs: [
      {
        name: 'fit',
        mode: 'train',
        inputs: { text: seen.text },
        hooks: probes((layer) => `save_ctx["scores-${layer}"] = scores`),
        steps: STEPS,
        optimizer: { kind: 'adamw', lr: 0.03, weightDecay: 0.1 },
        loss: {
          kind: 'python',
          source: `
def loss(logits, save_ctx, modules):
    labels = torch.tensor(${JSON.stringify(seen.labels)})
    losses = [torch.nn.functional.cross_entropy(save_ctx[f"scores-{layer}"], labels) for layer in range(${LAYERS})]
    save_ctx.setdefault("losses", []).append([loss.item() for loss in losses])
    return sum(losses)
`,
        },
      },
      { name: 'seen', inputs: { text: seen.text }, hooks: answers('seen') },
      { name: 'unseen', inputs: { text: unseen.text }, hooks: answers('unseen') },
    ],
  });
  const result = await job.result();
  const right = (name: string, labels: readonly number[]): number => {
    const said = result.saveCtx.tensor(name).toFloat32();
    return labels.filter((label, index) => said[index] === label).length / labels.length;
  };
  const losses = result.saveCtx.get('losses') as number[][];
  return layers.map((layer) => ({
    layer,
    seen: right(`seen-${layer}`, seen.labels),
    unseen: right(`unseen-${layer}`, unseen.labels),
    losses: losses.map((step) => step[layer]!),
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
