/** Which artifact store the configuration names. @module */
import { join } from 'node:path';
import type { OrchestratorConfig } from '../config.js';
import { LocalStore } from './local-store.js';
import type { ArtifactStore } from './store.js';

/** @throws `PB_ARTIFACT_STORE_UNAVAILABLE` */
export async function openStore(config: OrchestratorConfig): Promise<ArtifactStore> {
  const { artifactStore, artifactMaxBytes, home } = config;
  const store =
    artifactStore === undefined
      ? new LocalStore(join(home, 'artifacts'), artifactMaxBytes)
      : // most installations never load it
        new (await import('./s3-store.js')).S3Store(new URL(artifactStore), artifactMaxBytes);
  await store.prepare();
  return store;
}
