"""What the engines' suites share: the machine around an engine, an image, and running cases.

A suite is called `ENGINE RUNTIME`. It starts itself a second time in namespaces of its own: mounts
(with a private /run), network, processes and cgroups. All that an engine makes lies in these, below
one cgroup, and one temporary folder. So whatever happens, ending the first process of the
namespaces and removing these two leaves nothing behind, and suites can run beside each other.
"""
import argparse
import concurrent.futures
import contextlib
import glob
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tarfile
import tempfile
import termios
import time

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = "/sys/fs/cgroup"
IMAGE = "localhost/busybox:test"
PAUSE = "localhost/pause:test"
# Tells the second process where its folder and its cgroup are.
INSIDE = "RT_ENGINE_TEST"
# Tells it of a CRIU that works.
CRIU = "RT_ENGINE_CRIU"
SLEEP = ("sleep", "1000")
# A program that ends with 3 on SIGTERM, and one that does not end.
HANDLES_TERM = ("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
IGNORES_TERM = ("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
# Takes 64 MiB at once. Stays a moment when that was ended, for engines that look then.
GREEDY = ("sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1; status=$?; sleep 1; exit $status")


# --- outside: packages, namespaces, and what outlives them ---

def install(packages):
    """Installs Debian's packages of those programs that are missing."""
    missing = [package for program, package in packages.items()
               if not shutil.which(program, path=PATH) and not os.path.exists(program)]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "-qq", *arguments], env=environment, check=True,
                           stdout=subprocess.DEVNULL)


def hierarchies():
    """Where this host has cgroups: one directory (v2), or one for each v1 controller."""
    if os.path.exists(CGROUPS + "/cgroup.procs"):
        return [CGROUPS]
    return sorted({os.path.realpath(path) for path in glob.glob(CGROUPS + "/*")
                   if os.path.exists(path + "/cgroup.procs")})


def read(path):
    with open(path) as file:
        return file.read()


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def make_cgroup(name):
    for top in hierarchies():
        os.mkdir(top + "/" + name)
        for file in ("cpuset.cpus", "cpuset.mems"):  # empty ones take no process on v1
            if os.path.basename(top) == "cpuset":
                write("%s/%s/%s" % (top, name, file), read("%s/%s" % (top, file)))


def enter_cgroup(name):
    for top in hierarchies():
        write("%s/%s/cgroup.procs" % (top, name), str(os.getpid()))


def remove_cgroup(name):
    """Removes the tree, deepest first; its processes may still be dying. Gives what stayed."""
    left = [path for top in hierarchies() for path, _, _ in os.walk(top + "/" + name, topdown=False)]
    until = time.time() + 20
    while left:
        stay = []
        for path in left:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError:
                stay.append(path)
        left = stay
        if time.time() > until:
            break
        if left:
            time.sleep(0.05)
    return left


def outside(packages, criu):
    install(packages)
    environment = dict(os.environ)
    if criu:
        # That of Debian 12 does not work on new kernels. Here there is a network to fetch another.
        environment[CRIU] = run(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../criu/get"),
                                timeout=300)[1].split()[-1]
    folder = tempfile.mkdtemp(prefix="rt-engine-")
    os.chmod(folder, 0o755)
    cgroup = os.path.basename(folder)
    null = os.stat("/dev/null")
    status = 1
    try:
        make_cgroup(cgroup)
        status = subprocess.run(
            ["unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "--kill-child",
             "--mount-proc", "--propagation", "private", sys.executable, *sys.argv],
            env={**environment, INSIDE: folder}, preexec_fn=lambda: enter_cgroup(cgroup)).returncode
    finally:
        for path in remove_cgroup(cgroup):
            print("left behind: " + path)
            status = 1
        shutil.rmtree(folder, ignore_errors=True)
    after = os.stat("/dev/null")
    if (null.st_mode, null.st_uid, null.st_gid) != (after.st_mode, after.st_uid, after.st_gid):
        print("the host's /dev/null was changed")
        status = 1
    return status


