/**
 * Free TCP ports. They are taken from below the range of outgoing connections, at random, so that two stacks that start
 * together rarely choose the same one; what chose wrong is started again with others.
 * @module
 */
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { randomInt } from 'node:crypto';

const LOWEST = 20_000;

function highest(): number {
  try {
    const first = Number(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/)[0]);
    return first > LOWEST + 1000 ? first : 32_768;
  } catch {
    return 32_768;
  }
}

/** True when nothing is bound to the port on any address. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** `count` different free ports. */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  for (let tries = 0; found.size < count; tries++) {
    if (tries > 1000) throw new Error(`no ${count} free TCP ports between ${LOWEST} and ${highest()}`);
    const port = randomInt(LOWEST, highest());
    if (!found.has(port) && (await isFree(port))) found.add(port);
  }
  return [...found];
}

/** True when something accepts connections there. */
export function accepts(host: string, port: number, timeoutMs = 1000): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    const end = (value: boolean): void => {
      socket.destroy();
      resolve(value);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}
