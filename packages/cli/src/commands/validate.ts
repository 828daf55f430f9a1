/** `patchbay validate`: all checks of a document that need no run. @module */
import { openClient } from '../client.js';
import { defineCommand, positional } from '../define-command.js';
import { readDocument } from '../read-document.js';

export const validate = defineCommand({
  name: 'validate',
  summary: 'Check a job document: schema, and module names and shapes against the deployment',
  args: { document: positional('job document; - is stdin') },
  async run({ args, config, out, signal }) {
    const value = await readDocument(args.document);
    await using client = await openClient(config);
    const { warnings } = await client.validate(value as Parameters<typeof client.validate>[0], { signal });
    out.data({ valid: true, warnings }, ['valid', ...warnings.map((warning) => `warning: ${warning}`)].join('\n'));
    return undefined;
  },
});
