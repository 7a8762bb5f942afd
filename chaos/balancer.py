"""Stands before the API's processes as a load balancer does: a connection goes to one that says that it is ready."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2 as httpx

_PIECE_BYTES = 2**16
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0


class Balancer:
    """Knows from `/readyz` who is ready, as of a moment ago. Serves on loopback from a thread of its own."""

    def __init__(self, backends: Sequence[str]) -> None:
        self.url = ""
        self._backends = backends
        self._ready: list[str] = []
        self._turn = 0
        self._serving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def ready(self) -> Sequence[str]:
        """Those that were ready a moment ago."""
        return tuple(self._ready)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._loop.create_task(self._look())
        self._listening.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _look(self) -> None:
        async with httpx.AsyncClient(timeout=_PATIENCE_SECONDS, trust_env=False) as client:
            while True:
                answers = await asyncio.gather(*(self._is_ready(client, backend) for backend in self._backends))
                self._ready = [backend for backend, ok in zip(self._backends, answers, strict=True) if ok]
                await asyncio.sleep(_LOOK_SECONDS)

    async def _is_ready(self, client: httpx.AsyncClient, backend: str) -> bool:
        try:
            return (await client.get(f"{backend}/readyz")).is_success
        except httpx.TransportError:
            return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)  # the loop alone would forget it
        try:
            from_backend, to_backend = await self._connect()
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_carry(reader, to_backend))
                    both.create_task(_carry(from_backend, writer))
            finally:
                to_backend.close()
        except* OSError:
            pass
        finally:
            writer.close()
            self._serving.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the next that is ready, or to another where it does not take us.

        Raises:
            OSError: nobody does.
        """
        for _ in range(round(_PATIENCE_SECONDS / _LOOK_SECONDS)):
            for _ in range(len(ready := self.ready)):
                self._turn += 1
                address = urlsplit(ready[self._turn % len(ready)])
                with suppress(OSError):
                    return await asyncio.open_connection(address.hostname, address.port)
            await asyncio.sleep(_LOOK_SECONDS)
        raise ConnectionRefusedError("Nobody is ready.")


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
