/** The HTTP service's contract: `@patchbay/protocol/http`. @module */
export { MEDIA, ROUTES } from './routes.js';
export type { Answer, AnsweredRoute, Route, RouteName } from './routes.js';
export { openApi } from './openapi.js';
export { cluster } from './answers.js';
export type {
  Change,
  Cluster,
  DeployLine,
  DrainState,
  HealthReport,
  JobPage,
  JobWithDocument,
  Place,
  QueueCounts,
  QueueOverview,
  Role,
  Session,
  StatsPoint,
  Submitted,
  TensorPlace,
} from './answers.js';
