"""Descriptors, working directories and what processes of the runtime show (CVE-2016-9962, CVE-2024-21626)."""
import json
import os

from bed import Fell, case, read, until

LIST = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done | tr '\\n' ' '"


def opened(bed, count=12):
    """Descriptors of the host that the caller has left open, from 3 on."""
    return [os.open(bed.canary if number % 2 else bed.canary + "/secret", os.O_RDONLY) for number in range(count)]


def only_streams(bed, text, what):
    # The shell has the directory that it lists open besides.
    found = {int(word) for word in text.split()}
    if not {0, 1, 2} <= found or len(found) > 4:
        raise Fell(f"{what}: the program has {sorted(found)}")


@case("descriptors", "what the caller has left open")
def inherited(bed):
    fds = opened(bed)
    try:
        only_streams(bed, bed.run(bed.document(LIST), fds=fds).out, "run")
        document = bed.document(f"{LIST} >/tmp/fds; exec sleep 1000")
        if bed.create(document, fds=fds).code or bed.call("start", bed.id(), fds=fds).code:
            raise Fell("create or start fails")
        until("it has written", lambda: read(bed.root + "/tmp/fds"))
        only_streams(bed, read(bed.root + "/tmp/fds"), "create and start")
        only_streams(bed, bed.call("exec", bed.id(), "sh", "-c", LIST, fds=fds).out, "exec")
    finally:
        for fd in fds:
            os.close(fd)


@case("descriptors", "what hooks get")
def hooks(bed):
    fds = opened(bed)
    document = bed.document()
    # The shell opens its script besides, and the directory while it lists it.
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"ls /proc/$$/fd >>{bed.path('fds')}; echo . >>{bed.path('fds')}"]}
    document["hooks"] = {kind: [hook] for kind in ("prestart", "createRuntime", "createContainer", "poststart", "poststop")}
    bed.run(document, fds=fds)
    bed.delete()
    for fd in fds:
        os.close(fd)
    said = read(bed.path("fds")).split(".")
    for fds in said[:-1]:
        if {int(fd) for fd in fds.split()} - {0, 1, 2, 10}:
            raise Fell(f"a hook has {fds.split()}")
    if len(said) < 6:
        raise RuntimeError(f"hooks have not run: {said}")


@case("descriptors", "a working directory of the host's")
def directories(bed):
    fds = opened(bed)
    look = f"cat secret ../secret ../../../../../../../../..{bed.canary}/secret 2>/dev/null; true"
    try:
        for fd in range(3, 16 if bed.whole else 9):
            for end in ("", "/../../../../../.."):
                for base in ("/proc/self/fd/", "/proc/thread-self/fd/", "/data/link"):
                    path = f"{base}{fd}{end}" if base != "/data/link" else base + end
                    if base == "/data/link":
                        if os.path.lexists(bed.root + base):
                            os.unlink(bed.root + base)
                        os.symlink(f"/proc/self/fd/{fd}", bed.root + base)
                    document = bed.document(look)
                    document["process"]["cwd"] = path
                    if "canary" in bed.run(document, fds=fds).out:
                        raise Fell(f"run with cwd {path} is on the host")
        bed.started(bed.document("exec sleep 1000"), "e")
        for fd in range(3, 16):
            for end in ("", "/../../../.."):
                if "canary" in bed.call("exec", "--cwd", f"/proc/self/fd/{fd}{end}", bed.id("e"), "sh", "-c", look, fds=fds).out:
                    raise Fell(f"exec with cwd /proc/self/fd/{fd}{end} is on the host")
    finally:
        for fd in fds:
            os.close(fd)
    bed.untouched("working directories")


def watched(bed, work):
    """`work` beside a container that looks for ways out, with all that root's containers can be given."""
    with open(os.path.join(os.path.dirname(__file__), "watcher.py")) as file, open(bed.root + "/watcher.py", "w") as copy:
        copy.write(file.read())
    script = f"exec /usr/bin/python3 /watcher.py {bed.canary} >/tmp/seen 2>&1"
    pid = bed.started(bed.powerful(bed.document(script)), "w")
    log = bed.root + "/tmp/seen"
    until("the watcher looks", lambda: "begin" in read(log))
    work(pid)
    said = read(log)
    if "found" in said:
        raise Fell("a container finds a way to the host: " + said[said.index("found"):].splitlines()[0])
    if said.count("seen") < 3:
        raise RuntimeError("the watcher saw nobody: " + said)
    bed.untouched("watched")


@case("descriptors", "a container watches exec")
def watch_exec(bed):
    def work(_):
        fds = opened(bed)
        for _ in range(500 if bed.whole else 40):
            if bed.call("exec", bed.id("w"), "true", fds=fds).code != 0:
                raise Fell("exec fails")
        for fd in fds:
            os.close(fd)
    watched(bed, work)


@case("descriptors", "a container watches another one join its processes")
def watch_join(bed):
    def work(pid):
        fds = opened(bed)
        for number in range(200 if bed.whole else 20):
            document = bed.document("sleep 0.02")
            for namespace in document["linux"]["namespaces"]:
                if namespace["type"] == "pid":
                    namespace["path"] = f"/proc/{pid}/ns/pid"
            document["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs"})
            document["hooks"] = {"createContainer": [{"path": "/bin/sleep", "args": ["sleep", "0.02"]}]}
            if number % 2:
                done = bed.run(document, f"j{number}", fds=fds)
            else:
                # It waits for start for a while.
                done = bed.create(document, f"j{number}", fds=fds)
                if done.code == 0:
                    done = bed.call("start", bed.id(f"j{number}"))
            if done.code != 0:
                raise RuntimeError(done.err)
            bed.delete(f"j{number}")
        for fd in fds:
            os.close(fd)
    watched(bed, work)


@case("descriptors", "exec's working directory is exchanged")
def exchanged(bed):
    os.mkdir(bed.root + "/data/real")
    os.symlink("/proc/self/fd/3", bed.root + "/data/link")
    fds = opened(bed)
    bed.started(bed.document("exec sleep 1000"), "e")
    bed.background("exchange.py", bed.root + "/data/real", bed.root + "/data/link")
    look = f"cat secret ../secret ../../../../../../../../..{bed.canary}/secret 2>/dev/null; true"
    for _ in range(500 if bed.whole else 40):
        if "canary" in bed.call("exec", "--cwd", "/data/real", bed.id("e"), "sh", "-c", look, fds=fds).out:
            raise Fell("exec is on the host")
    for fd in fds:
        os.close(fd)


@case("descriptors", "the state directory is closed to others")
def private(bed):
    document = bed.document("exec sleep 1000")
    bed.started(document)
    for path in (bed.state, os.path.join(bed.state, bed.id())):
        mode = os.stat(path).st_mode & 0o777
        if mode & 0o066:
            raise Fell(f"{os.path.basename(path)} has mode {mode:o}")
    json.loads(bed.call("state", bed.id()).out)
