/**
 * What every gRPC client here has in common: channel options, credentials, dialling with a limit, typed errors.
 * Not here: messages (convert.ts) and services (gateway.ts, gang.ts).
 * @module
 */
import { Metadata, connectivityState, status, type Client, type ClientOptions, type ServiceError } from '@grpc/grpc-js';
import { PatchbayError } from '@patchbay/protocol';

/** Trailer in which the cluster sends the JSON of a typed error. */
const ERROR_TRAILER = 'patchbay-error-bin';
const MAX_MESSAGE_BYTES = 64 * 2 ** 20;

/**
 * The servers allow pings at this rate (their own minimum is set below it). A peer that is cut off without a word is known
 * after both times; a process that only is slow answers pings in time, since no Python runs for that.
 */
export const CHANNEL_OPTIONS: ClientOptions = {
  'grpc.keepalive_time_ms': 3_000,
  'grpc.keepalive_timeout_ms': 3_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
};

/** Metadata of a call with a bearer token; none for an empty one. */
export function bearer(token: string): Metadata {
  const metadata = new Metadata();
  if (token !== '') metadata.set('authorization', `Bearer ${token}`);
  return metadata;
}

/** True when the server was reached within the time; false as soon as it refuses. */
export function dial(client: Client, limitMs: number): Promise<boolean> {
  const channel = client.getChannel();
  const deadline = Date.now() + limitMs;
  return new Promise((resolve) => {
    const check = (timedOut?: Error): void => {
      const state = channel.getConnectivityState(true);
      if (state === connectivityState.READY) return resolve(true);
      const hopeless = state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN;
      if (hopeless || timedOut !== undefined) return resolve(false);
      channel.watchConnectivityState(state, deadline, check);
    };
    check();
  });
}

/** The typed error that the other side ended a call with; undefined when the call broke without a word. */
export function sentError(cause: unknown): PatchbayError | undefined {
  const sent = (cause as Partial<ServiceError>).metadata?.get(ERROR_TRAILER)[0];
  if (sent === undefined) return undefined;
  try {
    return PatchbayError.fromJson(JSON.parse(sent.toString()));
  } catch {
    return undefined; // not JSON: what is known of the call says more
  }
}

/** What is known of a failed call, for people. */
export function reasonOf(cause: unknown): string {
  const failed = cause as Partial<ServiceError>;
  return failed.details || failed.message || String(cause);
}

/** Codes after which the same call cannot succeed at the same server. */
export function isFinal(cause: Partial<ServiceError>): boolean {
  const final: readonly unknown[] = [
    status.UNAUTHENTICATED,
    status.PERMISSION_DENIED,
    status.UNIMPLEMENTED,
    status.FAILED_PRECONDITION,
    status.INVALID_ARGUMENT,
  ];
  return final.includes(cause.code);
}
