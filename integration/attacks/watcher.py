"""watcher.py CANARY: in a container, looks at every other process for a way to the host's CANARY.

Prints a line when it begins, one for each process that it has seen, and one for each way that it has found.
"""
import os
import sys

canary = sys.argv[1].lstrip("/")
up = "../" * 40
seen = set()
print("begin", flush=True)
while True:
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or int(pid) in (1, os.getpid()):
            continue
        if pid not in seen:
            seen.add(pid)
            print("seen", pid, flush=True)
        base = f"/proc/{pid}/"
        ways = [base + "root/", base + "cwd/" + up]
        try:
            ways += [f"{base}fd/{fd}/{end}" for fd in os.listdir(base + "fd") for end in ("", up)]
        except OSError:
            pass
        for way in ways:
            try:
                with open(f"{way}{canary}/secret") as file:
                    if file.read() == "canary":
                        print("found", way, flush=True)
            except OSError:
                pass
