"""Runs a command without network, with nothing to write to but its own folder, and within limits.

    python confined.py '{"folder": "FOLDER", "memory": 1073741824, "seconds": 10, ...}' python3 program.py

A program of its own, of the standard library alone, as what it gives up it can't get back. It exits with REFUSED,
and runs nothing, where the kernel doesn't let it cut the network or protect the files.
"""

import ctypes
import json
import os
import resource
import signal
import sys

REFUSED = 125
NEW_MOUNTS, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x00020000, 0x10000000, 0x20000000, 0x40000000
BIND, RECURSIVE, PRIVATE = 4096, 16384, 1 << 18
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, READ_ONLY = 442, -100, 0x8000, 1
DIE_WITH_PARENT, NO_NEW_PRIVILEGES = 1, 38


class Attributes(ctypes.Structure):
    """What `mount_setattr` changes."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


def main() -> None:
    """Gives everything up, then becomes the command."""
    limits, command = json.loads(sys.argv[1]), sys.argv[2:]
    try:
        leave_the_network(limits["folder"])
    except OSError as error:
        print(f"the kernel refuses: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    child = os.fork()  # the first process of its namespace: when it dies, all that it began die
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) % 256)
    library().prctl(DIE_WITH_PARENT, signal.SIGKILL)
    library().prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for what, most in (
        (resource.RLIMIT_AS, limits["memory"]),
        (resource.RLIMIT_CPU, limits["seconds"]),
        (resource.RLIMIT_FSIZE, limits["file"]),
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    os.chdir(limits["folder"])
    os.execvp(command[0], command)


def leave_the_network(folder: str) -> None:
    """A network without any device, a view of the files that can't be written but for the folder, own processes."""
    user, group = os.getuid(), os.getgid()
    spaces = NEW_MOUNTS | NEW_PROCESSES | NEW_NETWORK
    try:
        checked(library().unshare(spaces))
    except OSError:
        checked(library().unshare(spaces | NEW_USER))  # where one isn't the machine's administrator
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    own = folder.encode()
    checked(library().mount(b"none", b"/", None, RECURSIVE | PRIVATE, None))
    checked(library().mount(own, own, None, BIND, None))
    set_attributes(b"/", Attributes(set=READ_ONLY), AT_RECURSIVE)
    set_attributes(own, Attributes(clear=READ_ONLY), 0)


def set_attributes(place: bytes, attributes: Attributes, how: int) -> None:
    """Changes a mount, or all below it."""
    size = ctypes.sizeof(attributes)
    checked(library().syscall(MOUNT_SETATTR, AT_FDCWD, place, how, ctypes.byref(attributes), size))


def checked(result: int) -> None:
    """Raises what went wrong in the kernel."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def library() -> ctypes.CDLL:
    """The C library."""
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main()
