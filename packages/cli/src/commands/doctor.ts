/** `patchbay doctor`: what this machine lacks, what the stack's parts say, and the fix of each. @module */
import { defineCommand } from '../define-command.js';
import { table } from '../output.js';

export const doctor = defineCommand({
  name: 'doctor',
  summary: 'Check this machine and the running stack; name the fix of what is wrong',
  args: {},
  async run({ config, out }) {
    const { diagnose } = await import('../doctor/diagnose.js');
    const checks = await diagnose(config);
    const failed = checks.filter(({ status }) => status === 'fail');
    out.data({ ok: failed.length === 0, checks }, () => {
      const lines = table(
        ['', 'CHECK', 'FOUND'],
        checks.map(({ name, status, found }) => [
          { ok: 'ok', warn: 'warn', fail: 'FAIL', info: '-' }[status],
          name,
          found,
        ]),
      );
      const fixes = checks.filter(({ fix }) => fix !== undefined).map(({ name, fix }) => `${name}: ${fix}`);
      return fixes.length === 0 ? lines : `${lines}\n\n${fixes.join('\n')}`;
    });
    return failed.length === 0 ? 0 : 1;
  },
});
