/** The three experiments of docs/how-to/coming-from.md in Patchbay, on a sharded model. */
import { HookFunction, Patchbay } from '@patchbay/sdk';

const pb = new Patchbay();
const inputs = { text: ['The capital of France is'] };

// edit: without head 7 of layer 2; o_proj takes the heads' outputs, side by side
const withoutHead = new HookFunction({
  name: 'head',
  moduleName: 'model.layers.2.self_attn.o_proj',
  hookType: 'forward_pre',
  editingFunction: `
def edit(current_module, inputs, save_ctx, modules):
    inputs = inputs.clone()
    inputs[..., 112:128] = 0
    return inputs`,
});
// read: the residual stream after layer 1, last token
const residual = new HookFunction({ name: 'residual', moduleName: 'model.layers.1', where: { positions: [-1] } });
// gradient of the answer's logit at layer 1
const gradient = new HookFunction({ name: 'gradient', moduleName: 'model.layers.1', hookType: 'full_backward_pre' });

const job = await pb.jobs.submit({
  model: 'tiny-facts',
  runs: [
    { name: 'clean', inputs, hooks: [residual], return: { topK: 1 } },
    { name: 'edited', inputs, hooks: [withoutHead], return: { logits: 'last' } },
    {
      name: 'back',
      mode: 'backward',
      inputs,
      hooks: [gradient],
      loss: {
        kind: 'python',
        source: 'def loss(logits, save_ctx, modules):\n    return logits[0, -1, int(logits[0, -1].argmax())]',
      },
    },
  ],
});
const result = await job.result();
const paris = result.runs['clean']!.topK![0]![0]!.tokenId;
const norm = (hook: string): number => Math.hypot(...result.activations({ hook })[0]!.tensor().toFloat32());
const numbers = {
  residual: norm('residual'),
  withoutHead: result.logits('edited').toFloat32()[paris]!,
  gradient: norm('gradient'),
};
console.log(JSON.stringify(numbers));
await pb.close();
