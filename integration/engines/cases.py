"""Cases of the command line that Docker and Podman share. An engine `e` has, besides what all have:
`rootless`, `run` and `detached`."""
import os
import re
import signal
import time

from common import (GREEDY, HANDLES_TERM, IGNORES_TERM, IMAGE, Engine, at_once, case, check, limit, read, same,
                    seccomp_profile, state_of, terminal, until, write)


def as_root(e):
    return not e.rootless


class Client(Engine):
    rootless = False
    more = ()    # what each run is told besides

    def run(self, *command, options=(), **rest):
        """Runs a container to its end; gives its output."""
        return self.out("run", "--rm", *self.more, *options, IMAGE, *command, **rest)

    def detached(self, name, *command, options=()):
        """Starts a container with this name; gives its pid."""
        self("run", "--detach", *self.more, "--name", name, *options, IMAGE,
             *(command or ("sleep", "1000")))
        return int(self.inspect(name, "State.Pid"))

    def inspect(self, name, what):
        return self.out("inspect", "--format", "{{.%s}}" % what, name)

    def status(self, name):
        return self.inspect(name, "State.Status")

    def remove(self, *names):
        self("rm", "--force", *names)

    def clean(self):
        names = self.out("ps", "--all", "--quiet").split()
        if names:
            self.remove(*names)

    def logged(self, name, word):
        """Waits until the container has written a word."""
        until(lambda: word in self.out("logs", name), lambda: "%s is not in: %s" % (word, self.out("logs", name)))

    def ended(self, name, status):
        until(lambda: self.status(name) == "exited", lambda: "%s is %s" % (name, self.status(name)))
        same(self.inspect(name, "State.ExitCode"), str(status))


@case("exit status 0 and 7")
def _(e):
    e.run("true")
    e.run("sh", "-c", "exit 7", status=7)


@case("output and errors")
def _(e):
    same(sorted(e.run("sh", "-c", "echo one; echo two >&2; id -u").split()), ["0", "one", "two"])


@case("standard input")
def _(e):
    same(e.run("cat", options=("--interactive",), input="from outside\n"), "from outside")


@case("environment, directory, host name")
def _(e):
    same(e.run("sh", "-c", "echo $COLOUR; pwd; hostname",
               options=("--env", "COLOUR=blue", "--workdir", "/tmp", "--hostname", "blue")).split(),
         ["blue", "/tmp", "blue"])


@case("missing program")
def _(e):
    text = e.run("nosuch", status=127)
    check("executable file not found in $PATH" in text, text)
    text = e.run("/no/such", status=127)
    check("no such file or directory" in text.lower(), text)


@case("program that is not executable")
def _(e):
    text = e.run("/notexec", status=126)
    check("permission denied" in text.lower(), text)


@case("directory that is none")
def _(e):
    text = e.run("true", options=("--workdir", "/afile"), status=None)
    check("not a directory" in text, text)


@case("run with a terminal")
def _(e):
    text = terminal([*e.command, "run", "--rm", "--interactive", "--tty", *e.more, IMAGE, "sh", "-c",
                     "tty; read word; echo got $word; exit 4"], [("/dev/", "hello\n")], status=4)
    check("got hello" in text, text)


@case("detached")
def _(e):
    pid = e.detached("detached")
    same(e.status("detached"), "running")
    check(state_of(pid), "no process %d" % pid)
    e.remove("detached")
    until(lambda: not state_of(pid), "the process is still there")


@case("logs")
def _(e):
    e.detached("logs", "sh", "-c", "echo one; echo two >&2; sleep 1000")
    e.logged("logs", "one")
    e.logged("logs", "two")
    e.remove("logs")


@case("attach")
def _(e):
    e.detached("attach", "sh", "-c", "read word; echo got $word; read word; exit 9",
               options=("--interactive", "--tty"))
    # The terminal echoes what is typed, so typing may come first.
    text = terminal([*e.command, "attach", "attach"], [("", "hello\n"), ("got hello", "bye\n")],
                    status=None)  # Podman's attach does not hand it on
    check("got hello" in text, text)
    e.ended("attach", 9)
    e.remove("attach")


