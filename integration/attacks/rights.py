"""Privileges of the program, names and paths (CVE-2022-29162, CVE-2022-24769, CVE-2026-30892 and their like)."""
import os
import subprocess

from bed import Fell, case, read


@case("rights", "inheritable capabilities stay empty")
def inheritable(bed):
    look = "grep CapInh /proc/self/status"
    if "0000000000000000" not in bed.run(bed.document(look)).out:
        raise Fell("run gives inheritable capabilities")
    bed.started(bed.document("exec sleep 1000"), "e")
    for more in ((), ("--cap", "CAP_NET_RAW"), ("--cap", "CAP_SYS_ADMIN", "--cap", "CAP_KILL")):
        done = bed.call("exec", *more, bed.id("e"), "sh", "-c", look)
        if done.code != 0 or "0000000000000000" not in done.out:
            raise Fell(f"exec {' '.join(more)} gives inheritable capabilities: {done.out}{done.err}")


@case("rights", "users of exec")
def users(bed):
    bed.started(bed.document("exec sleep 1000"), "e")
    for user in ("-1", "1:", "1:x", "4294967295", "4294967296", "1:4294967296", "1:-1", "+1", " 1", "1 ", "0x0", "1:1:1", ":", ":1", "nobody-here"):
        done = bed.call("exec", f"--user={user}", bed.id("e"), "id", "-u")
        if done.code == 0:
            raise Fell(f"--user {user!r} is taken, for uid {done.out.strip()}")
    # The image has a user whose name is "1" and whose number is 0.
    done = bed.call("exec", "--user", "1", bed.id("e"), "id", "-u")
    if done.out.strip() != "1":
        raise Fell(f"--user 1 is uid {done.out.strip()} {done.err}")


@case("rights", "ids that lead outside")
def ids(bed):
    bed.write(bed.document("true"))
    bundle = ("--bundle", bed.path("bundle"))
    for name in ("../canary/new", "..", ".", "../canary", bed.canary, "a/b", "a/../../canary", "", "\n", "a b", "\u00e9"):
        for words in (("create", *bundle, name), ("run", *bundle, name), ("start", name), ("state", name), ("kill", name, "KILL"),
                      ("delete", "--force", name), ("exec", name, "true"), ("pause", name), ("resume", name), ("update", "--pids-limit", "9", name),
                      ("ps", name), ("events", "--stats", name)):
            done = bed.call(*words)
            if done.code == 0 and words[0] != "delete":
                raise Fell(f"{words[0]} takes the id {name!r}")
            bed.untouched(f"{words[0]} {name!r}")


@case("rights", "cgroup paths that lead outside")
def cgroups(bed):
    def all_of_them():
        return {os.path.join(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") for name in names if bed.name in name}
    for path in (f"../../../{bed.name}-x", f"/../../{bed.name}-x", f"/{bed.name}-a/../../../../{bed.name}-x", f"../../{bed.name}-x/../{bed.name}-y"):
        document = bed.document("true")
        document["linux"]["cgroupsPath"] = path
        document["linux"]["resources"] = {"pids": {"limit": 50}}
        bed.create(document)
        for found in all_of_them():
            if os.path.dirname(found) == "/sys/fs/cgroup":
                os.rmdir(found)
                raise Fell(f"cgroupsPath {path} makes {found}")
        bed.delete()
        bed.untouched(path)
        left = all_of_them()
        if left:
            raise Fell(f"cgroupsPath {path} leaves {left}")


@case("rights", "hooks have the document's environment alone")
def hook_environment(bed):
    document = bed.document("true")
    def hook(name, **more):
        return {"path": "/bin/sh", "args": ["sh", "-c", f"tr '\\0' '\\n' </proc/self/environ >{bed.path(name)}"], **more}
    document["hooks"] = {"createRuntime": [hook("none"), hook("one", env=["A=b"])], "poststop": [hook("last")]}
    env = dict(os.environ, SECRET="host")
    bed.run(document, env=env)
    bed.delete()
    for name, wanted in (("none", []), ("one", ["A=b"]), ("last", [])):
        found = [line for line in read(bed.path(name)).splitlines() if line.split("=")[0] not in ("PWD", "_", "SHLVL", "OLDPWD")]
        if found != wanted:
            raise Fell(f"a hook has {found} in its environment, wanted {wanted}")


@case("rights", "the caller's environment stays outside")
def environment(bed):
    strange = dict(os.environ, SECRET="host", LD_PRELOAD="/no/such.so", RUST_BACKTRACE="full", RUST_LOG="trace", LISTEN_FDS="9", LISTEN_PID="1",
                   _LIBCONTAINER_INITPIPE="3", _LIBCONTAINER_LOGPIPE="4", GODEBUG="x", TMPDIR=bed.canary, LC_ALL="de_DE.UTF-8", HOME=bed.canary)
    wanted = "HOME=/root PATH=/bin:/usr/bin"
    look = ["/bin/busybox", "env"]
    done = bed.run(bed.document(look), env=strange)
    found = " ".join(sorted(done.out.split()))
    if found != wanted:
        raise Fell(f"the program has {found} {done.err}")
    bed.started(bed.document("exec sleep 1000"), "e")
    found = " ".join(sorted(bed.call("exec", bed.id("e"), "/bin/busybox", "env", env=strange).out.split()))
    if found != wanted:
        raise Fell(f"exec's program has {found}")
    bed.untouched("the caller's environment")


@case("rights", "groups of the caller stay outside")
def groups(bed):
    bed.write(bed.document("id -G"))
    done = subprocess.run(["setpriv", "--groups", "4,27,100", "--", bed.runtime, "--root", bed.state, "run", "--bundle", bed.path("bundle"), bed.id()],
                          capture_output=True, text=True, timeout=15)
    if done.stdout.strip() != "0":
        raise Fell(f"the program has groups {done.stdout}{done.stderr}")


@case("rights", "filters that differ in one number")
def filters(bed):
    found = []
    for number in (1, 13, 0, 95):
        document = bed.document("mkdir /data/x; echo $?")
        document["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": number}]}
        found.append(bed.run(document).err.strip().rsplit(": ", 1)[-1])
    wanted = ["Operation not permitted", "Permission denied", "", "Operation not supported"]
    if found != wanted:
        raise Fell(f"errors are {found}, wanted {wanted}")