# --- inside ---

def mount_cgroups(runtime):
    """Mounts the cgroups again: seen from this cgroup namespace, their root is the suite's own."""
    if hierarchies() == [CGROUPS]:
        subprocess.run(["umount", "--lazy", CGROUPS], check=True)
        subprocess.run(["mount", "-t", "cgroup2", "cgroup", CGROUPS], check=True)
        # v2: a cgroup with processes of its own hands no controllers down.
        os.mkdir(CGROUPS + "/init")
        enter_cgroup("init")
        for controller in read(CGROUPS + "/cgroup.controllers").split():
            write(CGROUPS + "/cgroup.subtree_control", "+" + controller)
        return
    controllers = [os.path.basename(path) for path in hierarchies()]
    subprocess.run(["umount", "--lazy", CGROUPS], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "cgroup", CGROUPS], check=True)
    for name in controllers:
        options = {"systemd": "none,name=systemd", "unified": None}.get(name, name)
        # crun 1.8 refuses a host with controllers in both cgroup versions.
        if options is None and os.path.basename(runtime).startswith("crun"):
            continue
        os.mkdir(CGROUPS + "/" + name)
        subprocess.run(["mount", "-t", "cgroup2" if options is None else "cgroup",
                        *(["-o", options] if options else []), "cgroup", CGROUPS + "/" + name],
                       check=True)
        for part in name.split(",") if "," in name else ():
            os.symlink(name, CGROUPS + "/" + part)


def reap():
    """The first process of a pid namespace inherits orphans. Goes on as its child, and reaps."""
    child = os.fork()
    if child == 0:
        return
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 255)


class Engine:
    """What each suite's engine is: a folder, a runtime, and commands."""
    known = {}        # cases that fail with every runtime: why
    command = ()      # the engine's client with the arguments that each call has

    def __init__(self, folder, runtime):
        self.folder, self.runtime = folder, runtime
        self.log = folder + "/log"
        self.daemon = None

    def start(self, *command, ready, seconds=60):
        """Starts the daemon and waits until the client's words `ready` succeed."""
        with open(self.log, "w") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: self.daemon.poll() is not None or self(*ready, status=None)[0] == 0,
              "the daemon does not answer", seconds)
        check(self.daemon.poll() is None, "the daemon has ended: " + read(self.log)[-500:])

    def clean(self):
        """Removes what a failed case left."""

    def stop(self):
        if self.daemon:
            self.daemon.terminate()
            try:
                self.daemon.wait(30)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()

    def __call__(self, *words, status=0, timeout=90, **more):
        return run(*self.command, *words, status=status, timeout=timeout, **more)

    def out(self, *words, **more):
        """The output of a command, without white space around it."""
        return self(*words, **more)[1].strip()


def run(*words, status=0, timeout=90, input=None, **more):
    """Runs a command; its exit status must be the one given, or None. Gives (status, output)."""
    done = subprocess.run(words, input=input, stdin=None if input else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=timeout, **more)
    if status is not None and done.returncode != status:
        raise AssertionError("exit status %d, wanted %d: %s\n    of: %s" % (
            done.returncode, status, done.stdout.strip()[-400:], " ".join(words)))
    return done.returncode, done.stdout


def terminal(words, talk=(), status=0, seconds=30, end=None):
    """Runs a command on a terminal. `talk` is pairs: what to wait for, what to type then.
    Its status must be the one given; gives what it printed."""
    child, fd = pty.fork()
    if child == 0:
        os.execvp(words[0], words)
    text, talk, deadline, ended = "", list(talk), time.time() + seconds, False
    try:
        while True:
            if talk and talk[0][0] in text:
                os.write(fd, talk.pop(0)[1].encode())
            check(time.time() < deadline, "%s does not end: %r" % (" ".join(words), text))
            if select.select([fd], [], [], 0.2)[0]:
                try:
                    data = os.read(fd, 65536)
                except OSError:  # the other side is closed
                    break
                if not data:
                    break
                text += data.decode(errors="replace")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended = True
    finally:
        os.close(fd)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    check(not talk, "%r never came: %r" % (talk[0][0] if talk else "", text))
    check(status is None or code == status, "exit status %d, wanted %r: %r" % (code, status, text))
    return text


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def same(got, wanted):
    check(got == wanted, "got %r, wanted %r" % (got, wanted))


