/** How a model is to be deployed, as options of `up` and `deploy`. @module */
import { deploymentSpec } from '@patchbay/protocol';
import { count, text } from '../define-command.js';

const dtypes = deploymentSpec.shape.dtype.def.innerType.options;

export const deploymentArguments = {
  name: text('name of the deployment; default: the last part of the model', { value: 'name' }),
  tp: count('ranks that share every layer (tensor parallel)', { value: 'ranks' }),
  pp: count('stages of layers (pipeline parallel)', { value: 'stages' }),
  dp: count('copies inside one replica', { value: 'copies' }),
  dtype: deploymentSpec.shape.dtype.def.innerType.optional().describe(dtypes.join(', ')).meta({ value: 'dtype' }),
  replicas: count('independent copies of the deployment', { value: 'count' }),
};
