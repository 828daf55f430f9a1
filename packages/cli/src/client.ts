/** The SDK's client with the command's configuration; loaded late, as most of a command's start-up is its import. @module */
import type { Patchbay } from '@patchbay/sdk';
import type { Config } from './config.js';

export async function openClient({ home, redisUrl, httpUrl, token }: Config): Promise<Patchbay> {
  const { Patchbay } = await import('@patchbay/sdk');
  return new Patchbay({ home, redisUrl, httpUrl, token });
}
