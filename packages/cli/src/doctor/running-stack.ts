/** What the parts of the running stack say. A stack that is not there is no fault. @module */
import type { StackInfo } from '@patchbay/protocol';
import { z } from 'zod';
import type { Config } from '../config.js';
import { readStack } from '../stack/keeper.js';
import { stackPaths } from '../stack/paths.js';
import { accepts } from '../processes/ports.js';
import { inspectRedis } from '../stack/redis.js';
import { health, partStatus, type Health } from '../stack/services.js';
import type { Check } from './diagnose.js';
import { clockCheck } from './hardware.js';
import { failedProbes, levelText, sandboxSelfTest } from './sandbox.js';

async function portCheck(name: string, address: string, log: string): Promise<Check> {
  const [host = '', port = ''] = address.replace(/^ray:\/\//, '').split(':');
  const ok = await accepts(host, Number(port));
  return {
    name,
    status: ok ? 'ok' : 'fail',
    found: `${address} ${ok ? 'accepts' : 'does not accept'} connections`,
    fix: ok ? undefined : `It is started again by itself; its log is ${log}.`,
  };
}

async function ownRedisChecks(info: StackInfo): Promise<Check[]> {
  try {
    const { version, policy, clockAheadMs } = await inspectRedis(info.redisUrl);
    const ok = policy === undefined || policy === 'noeviction';
    const check: Check = {
      name: 'running redis',
      status: ok ? 'ok' : 'warn',
      found: `${version}, ${policy ?? 'policy unknown'}`,
      fix: ok ? undefined : 'CONFIG SET maxmemory-policy noeviction',
    };
    return [check, clockCheck(clockAheadMs)];
  } catch (problem) {
    const check: Check = {
      name: 'running redis',
      status: 'fail',
      found: (problem as Error).message,
      fix: 'It is started again by itself; see its log.',
    };
    return [check, clockCheck(undefined)];
  }
}

const deployed = z.object({
  description: z
    .object({
      sandboxLevel: z.string(),
      sandboxProbes: z
        .array(z.object({ name: z.string().optional(), ok: z.boolean().optional(), reason: z.string().nullish() }))
        .default([]),
    })
    .nullish(),
});

async function readModels(http: string, token: string | undefined): Promise<z.output<typeof deployed>[]> {
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  try {
    const response = await fetch(new URL('/api/models', http), { headers, signal: AbortSignal.timeout(5000) });
    return z.object({ models: z.array(deployed) }).parse(await response.json()).models;
  } catch {
    return []; // what is wrong with the orchestrator is told by its own check
  }
}

/** The failed probes say why the level is no better. */
async function sandboxCheck(report: Health, http: string, token: string | undefined, config: Config): Promise<Check> {
  const descriptions = (await readModels(http, token)).flatMap(({ description }) => description ?? []);
  const probes = descriptions.flatMap(({ sandboxProbes }) => sandboxProbes);
  const failed = failedProbes(probes);
  const why = [...new Set(failed.map(({ name, reason }) => [name, reason].filter((part) => part != null).join(': ')))];
  const level = report.sandboxLevel ?? descriptions[0]?.sandboxLevel;
  if (level === undefined) return sandboxSelfTest(config);
  const trusted = level === 'trusted' ? 'Run only editing functions that you trust.' : undefined;
  return {
    name: 'sandbox',
    status: level === 'trusted' ? 'warn' : 'ok',
    found: levelText(level, probes),
    fix: why.length > 0 ? `failed probes: ${why.join('; ')}` : trusted,
  };
}

/** Deployments try it from the ranks' nodes; from here it is only known whether anything of ours is there. */
export async function artifactUrlCheck(url: string): Promise<Check> {
  const ok = (await health(url)) !== undefined;
  return {
    name: 'artifact url',
    status: ok ? 'ok' : 'fail',
    found: `${url} ${ok ? 'is' : 'is not'} an orchestrator, seen from here`,
    fix: ok
      ? undefined
      : "Set PATCHBAY_ARTIFACT_URL to an address of the orchestrator that the ranks' nodes can reach, and PATCHBAY_HTTP_HOST to listen there.",
  };
}

export async function stackChecks(config: Config): Promise<Check[]> {
  const paths = stackPaths(config.home);
  const info = readStack(paths);
  const http = config.httpUrl ?? info?.http;
  if (http === undefined) {
    return [
      { name: 'stack', status: 'info', found: `not running for ${config.home}`, fix: 'Start it: patchbay up' },
      await sandboxSelfTest(config),
    ];
  }
  const checks: Check[] = [
    { name: 'stack', status: 'ok', found: info === undefined ? http : `kept by process ${info.keeperPid}` },
  ];
  if (info !== undefined)
    checks.push(
      ...(await ownRedisChecks(info)),
      await portCheck('ray', info.rayAddress, paths.log('ray')),
      await portCheck('gateway', info.gateway, paths.log('gateway')),
    );
  if (config.artifactUrl !== undefined) checks.push(await artifactUrlCheck(config.artifactUrl));
  const report = await health(http);
  if (report === undefined)
    return [
      ...checks,
      {
        name: 'orchestrator',
        status: 'fail',
        found: `${http} does not answer`,
        fix: `It is started again by itself; its log is ${paths.log('orchestrator')}.`,
      },
    ];
  const reached = partStatus(report, 'gateway') ?? 'unknown';
  checks.push({
    name: 'orchestrator',
    status: report.status === 'ok' ? 'ok' : 'warn',
    found: `${report.status} at ${http}, gateway ${reached}`,
    fix: report.status === 'ok' ? undefined : JSON.stringify(report.parts),
  });
  return [...checks, await sandboxCheck(report, http, config.token ?? info?.token, config)];
}