@case("exec")
def _(e):
    e.detached("exec")
    same(e.out("exec", "exec", "sh", "-c", "echo in; cat /proc/1/comm"), "in\nsleep")
    e("exec", "exec", "sh", "-c", "exit 5", status=5)
    same(e.out("exec", "--user", "plain", "--env", "COLOUR=blue", "--workdir", "/tmp", "exec",
               "sh", "-c", "id -un; echo $COLOUR; pwd").split(), ["plain", "blue", "/tmp"])
    same(e.out("exec", "--interactive", "exec", "cat", input="in\n"), "in")
    text = e("exec", "exec", "nosuch", status=None)
    check(text[0] in (126, 127) and "executable file not found in $PATH" in text[1], str(text))
    same(e.out("exec", "--privileged", "exec", "grep", "CapEff", "/proc/self/status").split()[1],
         e.run("grep", "CapEff", "/proc/self/status", options=("--privileged",)).split()[1])
    e.remove("exec")


@case("exec with a terminal")
def _(e):
    e.detached("exectty")
    text = terminal([*e.command, "exec", "--interactive", "--tty", "exectty", "sh", "-c",
                     "tty; read word; echo got $word; exit 6"], [("/dev/", "hello\n")], status=6)
    check("got hello" in text, text)
    e.remove("exectty")


@case("SIGKILL gives 137")
def _(e):
    e.detached("killed")
    e("kill", "killed")
    e.ended("killed", 137)
    e.remove("killed")


@case("signals")
def _(e):
    e.detached("signals", "sh", "-c", "trap 'exit 3' USR1; echo ready; while :; do sleep 0.1; done")
    e.logged("signals", "ready")
    e("kill", "--signal", "USR1", "signals")
    e.ended("signals", 3)
    e.remove("signals")


@case("stop: SIGTERM is handled")
def _(e):
    e.detached("term", *HANDLES_TERM)
    e.logged("term", "ready")
    begin = time.time()
    e("stop", "--time", "60", "term")
    check(time.time() - begin < 50, "SIGTERM did not arrive")
    e.ended("term", 3)
    e.remove("term")


@case("stop: SIGKILL after the grace")
def _(e):
    e.detached("grace", *IGNORES_TERM)
    e.logged("grace", "ready")
    begin = time.time()
    e("stop", "--time", "1", "grace")
    check(time.time() - begin >= 1, "no grace")
    e.ended("grace", 137)
    e.remove("grace")


@case("restart, wait, rename")
def _(e):
    e.detached("again", "sh", "-c", "echo run; sleep 1000")
    first = e.inspect("again", "State.Pid")
    e("restart", "--time", "0", "again")
    same(e.status("again"), "running")
    check(e.inspect("again", "State.Pid") != first, "the same process")
    until(lambda: e.out("logs", "again").split() == ["run", "run"], lambda: e.out("logs", "again"))
    e("rename", "again", "other")
    e("kill", "other")
    same(e.out("wait", "other"), "137")
    e.remove("other")


@case("pause and unpause", as_root)
def _(e):
    pid = e.detached("paused")
    e("pause", "paused")
    same(e.status("paused"), "paused")
    e("unpause", "paused")
    same(e.status("paused"), "running")
    check(state_of(pid) == "S", "state %s" % state_of(pid))
    e("pause", "paused")
    e.remove("paused")  # thaws it


@case("limits", as_root)
def _(e):
    pid = e.detached("limits", options=("--memory", "64m", "--memory-swap", "128m", "--cpus", "0.5",
                                        "--pids-limit", "50", "--cpu-shares", "512", "--cpuset-cpus", "0"))
    same(limit(pid, "memory.limit_in_bytes", "memory.max"), str(64 << 20))
    same(limit(pid, "cpu.cfs_quota_us", "cpu.max").split()[0], "50000")
    same(limit(pid, "pids.max", "pids.max"), "50")
    same(limit(pid, "cpuset.cpus", "cpuset.cpus"), "0")
    e.remove("limits")


