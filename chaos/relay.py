"""A TCP relay that can be told to misbehave: to refuse, to stall, to lie, to cut a connection."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from chaos.cut import Cut

_PIECE_BYTES = 2**16
_GLANCE_SECONDS = 0.02


@dataclass(frozen=True)
class Trouble:
    """What happens to every connection while it lasts.

    `refuses` closes those that are there and those that come. `is_silent` takes everything and passes nothing on.
    `answer` is said to every client in place of its server. Each piece on its way waits for `delay_seconds`.
    """

    refuses: bool = False
    is_silent: bool = False
    answer: bytes = b""
    delay_seconds: float = 0.0


NONE = Trouble()


class Relay:
    """Stands at a port of its own before a server on loopback. Its methods may be called from any thread."""

    def __init__(self, name: str, server_port: int) -> None:
        self.name = name
        self.port = 0
        self.was_met = False
        """Whether the last trouble happened to anybody."""
        self._server_port = server_port
        self._trouble = NONE
        self._cuts: list[Cut] = []  # each change of it is atomic, whatever thread makes it
        self._links: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"relay-{name}", daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end)
        self._thread.join()

    def suffer(self, trouble: Trouble) -> None:
        """From now on; `NONE` ends it."""
        self._call(lambda: self._set(trouble))

    def arm(self, cut: Cut) -> None:
        """Cut a connection there; of several, the oldest first."""
        self._cuts.append(cut)

    def awaits(self, cut: Cut) -> bool:
        """Whether nobody has met it yet."""
        return cut in self._cuts

    def lift(self, cut: Cut) -> bool:
        """Take it away; whether it was still there."""
        try:
            self._cuts.remove(cut)
        except ValueError:
            return False
        return True

    def _call(self, action: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _end(self) -> None:
        self._abort_all()
        self._loop.stop()

    def _set(self, trouble: Trouble) -> None:
        if trouble != NONE:
            self.was_met = trouble.refuses and bool(self._links)
        self._trouble = trouble
        if trouble.refuses:
            self._abort_all()

    def _abort_all(self) -> None:
        for link in list(self._links):
            self._abort(link)

    def _abort(self, link: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        for writer in link:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._trouble.refuses:
            self.was_met = True
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        link = (writer, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(self._carry_up(reader, link), self._carry_down(from_server, link))
        except OSError:
            pass
        finally:
            self._abort(link)
            self._links.discard(link)

    async def _carry_up(self, reader: asyncio.StreamReader, link: tuple[asyncio.StreamWriter, ...]) -> None:
        client, server = link
        while piece := await reader.read(_PIECE_BYTES):
            await self._stall()
            if self._trouble.answer:
                self.was_met = True
                client.write(self._trouble.answer)
                await client.drain()
                client.close()
                server.close()
                return
            passing = self._cut(client, piece)
            server.write(piece[:passing])
            if passing is not None:
                client.transport.abort()
                server.close()  # what was sent arrives
                return
            await server.drain()
        server.close()

    def _cut(self, client: asyncio.StreamWriter, piece: bytes) -> int | None:
        """How many bytes of the piece still pass before the client's connection ends; None where it does not."""
        for cut in list(self._cuts):
            passing = cut.passing(client, piece)
            if passing is not None and self.lift(cut):
                return passing
        return None

    async def _carry_down(self, reader: asyncio.StreamReader, link: tuple[asyncio.StreamWriter, ...]) -> None:
        client, _ = link
        while piece := await reader.read(_PIECE_BYTES):
            await self._stall()
            client.write(piece)
            await client.drain()
        client.close()

    async def _stall(self) -> None:
        self.was_met |= self._trouble.is_silent or self._trouble.delay_seconds > 0
        if self._trouble.delay_seconds:
            await asyncio.sleep(self._trouble.delay_seconds)
        while self._trouble.is_silent:
            await asyncio.sleep(_GLANCE_SECONDS)
