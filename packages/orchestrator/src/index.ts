/** Takes jobs from Redis and runs them on the deployed models. A process of its own: `main.ts`; in another one: this. @module */
export { startOrchestrator, type Orchestrator } from './orchestrator.js';
export type { OrchestratorOptions } from './config.js';
