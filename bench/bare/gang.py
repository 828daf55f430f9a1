"""The ranks of the bare path: one gRPC stream of opaque bytes, one blocking socket per rank, the plain forward.

No job, hook, token, check or Ray: what is left is what any design of this shape must pay. path.ts starts it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import grpc
import torch

from patchbay_worker.engine.config import EngineConfig
from patchbay_worker.engine.load import load_model
from patchbay_worker.engine.world import join_world

LENGTH = struct.Struct("!I")
RESULT_BYTES = 2048
IDS = torch.tensor([[2, 3, 4, 5, 6]])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rank(model: str, tp: int, number: int, master_port: int, port: int) -> None:
    """Answers every frame with the milliseconds of its forward."""
    config = EngineConfig(model, "bare", tp, number, tp, "127.0.0.1", master_port)
    loaded = load_model(config, join_world(config))
    stream = socket.create_connection(("127.0.0.1", port)).makefile("rwb", buffering=1 << 16)
    with torch.no_grad():
        while head := stream.read(LENGTH.size):
            stream.read(LENGTH.unpack(head)[0])
            started = time.perf_counter()
            loaded.model(input_ids=IDS, use_cache=False)
            taken = f"{1e3 * (time.perf_counter() - started):.3f}".ljust(RESULT_BYTES).encode()
            stream.write(LENGTH.pack(len(taken)) + taken)
            stream.flush()


async def serve(model: str, tp: int) -> None:
    """Prints its port when all ranks are there."""
    ranks: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: ranks.put_nowait((reader, writer)), "127.0.0.1", 0)
    port, master = server.sockets[0].getsockname()[1], free_port()
    for number in range(tp):
        subprocess.Popen([sys.executable, __file__, model, str(tp), str(number), str(master), str(port)])
    streams = [await ranks.get() for _ in range(tp)]

    async def ask(frame: bytes) -> bytes:
        for _, writer in streams:
            writer.write(LENGTH.pack(len(frame)) + frame)
        answers = [await reader.readexactly(LENGTH.unpack(await reader.readexactly(4))[0]) for reader, _ in streams]
        return max(answers, key=lambda answer: float(answer))

    async def run(requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        async for frame in requests:
            yield await ask(frame)

    gang = grpc.aio.server()
    gang.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("bare.Gang", {"Run": grpc.stream_stream_rpc_method_handler(run)})]
    )
    gang_port = gang.add_insecure_port("127.0.0.1:0")
    await gang.start()
    print(gang_port, flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until whoever started it has gone


if __name__ == "__main__":
    if len(sys.argv) > 3:
        rank(sys.argv[1], *(int(word) for word in sys.argv[2:]))
    else:
        asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
