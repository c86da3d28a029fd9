"""
What a child runs first: it ties its life to its parent's, gives up rights, then becomes the real program.

Run as `python -I -S shim.py ORDER PROGRAM ARGUMENT...`, where ORDER is the JSON of an `Order`. It takes the place of
`preexec_fn`, which runs Python between fork and exec and may hang in a process that has threads. Standard library
only: it starts without site-packages, in about 20 ms.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
from typing import Final, NoReturn, TypedDict

PR_SET_PDEATHSIG: Final = 1
PR_SET_KEEPCAPS: Final = 8
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
CAP_VERSION_3: Final = 0x20080522
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2

#: Seconds between the death signal and SIGKILL when a pipe is watched.
GRACE: Final = 10.0


class Order(TypedDict):
    """What the parent wants done before the program starts."""

    parent: int  #: process id
    signal: int  #: sent to the program when the parent is gone
    uid: int | None  #: user to become; None: stay
    gid: int | None
    search: bool  #: keep the right to pass directories that are closed to the user
    lifeline: int | None  #: read end of a pipe to the parent; None: Linux tells us of its death


def main() -> NoReturn:
    """Carry out the order in argv, then become the program."""
    order: Order = json.loads(sys.argv[1])
    argv = sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored_by_python, signal.SIG_DFL)
    os.umask(0o077)
    try:
        if order["uid"] is not None and order["gid"] is not None:
            become(order["uid"], order["gid"], search=order["search"])
        if order["lifeline"] is None:
            die_with_parent(order["parent"], order["signal"])
        else:
            watch_pipe(order["lifeline"], order["signal"])
        os.execve(argv[0], argv, os.environ)  # noqa: S606  the program was named by our parent; no shell is wanted
    except OSError as exc:
        sys.exit(f"cannot start {argv[0]}: {exc.strerror or exc}")


def become(uid: int, gid: int, *, search: bool) -> None:
    """
    Become user *uid* for good, without any right of root but, with *search*, passing closed directories.

    Raises:
        OSError: The system refused.
    """
    capability = search_capability() if search else None
    if capability is not None:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if capability is not None:
        only = 1 << capability
        capabilities("capset", [only, only, only, 0, 0, 0])
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def search_capability() -> int:
    """
    Name the weakest capability that we hold and that passes closed directories.

    Containers commonly leave root CAP_DAC_OVERRIDE and take CAP_DAC_READ_SEARCH away.

    Raises:
        OSError: We hold neither.
    """
    permitted = capabilities("capget", [0] * 6)[1]
    for capability in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE):
        if permitted >> capability & 1:
            return capability
    raise OSError("no right to pass directories that are closed to the server's user")


def capabilities(call: str, words: list[int]) -> list[int]:
    """Run capget or capset on this process: (effective, permitted, inheritable) twice, 32 bits each."""
    header = (ctypes.c_uint32 * 2)(CAP_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(*words)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc[call](header, data) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return list(data)


def prctl(option: int, *arguments: int) -> None:
    """Set an attribute of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*arguments, 0, 0, 0, 0][:4]
    if libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in padded)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def die_with_parent(parent: int, number: int) -> None:
    """
    Have the kernel send *number* to us when the parent's thread ends; a change of user before it would undo this.

    The parent may have died before the call, so it is looked at again afterwards.
    """
    prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def watch_pipe(lifeline: int, number: int) -> None:
    """
    Leave a process behind that sends *number* to us when the other end of *lifeline* closes.

    It holds a second pipe whose write end the program inherits, and so never signals a process id that was used again.
    It is orphaned on purpose: the program must not find a child that it did not start.
    """
    program = os.getpid()
    running, held_by_program = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        if os.fork() == 0:
            os.close(held_by_program)
            guard(program, lifeline, running, number)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(running)
    os.close(lifeline)
    fcntl.fcntl(held_by_program, fcntl.F_SETFD, 0)


def guard(program: int, lifeline: int, running: int, number: int) -> NoReturn:
    """Wait until the program has ended, or the parent; in the latter case end the program."""
    for standard in range(3):
        os.close(standard)
    ready, _, _ = select.select([lifeline, running], [], [])
    if running not in ready:
        os.kill(program, number)
        ready, _, _ = select.select([running], [], [], GRACE)
        if not ready:
            os.kill(program, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
