"""A connection through the harness, so that it can be reset in the middle as a vanished machine resets it."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading


class Proxy:
    """Passes one connection on to a port of this machine until it is reset."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"
        self._target = port
        self._ends: list[socket.socket] = []
        # A thread that waits in a socket keeps it open: so none waits for long.
        self._gone = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        self._listener.settimeout(0.02)
        while not self._gone.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    # The server is gone: so is this.
                    client.close()
                    self._listener.close()
                    return
                self._ends += [client, server]
                for source, sink in [(client, server), (server, client)]:
                    self._threads.append(threading.Thread(target=self._pass_on, args=(source, sink), daemon=True))
                    self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.02)
        waiting = b""
        while not self._gone.is_set():
            try:
                if not waiting and not (waiting := source.recv(65536)):
                    break
                waiting = waiting[sink.send(waiting) :]
            except TimeoutError:
                continue
            except OSError:
                break
        with contextlib.suppress(OSError):
            if not self._gone.is_set():
                sink.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with RST on both sides: what is on its way is lost."""
        if self._gone.is_set():
            return
        self._gone.set()
        for thread in list(self._threads):
            thread.join()
        for end in self._ends:
            # A linger of no time: RST, and not FIN.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        self._listener.close()