@case("out of memory", as_root)
def _(e):
    e.detached("oom", *GREEDY, options=("--memory", "16m"))
    e.ended("oom", 137)
    same(e.inspect("oom", "State.OOMKilled"), "true")
    e.remove("oom")


@case("top")
def _(e):
    e.detached("top")
    check("sleep 1000" in e.out("top", "top"), e.out("top", "top"))
    e.remove("top")


@case("stats", as_root)
def _(e):
    e.detached("stats")
    text = e.out("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.PIDs}}", "stats")
    check(re.match(r"stats [1-9]\S* ?\S* / .* 1$", text), text)
    e.remove("stats")


@case("bind mount, read-only")
def _(e):
    folder = e.folder + "/volume"
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o777)
    write(folder + "/seed", "seed\n")
    e.run("sh", "-c", "cat /data/seed > /data/new", options=("--volume", folder + ":/data"))
    same(read(folder + "/new"), "seed\n")
    text = e.run("sh", "-c", "cat /data/seed; echo > /data/other || echo refused",
                 options=("--volume", folder + ":/data:ro"))
    check("seed" in text and "refused" in text and "Read-only" in text, text)


@case("named volume")
def _(e):
    e("volume", "create", "named")
    e.run("sh", "-c", "echo kept > /data/file", options=("--volume", "named:/data"))
    same(e.run("cat", "/data/file", options=("--volume", "named:/data")), "kept")
    e("volume", "rm", "named")


@case("copy in and out")
def _(e):
    e.detached("copy")
    write(e.folder + "/in", "copied\n")
    e("cp", e.folder + "/in", "copy:/tmp/in")
    same(e.out("exec", "copy", "cat", "/tmp/in"), "copied")
    e("cp", "copy:/afile", e.folder + "/out")
    same(read(e.folder + "/out"), "a file\n")
    e.remove("copy")


@case("tmpfs")
def _(e):
    text = e.run("sh", "-c", "echo x > /scratch/x; mount | grep /scratch",
                 options=("--tmpfs", "/scratch:size=64k,noexec"))
    check("noexec" in text and "size=64k" in text, text)


@case("read-only root")
def _(e):
    text = e.run("sh", "-c", "echo > /new || echo refused", options=("--read-only",))
    check("refused" in text, text)


@case("user")
def _(e):
    same(e.run("id", options=("--user", "1000:2000")), "uid=1000(plain) gid=2000(crew) groups=2000(crew)")
    check(e.run("id", options=("--user", "plain")).startswith("uid=1000(plain) gid=1000(plain)"), "plain")
    check("2000(crew)" in e.run("id", options=("--user", "plain")), "no group of /etc/group")
    check("3000" in e.run("id", options=("--user", "plain", "--group-add", "3000")), "no group added")


@case("capabilities")
def _(e):
    def effective(*options):
        return int(e.run("grep", "CapEff", "/proc/self/status", options=options).split()[1], 16)
    check(effective("--cap-add", "SYS_TIME") & 1 << 25, "not added")
    check(not effective("--cap-drop", "CHOWN") & 1, "not dropped")
    same(effective("--cap-drop", "ALL"), 0)
    text = e.run("sh", "-c", "chown 1 /afile || echo refused", options=("--cap-drop", "CHOWN"))
    check("refused" in text, text)


@case("seccomp profile")
def _(e):
    profile = seccomp_profile(e.folder + "/seccomp.json")
    text = e.run("sh", "-c", "mkdir /new || echo refused", options=("--security-opt", "seccomp=" + profile))
    check("refused" in text and "Operation not permitted" in text, text)


@case("seccomp: default and unconfined")
def _(e):
    show = ("grep", "Seccomp:", "/proc/self/status")
    same(e.run(*show).split()[1], "2")
    same(e.run(*show, options=("--security-opt", "seccomp=unconfined")).split()[1], "0")


@case("no new privileges")
def _(e):
    show = ("grep", "NoNewPrivs", "/proc/self/status")
    same(e.run(*show).split()[1], "0")
    same(e.run(*show, options=("--security-opt", "no-new-privileges")).split()[1], "1")


