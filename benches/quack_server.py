"""DuckDB's own server: Quack over one database file, without TLS, on the loopback interface.

`python quack_server.py DATABASE MEMORY_MIB`
"""

import signal
import socket
import sys

import quack

database, memory_mib = sys.argv[1:]
connection = quack.connect(database, memory_limit=f"{memory_mib}MiB")
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
address = f"quack:localhost:{port}"
connection.execute(f"CALL quack_serve('{address}', token = '{quack.TOKEN}')")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print(f"listening on {address}", flush=True)
# Waits without the interpreter's lock, which the server's threads take to bind a query.
signal.sigwait({signal.SIGTERM})
connection.close()
