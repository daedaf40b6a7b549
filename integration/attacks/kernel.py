"""procfs and sysfs (CVE-2019-16884, CVE-2019-19921, CVE-2023-27561, CVE-2025-52881 and their like)."""
import os
import subprocess

from bed import Fell, case

WANTED = {"net.ipv4.ip_forward": "1"}


def fake(bed):
    """A tree that looks like procfs."""
    for folder in ("self/attr", "sys/net/ipv4", "sys/kernel", "thread-self/attr", "1"):
        os.makedirs(bed.path("fake/" + folder))
    for name in ("sys/net/ipv4/ip_forward", "self/attr/exec", "self/oom_score_adj", "self/setgroups", "uptime"):
        with open(bed.path("fake/" + name), "w") as file:
            file.write("fake")
    os.symlink("/proc/sysrq-trigger", bed.path("fake/sys/kernel/shmmax"))


def created(bed, document, what):
    """Once it is created, what it asked for must be so, in the kernel and not in a file that looks like it."""
    document["linux"]["sysctl"] = WANTED
    document["linux"]["namespaces"].append({"type": "network"})
    document["process"]["oomScoreAdj"] = 333
    done = bed.create(document)
    try:
        if done.code == 0:
            import json
            pid = json.loads(bed.call("state", bed.id()).out)["pid"]
            value = subprocess.run(["nsenter", "-t", str(pid), "-n", "cat", "/proc/sys/net/ipv4/ip_forward"],
                                   capture_output=True, text=True).stdout.strip()
            with open(f"/proc/{pid}/oom_score_adj") as file:
                score = file.read().strip()
            if (value, score) != ("1", "333"):
                raise Fell(f"{what}: a container is created whose sysctl is {value} and whose score {score}")
    finally:
        bed.delete()
    for folder, _, names in os.walk(bed.path("fake")):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and open(path).read() != "fake":
                raise Fell(f"{what}: a write that was meant for the kernel went to {path}")
    bed.untouched(what)


@case("procfs", "a volume over it")
def volumes(bed):
    fake(bed)
    for below in ("", "/self", "/sys", "/self/attr", "/sys/net", "/sys/net/ipv4", "/thread-self"):
        document = bed.document()
        document["mounts"].append({"destination": "/proc" + below, "type": "bind",
                                   "source": bed.path("fake" + below), "options": ["rbind"]})
        created(bed, document, "a volume over /proc" + below)


@case("procfs", "a link in the image in its place")
def link(bed):
    fake(bed)
    os.rename(bed.path("fake"), bed.root + "/fake")
    os.symlink(bed.root + "/fake", bed.path("fake"))
    os.rmdir(bed.root + "/proc")
    for target in ("/fake", "fake", "/proc/1/root/fake", bed.canary):
        os.symlink(target, bed.root + "/proc")
        created(bed, bed.document(), "/proc is a link to " + target)
        os.unlink(bed.root + "/proc")


@case("procfs", "exchanged while it is mounted")
def race(bed):
    fake(bed)
    os.rename(bed.path("fake"), bed.root + "/fake")
    os.symlink("fake", bed.root + "/other")
    bed.background("exchange.py", bed.root + "/proc", bed.root + "/other")
    for _ in range(300 if bed.whole else 15):
        created(bed, bed.document(), "/proc is exchanged")


@case("procfs", "kernel parameters of the host")
def parameters(bed):
    def value():
        with open("/proc/sys/kernel/core_pattern") as file:
            return file.read()
    before = value()
    for key in ("kernel.core_pattern", "net/../kernel/core_pattern", "net.ipv4.../../kernel/core_pattern", "kernel/shm/../core_pattern",
                "fs.mqueue/../../kernel/core_pattern", "net", "net.", "kernel.", "", "vm.overcommit_memory", "user.max_user_namespaces",
                "kernel.sysrq", "fs.mqueue.", "/kernel/core_pattern"):
        document = bed.document()
        document["linux"]["sysctl"] = {key: "|/bin/false"}
        document["linux"]["namespaces"].append({"type": "network"})
        if bed.run(document).code == 0:
            raise Fell(f"sysctl {key!r} is taken")
    document = bed.document()
    document["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "64"}
    if bed.run(document).code == 0:
        raise Fell("a parameter of the host's network is taken")
    if value() != before:
        raise Fell("core_pattern of the host has changed")
