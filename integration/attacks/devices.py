"""Masks, devices and the terminal (CVE-2025-31133, CVE-2025-52565 and their like)."""
import os
import shutil
import socket
import stat

from bed import Fell, case
from paths import image_devices


@case("masks and devices", "the image's /dev/null is something else")
def null(bed):
    path = bed.root + "/dev/null"
    makers = {
        "a link out": lambda: os.symlink(bed.canary + "/secret", path),
        "a link to a file of the image": lambda: os.symlink("/etc/passwd", path),
        "a file": lambda: open(path, "w").write("x"),
        "a directory": lambda: os.mkdir(path),
        "another device": lambda: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
        "a FIFO": lambda: os.mkfifo(path),
    }
    for name, make in makers.items():
        shutil.rmtree(bed.root + "/dev")
        os.mkdir(bed.root + "/dev")
        with open(bed.root + "/etc/hidden", "w") as file:
            file.write("hidden")
        make()
        document = bed.document("cat /etc/hidden; echo over >/etc/hidden; stat -c %t:%T /etc/hidden")
        image_devices(document)
        document["linux"]["maskedPaths"] = ["/etc/hidden"]
        done = bed.run(document)
        if done.code == 0 and done.out.strip() != "1:3":
            raise Fell(f"/dev/null is {name}: behind the mask is {done.out!r}")
        if open(bed.root + "/etc/hidden").read() != "hidden":
            raise Fell(f"/dev/null is {name}: the masked file can be written")
        bed.delete()
        bed.untouched(f"/dev/null is {name}")


@case("masks and devices", "a masked directory is empty and stays so")
def directory(bed):
    document = bed.powerful(bed.document("ls -A /data; echo x 2>/dev/null >/data/new; ls -A /data; mkdir /data/d 2>/dev/null || echo no"))
    document["linux"]["maskedPaths"] = ["/data"]
    open(bed.root + "/data/file", "w").close()
    done = bed.run(document)
    if done.out != "no\n":
        raise Fell(f"a masked directory: {done.out!r} {done.err}")


@case("masks and devices", "the terminal is redirected")
def console(bed):
    makers = {
        "a link out": lambda path: os.symlink(bed.canary + "/secret", path),
        "a link up": lambda path: os.symlink("../" * 30 + bed.canary.lstrip("/") + "/new", path),
        "a file": lambda path: open(path, "w").write("x"),
        "a directory": os.mkdir,
    }
    for place in ("console", "ptmx", "pts"):
        for name, make in makers.items():
            shutil.rmtree(bed.root + "/dev")
            os.mkdir(bed.root + "/dev")
            make(f"{bed.root}/dev/{place}")
            document = bed.document()
            image_devices(document)
            document["process"]["terminal"] = True
            path = bed.path("console.sock")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
                server.bind(path)
                server.listen()
                bed.write(document)
                bed.call("create", "--bundle", bed.path("bundle"), "--console-socket", path, bed.id())
                bed.delete()
            os.unlink(path)
            bed.untouched(f"/dev/{place} is {name}")


@case("masks and devices", "the host's null device stays root's")
def owner(bed):
    before = os.stat("/dev/null")
    document = bed.document("true")
    document["process"]["user"] = {"uid": 1000, "gid": 1000}
    bed.run(document)
    after = os.stat("/dev/null")
    if (before.st_uid, before.st_mode) != (after.st_uid, after.st_mode):
        os.chown("/dev/null", before.st_uid, before.st_gid)
        raise Fell("the host's /dev/null has got another owner")
