/** The record of wanted deployments in Redis: what survives every process. Not here: what the cluster has of them. @module */
import { deployment, keys, type Deployment } from '@patchbay/protocol';
import type { Logger } from '../log.js';
import type { Redis } from '../redis.js';

export class Registry {
  constructor(
    private readonly redis: Redis,
    private readonly log: Logger,
  ) {}

  async all(): Promise<Map<string, Deployment>> {
    const records = new Map<string, Deployment>();
    for (const [name, json] of Object.entries(await this.redis.hgetall(keys.deployments))) {
      const parsed = deployment.safeParse(parseJson(json));
      if (parsed.success) records.set(name, parsed.data);
      else this.log.error({ deployment: name, reason: parsed.error.message }, 'unreadable record of a deployment');
    }
    return records;
  }

  async put(record: Deployment): Promise<void> {
    await this.redis.hset(keys.deployments, record.spec.name, JSON.stringify(record));
  }

  async delete(name: string): Promise<void> {
    await this.redis.hdel(keys.deployments, name);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
