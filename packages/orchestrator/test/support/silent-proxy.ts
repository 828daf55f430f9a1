/** A way to a server that can fall silent, as a cut cable does: nothing arrives any more, and nobody is told. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface SilentProxy {
  /** host:port */
  readonly address: string;
  /** From now on, for connections that are open and for new ones. */
  silence(): void;
  close(): void;
}

export async function startProxy(port: number): Promise<SilentProxy> {
  const sockets = new Set<Socket>();
  let silent = false;
  const carry = (from: Socket, to: Socket): void => {
    from.on('data', (data) => void (silent || to.write(data)));
    from.on('end', () => void (silent || to.end()));
    from.on('error', () => to.destroy());
    sockets.add(from);
  };
  const server = createServer((client) => {
    const other = connect(port, '127.0.0.1');
    carry(client, other);
    carry(other, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    silence: () => void (silent = true),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