@case("devices")
def _(e):
    same(e.run("sh", "-c", "head -c 0 /dev/mine && echo read", options=("--device", "/dev/zero:/dev/mine:r")), "read")


@case("device rule with *", as_root)
def _(e):
    opens = ("sh", "-c", "mknod /tmp/fuse c 10 229 && head -c 0 /tmp/fuse && echo read || echo refused")
    check("refused" in e.run(*opens), "no rule is needed")
    same(e.run(*opens, options=("--device-cgroup-rule", "c 10:* rmw")), "read")


@case("resource limits (ulimit)")
def _(e):
    same(e.run("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c", options=(
        "--ulimit", "nofile=200:300", "--ulimit", "core=0:0", "--ulimit", "nproc=1000:1000")).split(), ["200", "300", "0"])


@case("sysctl")
def _(e):
    same(e.run("sh", "-c", "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start", options=(
        "--sysctl", "kernel.msgmax=9000", "--sysctl", "net.ipv4.ip_unprivileged_port_start=70")).split(), ["9000", "70"])


@case("another container's namespaces")
def _(e):
    pid = e.detached("first", options=("--ipc", "shareable"))
    for kind in ("pid", "ipc", "network"):
        file = {"network": "net"}.get(kind, kind)
        same(e.run("readlink", "/proc/self/ns/" + file, options=("--%s=container:first" % kind,)),
             os.readlink("/proc/%d/ns/%s" % (pid, file)))
    same(e.run("cat", "/proc/1/comm", options=("--pid=container:first",)), "sleep")
    check(state_of(pid) in ("S", "R"), "the first one did not survive")
    e.remove("first")


@case("namespaces of the host")
def _(e):
    for kind in ("pid", "ipc", "network", "uts"):
        if e.rootless and kind == "ipc" and not os.path.exists("/dev/mqueue"):
            continue  # Podman binds it
        file = {"network": "net"}.get(kind, kind)
        same(e.run("readlink", "/proc/self/ns/" + file, options=("--%s=host" % kind,)), e.host_namespace(file))


@case("init")
def _(e):
    check(e.run("cat", "/proc/1/comm", options=("--init",)) != "cat", "the program is the first process")
    e.run("sh", "-c", "exit 7", options=("--init",), status=7)


@case("privileged")
def _(e):
    text = e.run("sh", "-c", "mount -t tmpfs x /tmp && echo mounted; grep Seccomp: /proc/self/status; ls /dev",
                 options=("--privileged",))
    check("mounted" in text and "Seccomp:\t0" in text and "fuse" in text, text)


@case("restart policy: on-failure")
def _(e):
    e.detached("failing", "sh", "-c", "echo run; exit 1", options=("--restart", "on-failure:2"))
    until(lambda: e.status("failing") == "exited" and e.inspect("failing", "RestartCount") == "2",
          lambda: "%s, %s times" % (e.status("failing"), e.inspect("failing", "RestartCount")))
    same(e.out("logs", "failing").split(), ["run"] * 3)
    e.remove("failing")


@case("restart policy: always")
def _(e):
    pid = e.detached("always", options=("--restart", "always"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: e.status("always") == "running" and int(e.inspect("always", "State.Pid")) not in (0, pid),
          "it is not started again")
    e.remove("always")


@case("20 at once")
def _(e):
    def one(number):
        name = "many%d" % number
        e("run", "--detach", *e.more, "--name", name, IMAGE, "echo", str(number))
        same(e.out("wait", name), "0")
        # Of what `run` itself prints, Podman 4.3 loses the end now and then (its issue 9096).
        same(e.out("logs", name), str(number))
        e.remove(name)
    at_once(20, one)


@case("healthy and unhealthy")
def _(e):
    e.detached("health", options=("--health-cmd", "test -e /tmp/well", "--health-interval", "500ms",
                                  "--health-retries", "1"))
    e.health("health", "unhealthy")
    e("exec", "health", "touch", "/tmp/well")
    e.health("health", "healthy")
    e.remove("health")
