/**
 * Which tensors a result has and where their bytes are, from the headers of its files alone: a page then reads the part that it
 * shows by ranges of the artifact. Not here: values.
 * @module
 */
import { headerEnd, parseSafetensorsHeader, resultFile } from '@patchbay/protocol';
import type { TensorPlace } from '@patchbay/protocol/http';
import { z } from 'zod';
import type { ArtifactStore } from '../artifacts/store.js';

const withFiles = z.looseObject({ files: z.record(z.string(), resultFile).default({}) });
const LENGTH_BYTES = 8;

/** @throws `PB_SAFETENSORS_INVALID`, `PB_ARTIFACT_NOT_FOUND` */
export async function listTensors(result: unknown, artifacts: ArtifactStore): Promise<TensorPlace[]> {
  const files = Object.entries(withFiles.parse(result).files).filter(([name]) => name.endsWith('.safetensors'));
  const lists = await Promise.all(
    files.map(async ([file, { sha256, bytes, inline }]) => {
      const header = inline === undefined ? await readHeader(artifacts, sha256, bytes) : Buffer.from(inline, 'base64');
      const { tensors } = parseSafetensorsHeader(header, bytes);
      return [...tensors].map(([name, tensor]) => ({ file, name, sha256, ...tensor, inline: inline !== undefined }));
    }),
  );
  return lists.flat();
}

async function readHeader(artifacts: ArtifactStore, sha256: string, bytes: number): Promise<Buffer> {
  const length = await readRange(artifacts, sha256, 0, Math.min(LENGTH_BYTES, bytes));
  return readRange(artifacts, sha256, 0, headerEnd(length, bytes));
}

async function readRange(artifacts: ArtifactStore, sha256: string, start: number, end: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of await artifacts.get(sha256, { start, end: end - 1 })) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
