"""What the attacks share: a bundle, a canary that nothing may touch, and a runtime that is called as engines do."""
import hashlib
import itertools
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time

CASES = []
LONGEST = 15


class Fell(Exception):
    """The runtime did not hold."""


def case(group, name):
    def add(function):
        CASES.append((group, name, function))
        return function
    return add


def wrapped(runtime, folder):
    """Debian's runc and crun take no container where both cgroup versions are mounted: v2 is hidden from them."""
    path = shutil.which(runtime) or runtime
    if os.path.basename(path) not in ("runc", "crun") or not os.path.isdir("/sys/fs/cgroup/unified"):
        return path
    script = os.path.join(folder, "runtime-" + os.path.basename(path))
    with open(script, "w") as file:
        file.write(f"#!/bin/sh\nexec unshare --mount sh -c 'umount /sys/fs/cgroup/unified; exec {path} \"$@\"' sh \"$@\"\n")
    os.chmod(script, 0o755)
    return script


def look(root):
    """A tree as data: what is there, whose it is, and what is in it."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files + ["."]:
            path = os.path.join(folder, name)
            it = os.lstat(path)
            content = b""
            if stat.S_ISREG(it.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).digest()
            elif stat.S_ISLNK(it.st_mode):
                content = os.readlink(path)
            found[path] = (it.st_mode, it.st_uid, it.st_gid, it.st_rdev, it.st_ino, content)
    return found


def mounts():
    with open("/proc/self/mountinfo") as file:
        return file.read()


class Done:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


class Bed:
    """A place of its own for a case."""
    numbers = itertools.count()

    def __init__(self, runtime, whole):
        self.dir = tempfile.mkdtemp(prefix="rt-attack-")
        os.chmod(self.dir, 0o755)
        self.name = "rt-attack-%d-%d" % (os.getpid(), next(self.numbers))
        self.whole = whole
        # A case may call a copy; the one that was asked for cleans up.
        self.runtime = self.original = wrapped(runtime, self.dir)
        self.state = self.path("state")
        self.root = self.path("bundle/rootfs")
        self.canary = self.path("canary")
        self.helpers = []
        self.ran, self.refused = 0, 0
        os.makedirs(self.canary + "/below")
        for name in ("secret", "below/file"):
            with open(os.path.join(self.canary, name), "w") as file:
                file.write("canary")
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp", "usr", "run", "data"):
            os.makedirs(os.path.join(self.root, folder))
        shutil.copy(shutil.which("busybox"), self.root + "/bin/busybox")
        for name in "sh cat ls id env sleep readlink head grep true echo mkdir rm pwd tr stat".split():
            os.symlink("busybox", f"{self.root}/bin/{name}")
        for name in ("lib", "lib64"):
            os.symlink("usr/" + name, f"{self.root}/{name}")
        with open(self.root + "/etc/passwd", "w") as file:
            file.write("root:x:0:0::/root:/bin/sh\n1:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        self.before = (look(self.canary), mounts())

    def path(self, name):
        return os.path.join(self.dir, name)

    def id(self, name="c"):
        return f"{self.name}-{name}"

    def document(self, script="true"):
        kinds = ("pid", "ipc", "uts", "mount")
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin:/usr/bin"],
                "args": script if isinstance(script, list) else ["sh", "-c", script],
                "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")},
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            ],
            "linux": {"namespaces": [{"type": kind} for kind in kinds]},
        }

    def powerful(self, document):
        """All that a container of root's can be given without a user namespace, and Python to use it with."""
        names = [f"CAP_{name}" for name in (
            "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP NET_ADMIN NET_RAW SYS_CHROOT "
            "SYS_PTRACE SYS_ADMIN MKNOD SETFCAP").split()]
        document["process"]["capabilities"] = {name: names for name in ("bounding", "effective", "permitted")}
        document["mounts"].append(
            {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
        return document

    def write(self, document, bundle="bundle"):
        with open(self.path(bundle + "/config.json"), "w") as file:
            json.dump(document, file)

    def call(self, *args, fds=(), stdin=subprocess.DEVNULL, env=None):
        out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        try:
            process = subprocess.Popen(
                [self.runtime, "--root", self.state, *args], stdin=stdin, stdout=out, stderr=err, pass_fds=fds, env=env)
        except OSError as error:
            raise Fell(f"the runtime itself cannot be executed any more: {error.strerror}") from None
        try:
            code = process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Fell("hangs: " + " ".join(args)) from None
        if args[0] in ("run", "create", "exec"):
            self.ran += code == 0
            self.refused += code != 0

        def text(file):
            file.seek(0)
            return file.read().decode(errors="replace")
        return Done(code, text(out), text(err))

    def run(self, document, name="c", **more):
        self.write(document)
        return self.call("run", "--bundle", self.path("bundle"), self.id(name), **more)

    def create(self, document, name="c", **more):
        self.write(document)
        return self.call("create", "--bundle", self.path("bundle"), self.id(name), **more)

    def started(self, document, name="c"):
        """A container that runs; what it prints goes to the file `out`."""
        for done in (self.create(document, name), self.call("start", self.id(name))):
            if done.code != 0:
                raise RuntimeError(done.err)
        return json.loads(self.call("state", self.id(name)).out)["pid"]

    def delete(self, name="c"):
        self.call("delete", "--force", self.id(name))

    def background(self, program, *args):
        """A program of this folder, until the case ends."""
        process = subprocess.Popen(["/usr/bin/python3", os.path.join(os.path.dirname(__file__), program), *args])
        self.helpers.append(process)
        return process

    def untouched(self, what):
        tree, table = self.before
        if look(self.canary) != tree:
            now = look(self.canary)
            changed = [path for path in set(now) | set(tree) if now.get(path) != tree.get(path)]
            raise Fell(f"{what}: outside of the root something has changed: {changed}")
        if mounts() != table:
            raise Fell(f"{what}: the host's mounts have changed")

    def end(self):
        for process in self.helpers:
            process.kill()
            process.wait()
        if os.path.isdir(self.state):
            for name in os.listdir(self.state):
                subprocess.run([self.original, "--root", self.state, "delete", "--force", name],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LONGEST)
        # A runtime that was killed may leave its cgroups.
        for folder, folders, _ in os.walk("/sys/fs/cgroup", topdown=False):
            for name in folders:
                if name.startswith(self.name):
                    try:
                        os.rmdir(os.path.join(folder, name))
                    except OSError:
                        pass
        subprocess.run(["rm", "-rf", "--one-file-system", self.dir])


def until(what, is_so, limit=10):
    start = time.monotonic()
    while not is_so():
        if time.monotonic() - start > limit:
            raise RuntimeError("waited in vain: " + what)
        time.sleep(0.01)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""
