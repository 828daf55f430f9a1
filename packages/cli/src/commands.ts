/** Every command and the file that has it; a file is only loaded when its command is used, or for help. @module */
import type { Command } from './define-command.js';

const LOADERS: Readonly<Record<string, () => Promise<Command>>> = {
  setup: async () => (await import('./commands/setup.js')).setup,
  up: async () => (await import('./commands/up.js')).up,
  down: async () => (await import('./commands/down.js')).down,
  doctor: async () => (await import('./commands/doctor.js')).doctor,
  deploy: async () => (await import('./commands/deployments.js')).deploy,
  undeploy: async () => (await import('./commands/deployments.js')).undeploy,
  drain: async () => (await import('./commands/drain.js')).drain,
  models: async () => (await import('./commands/deployments.js')).models,
  run: async () => (await import('./commands/run.js')).run,
  submit: async () => (await import('./commands/run.js')).submit,
  result: async () => (await import('./commands/run.js')).result,
  upload: async () => (await import('./commands/upload.js')).upload,
  validate: async () => (await import('./commands/validate.js')).validate,
  jobs: async () => (await import('./commands/jobs.js')).jobs,
  job: async () => (await import('./commands/jobs.js')).job,
  logs: async () => (await import('./commands/follow.js')).logs,
  events: async () => (await import('./commands/follow.js')).events,
  show: async () => (await import('./commands/show.js')).show,
  top: async () => (await import('./commands/top.js')).top,
  completion: async () => (await import('./commands/completion.js')).completion,
  init: async () => (await import('./commands/init.js')).init,
  cancel: async () => (await import('./commands/jobs.js')).cancel,
};

/** The named command alone, or all when there is no such name. */
export async function loadCommands(name?: string): Promise<Command[]> {
  const loader = name === undefined ? undefined : LOADERS[name];
  return loader === undefined ? Promise.all(Object.values(LOADERS).map((load) => load())) : [await loader()];
}
