/**
 * Artifacts in a bucket of S3 or of what speaks its protocol: `<prefix><sha256>`. Region, credentials and endpoint are those of
 * AWS's own tools (`AWS_REGION`, `AWS_PROFILE`, `AWS_ENDPOINT_URL_S3`, ...).
 * @module
 */
import { Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  S3Client,
  S3ServiceException,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { error, isPatchbayError } from '@patchbay/protocol';
import { checked } from './checked.js';
import type { ArtifactInfo, ArtifactStore, ByteRange } from './store.js';

/** S3 takes 10,000 parts: this is enough for 640 GiB. */
const PART_BYTES = 64 << 20;

export class S3Store implements ArtifactStore {
  private readonly client: S3Client;
  private readonly bucket: string;
  private readonly prefix: string;

  /** @param location - `s3://bucket` or `s3://bucket/prefix` */
  constructor(
    private readonly location: URL,
    private readonly maxBytes: number,
  ) {
    this.bucket = location.hostname;
    const prefix = location.pathname.replace(/^\/+|\/+$/g, '');
    this.prefix = prefix === '' ? '' : `${prefix}/`;
    // a server of one's own seldom has a host name per bucket
    const own = process.env['AWS_ENDPOINT_URL_S3'] ?? process.env['AWS_ENDPOINT_URL'];
    this.client = new S3Client({ forcePathStyle: own !== undefined });
  }

  /** @throws `PB_ARTIFACT_STORE_UNAVAILABLE` */
  async prepare(): Promise<void> {
    await this.ask(() => this.client.send(new HeadBucketCommand({ Bucket: this.bucket })));
  }

  async put(sha256: string, content: Readable): Promise<ArtifactInfo> {
    let bytes = 0;
    const counted = async function* (this: S3Store): AsyncGenerator<Buffer> {
      for await (const chunk of checked(content, sha256, this.maxBytes)) {
        bytes += chunk.length;
        yield chunk;
      }
    };
    // an error of the content ends the upload before its last part, and nothing is there
    const params = { ...this.object(sha256), Body: Readable.from(counted.call(this), { objectMode: false }) };
    await this.ask(() => new Upload({ client: this.client, params, partSize: PART_BYTES, queueSize: 1 }).done());
    return { sha256, bytes };
  }

  async head(sha256: string): Promise<ArtifactInfo> {
    const { ContentLength = 0 } = await this.ask(
      () => this.client.send(new HeadObjectCommand(this.object(sha256))),
      sha256,
    );
    return { sha256, bytes: ContentLength };
  }

  async get(sha256: string, range?: ByteRange): Promise<Readable> {
    const part = range && { Range: `bytes=${range.start}-${range.end}` };
    const { Body } = await this.ask(
      () => this.client.send(new GetObjectCommand({ ...this.object(sha256), ...part })),
      sha256,
    );
    return Body as Readable;
  }

  async olderThan(time: number): Promise<string[]> {
    const old: string[] = [];
    await this.ask(async () => {
      const pages = paginateListObjectsV2({ client: this.client }, { Bucket: this.bucket, Prefix: this.prefix });
      for await (const { Contents = [] } of pages) {
        for (const { Key = '', LastModified } of Contents) {
          const name = Key.slice(this.prefix.length);
          if (/^[0-9a-f]{64}$/.test(name) && LastModified !== undefined && LastModified.getTime() < time)
            old.push(name);
        }
      }
    });
    return old;
  }

  async delete(sha256: string): Promise<boolean> {
    try {
      await this.head(sha256);
    } catch (cause) {
      if (isPatchbayError(cause, 'PB_ARTIFACT_NOT_FOUND')) return false;
      throw cause;
    }
    await this.ask(() => this.client.send(new DeleteObjectCommand(this.object(sha256))));
    return true;
  }

  private object(sha256: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: this.prefix + sha256 };
  }

  /** Types what the store answers; what the content or the client did wrong passes. */
  private async ask<T>(call: () => Promise<T>, sha256?: string): Promise<T> {
    try {
      return await call();
    } catch (cause) {
      if (isPatchbayError(cause)) throw cause;
      const status = cause instanceof S3ServiceException ? cause.$metadata.httpStatusCode : undefined;
      if (sha256 !== undefined && status === 404) {
        throw error('PB_ARTIFACT_NOT_FOUND', { artifact: `sha256:${sha256}` }, { cause });
      }
      const reason = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
      throw error('PB_ARTIFACT_STORE_UNAVAILABLE', { store: this.location.href, reason }, { cause });
    }
  }
}
