"""
`receiver` without the second that a fresh interpreter needs to import it.

A server imports the command line once and forks for each command, which gets the arguments, environment, directory
and files of the shell that asked. What runs on (`serve`, `sandbox`, …) is started as its reader would.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

#: Tiny and free of imports, because it starts for every command.
CLIENT = """\
#!{python} -IS
import json, os, socket, sys
if sys.argv[1] in ("serve", "sandbox", "web", "worker", "demo"):
    os.execv("{python}", ["{python}", "-m", "receiver", *sys.argv[1:]])
asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect("{address}")
    socket.send_fds(server, [len(asked).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(asked)
    status = server.recv(1)
sys.exit(status[0] if status else 70)
"""


def install(folder: Path, address: Path) -> None:
    """Write the client as the program `receiver` of *folder*."""
    program = folder / "receiver"
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)


def serve(address: Path) -> None:
    """Answer until killed."""
    from receiver.cli.main import COMMANDS, main  # noqa: PLC0415 - the tests themselves need it not

    for place in COMMANDS.values():
        importlib.import_module(place.partition(":")[0])

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        while True:
            client, _ = listening.accept()
            if os.fork():
                client.close()
                continue
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            length, files, _, _ = socket.recv_fds(client, 4, 3)
            arguments, environment, directory = json.loads(_exactly(client, int.from_bytes(length, "big")))
            status = 1
            if (child := os.fork()) == 0:
                client.close()
                for number, file in enumerate(files):
                    os.dup2(file, number)
                    os.close(file)
                os.chdir(directory)
                os.environ.clear()
                os.environ.update(environment)
                sys.argv = ["receiver", *arguments]
                main()
                sys.exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            client.sendall(bytes([status & 0xFF]))
            os._exit(0)


def _exactly(client: socket.socket, number: int) -> bytes:
    read = b""
    while len(read) < number:
        chunk = client.recv(number - len(read))
        if not chunk:
            os._exit(1)
        read += chunk
    return read


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