def until(condition, message, seconds=20):
    """Waits for a condition; gives what it gave."""
    deadline = time.time() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.time() > deadline:
            raise AssertionError(message() if callable(message) else message)
        time.sleep(0.05)


def limit(pid, v1, v2):
    """What a control file of a process's cgroup says, by its name on v1 and v2."""
    return read(cgroup_of(pid, v1) + "/" + (v1 if hierarchies() != [CGROUPS] else v2)).strip()


def cgroup_of(pid, file):
    controller = file.split(".")[0]
    groups = read("/proc/%d/cgroup" % pid)
    if hierarchies() == [CGROUPS]:
        return CGROUPS + re.search(r"^0::(.*)$", groups, re.M)[1]
    return CGROUPS + "/" + controller + re.search(
        r"^\d+:(?:[^:]*,)?%s(?:,[^:]*)?:(.*)$" % controller, groups, re.M)[1]


def new_cgroups(before):
    """The cgroups that are there now and were not before."""
    return sorted(set(all_cgroups()) - set(before))


def all_cgroups():
    return [path for top in hierarchies() for path, _, _ in os.walk(top) if path != top]


def at_once(number, function):
    """Calls function(0) to function(number - 1) at once; each must succeed."""
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        list(pool.map(function, range(number)))


def suite(name):
    """The program of an engine's suite, as a module. Its cases are not ours."""
    known = len(CASES)
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(os.path.dirname(os.path.abspath(__file__)), name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    del CASES[known:]
    return module


# --- times ---

def floor(folder):
    """The kernel's own price of a container (../bench/floor.c): gives the command of number n."""
    rootfs, program = folder + "/floor-rootfs", folder + "/floor"
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        os.makedirs(rootfs + "/" + name)
    shutil.copy("/bin/busybox", rootfs + "/bin/busybox")
    os.symlink("busybox", rootfs + "/bin/true")
    run("gcc", "-O2", "-static", "-o", program,
        os.path.dirname(os.path.abspath(__file__)) + "/../bench/floor.c")
    return lambda n: (program, rootfs, "f%d" % n, "/bin/true")


def in_turn(contenders, rounds, counted=8, warm=2, after=lambda name, n: None, before=lambda name: None):
    """Milliseconds of the commands `contenders[name](n)`, sorted, by name. They take turns; in each turn there are
    some in a row, the first not counted: what moves processes between cgroups of v1 waits several milliseconds
    longer when nobody has done so a moment before. `after` removes what one has made, off the clock; `before` brings
    us to where one runs."""
    samples = {name: [] for name in contenders}
    for number in range(rounds):
        for name, words in contenders.items():
            before(name)
            for again in range(warm + counted):
                n = number * (warm + counted) + again
                begin = time.monotonic()
                done = subprocess.run(words(n), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE)
                took = (time.monotonic() - begin) * 1000
                check(not done.returncode, "%s: %s" % (name, done.stderr.decode(errors="replace")[-300:]))
                after(name, n)
                if again >= warm:
                    samples[name].append(took)
    return {name: sorted(list_) for name, list_ in samples.items()}


def median_of(samples):
    """The median with the fastest and the slowest tenth, for a table; samples are sorted."""
    tenth = len(samples) // 10
    return "%.1f (%.1f to %.1f)" % (statistics.median(samples), samples[tenth], samples[-1 - tenth])


def mounts():
    return [line.split()[4] for line in open("/proc/self/mountinfo")]


def state_of(pid):
    """A process's one-letter state, or None."""
    try:
        return read("/proc/%d/stat" % pid).rpartition(") ")[2][0]
    except OSError:
        return None


def seccomp_profile(path):
    """A profile that lets all calls through but mkdir."""
    write(path, json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    return path


# --- Podman and Buildah ---

def containers_conf(folder, runtime, name):
    """Writes their configuration; gives the environment that names it."""
    folder += "/" + name
    os.mkdir(folder)
    # Hard limits may not be raised everywhere. The pod's first process comes from our image too.
    write(folder + "/containers.conf", """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
init_path = "/usr/bin/docker-init"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "%s"
runtime = "tested"
[engine.runtimes]
tested = ["%s"]
""" % (PAUSE, runtime))
    write(folder + "/storage.conf", """[storage]
driver = "overlay"
graphroot = "%s/graph"
rootless_storage_path = "%s/graph"
runroot = "%s/run"
""" % (folder, folder, folder))
    shutil.chown(folder, os.stat(os.path.dirname(folder)).st_uid)
    return ("CONTAINERS_CONF=%s/containers.conf" % folder, "CONTAINERS_STORAGE_CONF=%s/storage.conf" % folder,
            "DISABLE_HC_SYSTEMD=true")


def users():
    """A plain user with ids of its own, and ids for `--userns=auto`. Seen in here only."""
    for file in ("/etc/subuid", "/etc/subgid"):
        write(file, "tester:200000:65536\ncontainers:300000:1000000\n")
    with open("/etc/passwd", "a") as passwd, open("/etc/group", "a") as group:
        passwd.write("tester:x:4300:4300::/:/bin/sh\n")
        group.write("tester:x:4300:\n")


def as_plain_user(folder):
    """What to put before a command to run it as that user, and the user's own folder."""
    home, runtime_dir = folder + "/home", "/run/user/4300"
    for path in (home, runtime_dir):
        os.makedirs(path)
        os.chown(path, 4300, 4300)
    os.chmod(runtime_dir, 0o700)
    # Plain users' networks take this device, which not every host gives to all.
    os.mknod(folder + "/tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(folder + "/tun", 0o666)
    run("mount", "--bind", folder + "/tun", "/dev/net/tun")
    return ("setpriv", "--reuid=4300", "--regid=4300", "--clear-groups", "env", "HOME=" + home, "USER=tester",
            "XDG_RUNTIME_DIR=" + runtime_dir), home


# --- the image ---

def rootfs(path, **more):
    """The image's tree as a tar: busybox, two users, and more files {name: (mode, text)}."""
    files = {"etc/passwd": (0o644, "root:x:0:0:root:/root:/bin/sh\nplain:x:1000:1000:plain:/tmp:/bin/sh\n"),
             "etc/group": (0o644, "root:x:0:\nplain:x:1000:\ncrew:x:2000:plain\n"),
             "notexec": (0o644, "no program\n"), "afile": (0o644, "a file\n"), **more}
    busybox = os.path.realpath(shutil.which("busybox", path=PATH))
    with tarfile.open(path, "w") as tar:
        def add(name, mode, kind=tarfile.REGTYPE, data=b"", link=""):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname, entry.size = kind, mode, link, len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var"):
            add(name, 0o1777 if name == "tmp" else 0o755, tarfile.DIRTYPE)
        for name, (mode, text) in files.items():
            add(name, mode, data=text.encode())
        with open(busybox, "rb") as file:
            add("bin/busybox", 0o755, data=file.read())
        for name in run(busybox, "--list")[1].split():
            if name != "busybox":
                add("bin/" + name, 0o777, tarfile.SYMTYPE, link="busybox")
    return path


def image(path, name=IMAGE, command=("sh",)):
    """An image in the OCI layout, as a tar."""
    rootfs(path + ".layer")
    blobs = {}

    def blob(kind, data, **more):
        digest = hashlib.sha256(data).hexdigest()
        blobs["blobs/sha256/" + digest] = data
        return {"mediaType": "application/vnd.oci.image." + kind, "size": len(data),
                "digest": "sha256:" + digest, **more}

    with open(path + ".layer", "rb") as file:
        layer = blob("layer.v1.tar", file.read())
    config = blob("config.v1+json", json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}).encode())
    manifest = blob("manifest.v1+json", json.dumps({
        "schemaVersion": 2, "config": config, "layers": [layer]}).encode(),
        annotations={"io.containerd.image.name": name,
                     "org.opencontainers.image.ref.name": name})
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(path, "w") as tar:
        for entry_name, data in blobs.items():
            entry = tarfile.TarInfo(entry_name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


# --- cases ---

CASES = []


def case(name, only=lambda engine: True):
    """Registers a function of an engine as a case, for the engines that `only` says yes to.
    Suites give the same thing the same name."""
    def register(function):
        CASES.append((name, function, only))
        return function
    return register


def run_cases(args, name, make):
    results = []
    engine = None
    try:
        engine = make(os.environ[INSIDE], args.runtime)
        engine.args = args
        for title, function, only in CASES:
            if not only(engine) or args.only and args.only not in title:
                continue
            begin, message = time.time(), ""
            try:
                function(engine)
            except Exception as error:  # whatever goes wrong in a case is that case's verdict
                message = "%s%s" % ("" if isinstance(error, AssertionError) else
                                    type(error).__name__ + ": ", error)
                with contextlib.suppress(Exception):
                    engine.clean()
            seconds = time.time() - begin
            verdict = "pass" if not message else "known" if title in engine.known else "FAIL"
            results.append({"case": title, "verdict": verdict, "seconds": round(seconds, 2),
                            "message": message, "known": engine.known.get(title)})
            print("%-44s %-5s %6.2f s  %s" % (title, verdict, seconds, message), flush=True)
    finally:
        if engine:
            engine.stop()
        if args.verbose:
            with contextlib.suppress(OSError):
                print(read(os.environ[INSIDE] + "/log"))
    passed, known, failed = (sum(result["verdict"] == verdict for result in results)
                             for verdict in ("pass", "known", "FAIL"))
    if args.json:
        version = run(args.runtime, "--version")[1].splitlines()[0]
        write(args.json, json.dumps({"engine": name, "runtime": version, "cases": results}, indent=1))
    print("%s: %d passed, %s%d failed" % (name, passed, "%d known, " % known if known else "", failed))
    return 0 if passed and not failed else 1


def main(name, doc, packages, make, more=lambda parser: None, criu=False):
    """A suite's main program: `make(folder, runtime)` starts its engine. With `criu`, one is in PATH."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    more(parser)
    parser.add_argument("runtime", help="path or name of the runtime: rt, runc, crun")
    parser.add_argument("--json", metavar="FILE", help="write the results there")
    parser.add_argument("--only", metavar="WORD", help="only cases with this in their name")
    parser.add_argument("--verbose", action="store_true", help="print the daemon's log")
    args = parser.parse_args()
    os.environ["PATH"] = PATH
    runtime = shutil.which(args.runtime)
    if not runtime:
        parser.error("no such runtime: " + args.runtime)
    args.runtime = os.path.abspath(runtime)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(name + ": terminated"))
    if INSIDE not in os.environ:
        return outside({"busybox": "busybox-static", "ip": "iproute2", **packages}, criu)
    reap()
    folder = os.environ[INSIDE]
    mount_cgroups(runtime)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    # Changes of /etc (users, their ids, networks) are seen here only.
    os.makedirs("/run/etc/work")
    os.mkdir("/run/etc/upper")
    run("mount", "-t", "overlay", "-o", "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work",
        "etc", "/etc")
    users()
    run("ip", "link", "set", "lo", "up")
    # Some engines call `runc` whatever they were told.
    os.mkdir(folder + "/bin")
    os.symlink(args.runtime, folder + "/bin/runc")
    if criu:
        os.symlink(os.environ[CRIU], folder + "/bin/criu")
    os.environ["PATH"] = folder + "/bin:" + PATH
    return run_cases(args, name, make)
