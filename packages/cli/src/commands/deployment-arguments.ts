/** How a model is to be deployed, as options of `up` and `deploy`. @module */
import { deploymentSpec } from '@patchbay/protocol';
import { count, flag, text } from '../define-command.js';

const dtypes = deploymentSpec.shape.dtype.def.innerType.options;

export const deploymentArguments = {
  name: text('name of the deployment; default: the last part of the model', { value: 'name' }),
  tp: count('ranks that share every layer (tensor parallel)', { value: 'ranks' }),
  pp: count('stages of layers (pipeline parallel)', { value: 'stages' }),
  dp: count('copies inside one replica', { value: 'copies' }),
  fsdp: count('ranks that share the batch and one set of weights (FSDP)', { value: 'ranks' }),
  expertParallel: flag('tp divides the experts of a mixture instead of every layer'),
  dtype: deploymentSpec.shape.dtype.def.innerType.optional().describe(dtypes.join(', ')).meta({ value: 'dtype' }),
  replicas: count('independent copies of the deployment', { value: 'count' }),
};
