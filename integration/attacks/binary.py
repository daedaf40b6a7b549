"""The runtime's own binary (CVE-2019-5736)."""
import hashlib
import os
import shutil
import subprocess

from bed import Fell, case, read, until, wrapped


def own(bed):
    """A copy of the runtime that lies on a writable mount and belongs to root, in the place of the one asked for."""
    name = os.path.basename(bed.runtime).removeprefix("runtime-")
    real = shutil.which(name) if bed.runtime.startswith(bed.dir) else bed.runtime
    os.makedirs(bed.path("bin"))
    copy = bed.path("bin/" + name)
    shutil.copy(real, copy)
    bed.runtime = wrapped(copy, bed.dir)
    return copy


def mark(path):
    it = os.stat(path)
    with open(path, "rb") as file:
        return (it.st_ino, it.st_mtime_ns, it.st_size, hashlib.sha256(file.read()).hexdigest())


def stolen(bed, work):
    """`work`, beside a container whose first process wants to overwrite the runtime."""
    copy = own(bed)
    before = mark(copy)
    with open(os.path.join(os.path.dirname(__file__), "thief.py")) as file, open(bed.root + "/thief.py", "w") as to:
        to.write(file.read())
    for name, target in (("evil", "/proc/self/exe"), ("evil-link", "evil")):
        os.symlink(target, f"{bed.root}/bin/{name}")
    with open(bed.root + "/bin/evil-script", "w") as file:
        file.write("#!/proc/self/exe\n")
    os.chmod(bed.root + "/bin/evil-script", 0o755)
    document = bed.powerful(bed.document("exec /usr/bin/python3 /thief.py >/tmp/thief 2>&1"))
    pid = bed.started(document, "t")
    log = bed.root + "/tmp/thief"
    until("the thief looks", lambda: "begin" in read(log))
    for _ in range(20):
        work(pid)
        if "caught" in read(log):
            break
    until("the thief has tried", lambda: "tried" in read(log), 30)
    if mark(copy) != before or "overwritten" in read(log):
        raise Fell("the runtime's binary has been changed")
    if bed.call("exec", bed.id("t"), "true").code != 0:
        raise Fell("the runtime does not work any more")


@case("the binary", "exec of it")
def by_exec(bed):
    def work(_):
        for program in ("/proc/self/exe", "evil", "evil-link", "evil-script", "/proc/thread-self/exe"):
            bed.call("exec", bed.id("t"), program)
    stolen(bed, work)


@case("the binary", "a container that runs it")
def by_run(bed):
    def work(pid):
        for program in ("/proc/self/exe", "/bin/evil-link", "/bin/evil-script"):
            document = bed.document([program])
            for namespace in document["linux"]["namespaces"]:
                if namespace["type"] == "pid":
                    namespace["path"] = f"/proc/{pid}/ns/pid"
            bed.run(document, "r")
            bed.delete("r")
    stolen(bed, work)


@case("the binary", "of a plain user, who owns it")
def of_a_user(bed):
    """Without the right to mount. Root of the container is the user, and could write to the file."""
    copy = own(bed)
    uid = 100_000_000 + os.getpid()
    os.symlink("/proc/self/exe", bed.root + "/bin/evil")
    with open(os.path.join(os.path.dirname(__file__), "thief.py")) as file, open(bed.root + "/thief.py", "w") as to:
        to.write(file.read())
    document = bed.document("exec /usr/bin/python3 /thief.py >/tmp/thief 2>&1")
    document["linux"]["namespaces"].append({"type": "user"})
    ids = [{"containerID": 0, "hostID": uid, "size": 1}]
    document["linux"].update(uidMappings=ids, gidMappings=ids)
    document["mounts"] = [document["mounts"][0], {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}]
    bed.write(document)
    subprocess.run(["chown", "-R", f"{uid}:{uid}", bed.dir], check=True)
    before, log = mark(copy), bed.root + "/tmp/thief"
    as_user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--", copy, "--root", bed.path("user-state")]

    def call(*words):
        return subprocess.run([*as_user, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=20).returncode

    try:
        if call("run", "--detach", "--bundle", bed.path("bundle"), bed.id("u")) != 0:
            raise RuntimeError("a plain user gets no container")
        until("the thief looks", lambda: "begin" in read(log))
        for _ in range(20):
            call("exec", bed.id("u"), "evil")
            if "caught" in read(log):
                break
        until("the thief has tried", lambda: "tried" in read(log), 30)
        if mark(copy) != before or "overwritten" in read(log):
            raise Fell("the runtime's binary has been changed")
    finally:
        call("delete", "--force", bed.id("u"))
