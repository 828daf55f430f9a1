/** The table of routes as an OpenAPI 3.1 document. @module */
import { z } from 'zod';
import { errorJson } from '../errors.js';
import { jobDocument } from '../job.js';
import { jobStatus } from '../job-record.js';
import { deployment, deploymentSpec, modelDescription } from '../model.js';
import { jobResult } from '../result.js';
import { MEDIA, ROUTES, type Route } from './routes.js';

type Json = Record<string, unknown>;

/** What stands once, under its name. Requests may leave defaults out, answers have them. */
const NAMED = {
  Error: { schema: errorJson, io: 'output' },
  JobDocument: { schema: jobDocument, io: 'input' },
  JobStatus: { schema: jobStatus, io: 'output' },
  JobResult: { schema: jobResult, io: 'output' },
  Deployment: { schema: deployment, io: 'output' },
  DeploymentSpec: { schema: deploymentSpec, io: 'input' },
  ModelDescription: { schema: modelDescription, io: 'output' },
} as const;

const metadata = z.registry<{ id: string }>();
for (const [id, { schema }] of Object.entries(NAMED)) metadata.add(schema, { id });

/** A schema in place; what has a name inside of it is referred to. */
function inline(schema: z.ZodType, io: 'input' | 'output'): Json {
  const { $schema: _dialect, $defs, ...printed } = z.toJSONSchema(schema, { io, metadata, unrepresentable: 'any' });
  // a schema with a name is printed as a reference to its own definition
  const own = $defs?.[metadata.get(schema)?.id ?? ''] ?? printed;
  return JSON.parse(JSON.stringify(own).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

function schemaOf(schema: z.ZodType, io: 'input' | 'output'): Json {
  const id = metadata.get(schema)?.id;
  return id === undefined ? inline(schema, io) : { $ref: `#/components/schemas/${id}` };
}

function parameters({ params, query, headers }: Route): Json[] {
  const places = { path: params, query, header: headers };
  return Object.entries(places).flatMap(([where, schema]) => {
    if (schema === undefined) return [];
    const { properties = {}, required = [] } = inline(schema, 'input') as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    return Object.entries(properties).map(([name, { description, ...type }]) => ({
      name,
      in: where,
      ...(required.includes(name) && { required: true }),
      ...(description !== undefined && { description }),
      schema: type,
    }));
  });
}

function requestBody({ body, takes }: Route): Json {
  if (takes !== undefined) return { requestBody: { required: true, content: { [takes]: {} } } };
  if (body === undefined) return {};
  const required = !body.safeParse(undefined).success;
  return { requestBody: { required, content: { [MEDIA.json]: { schema: schemaOf(body, 'input') } } } };
}

function success({ answer, media, summary }: Route): Json {
  if (answer === undefined && media === undefined) return { description: summary };
  const content = answer === undefined ? {} : { schema: schemaOf(answer, 'output') };
  return { description: summary, content: { [media ?? MEDIA.json]: content } };
}

const operation = (name: string, route: Route): Json => {
  const given = parameters(route);
  return {
    operationId: name,
    summary: route.summary,
    ...(route.open === true && { security: [] }),
    ...(given.length > 0 && { parameters: given }),
    ...requestBody(route),
    responses: { [route.status]: success(route), default: { $ref: '#/components/responses/Error' } },
  };
};

export function openApi(version: string): Json {
  const paths: Record<string, Json> = {};
  for (const [name, route] of Object.entries<Route>(ROUTES)) {
    const path = route.path.replaceAll(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(name, route) };
  }
  const error = { $ref: '#/components/schemas/Error' };
  return {
    openapi: '3.1.0',
    info: { title: 'Patchbay', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    security: [{ token: [] }],
    paths,
    components: {
      schemas: Object.fromEntries(Object.entries(NAMED).map(([id, { schema, io }]) => [id, inline(schema, io)])),
      responses: { Error: { description: 'A refusal or failure', content: { [MEDIA.json]: { schema: error } } } },
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
    },
  };
}
