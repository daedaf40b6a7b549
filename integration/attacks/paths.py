"""Paths inside the root (CVE-2021-30465, CVE-2024-45310, CVE-2019-18837, CVE-2025-54867 and their like)."""
import os
import shutil

from bed import Fell, case


def links(bed):
    """Where a link in an image may point to, by name."""
    canary = bed.canary
    return {
        "absolute": canary,
        "upwards": "../" * 30 + canary.lstrip("/"),
        "to a file": canary + "/secret",
        "chain": "/data-1",
        "loop": "/data-loop",
        "dangling": canary + "/new",
        "dangling, deep": canary + "/no/such/place",
        "/proc/1/root": "/proc/1/root" + canary,
        "/proc/self/cwd": "/proc/self/cwd/" + "../" * 30 + canary.lstrip("/"),
        "/proc/self/fd/3": "/proc/self/fd/3",
        "/proc/self/fd/5": "/proc/self/fd/5/" + "../" * 30 + canary.lstrip("/"),
        "the root itself": "/",
    }


def tmpfs(document, path):
    document["mounts"].append({"destination": path, "type": "tmpfs", "source": "tmpfs"})


def bound(document, path):
    document["mounts"].append({"destination": path, "type": "bind", "source": "/etc/hostname", "options": ["bind"]})


def device(document, path):
    document["linux"]["devices"] = [{"path": path, "type": "c", "major": 1, "minor": 3}]


def image_devices(document):
    """The image's /dev is the container's."""
    document["mounts"] = [mount for mount in document["mounts"] if mount["destination"] != "/dev"]


# What the document asks for, and the path at which the image has a link.
PLACES = {
    "a mount": ("data", lambda document: tmpfs(document, "/data")),
    "a mount below a link": ("data", lambda document: tmpfs(document, "/data/sub/deep")),
    "a bound file": ("data", lambda document: bound(document, "/data")),
    "a bound file below a link": ("data", lambda document: bound(document, "/data/file")),
    "a device": ("data", lambda document: device(document, "/data")),
    "a device below a link": ("data", lambda document: device(document, "/data/sub/null")),
    "the working directory": ("data", lambda document: document["process"].update(cwd="/data/sub")),
    "a masked path": ("data", lambda document: document["linux"].update(maskedPaths=["/data", "/data/secret"])),
    "a read-only path": ("data", lambda document: document["linux"].update(readonlyPaths=["/data", "/data/below"])),
    "/proc": ("proc", lambda document: None),
    "/sys": ("sys", lambda document: document["mounts"].append(
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]})
            or document["linux"]["namespaces"].append({"type": "network"})),
    "/dev": ("dev", lambda document: None),
    "/dev of the image": ("dev", image_devices),
    "/dev/null of the image": ("dev/null", lambda document: (
        image_devices(document), document["linux"].update(maskedPaths=["/etc/passwd"]))),
    "/dev/ptmx of the image": ("dev/ptmx", image_devices),
    "/dev/pts": ("dev/pts", lambda document: (image_devices(document), document["mounts"].append(
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]}))),
}


def put(bed, place, target):
    """The link in the image, in the place of what was there."""
    path = os.path.join(bed.root, place)
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
    else:
        shutil.rmtree(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(target, path)


def static(place, change):
    def attack(bed):
        os.symlink("/data-2", bed.root + "/data-1")
        os.symlink(bed.canary, bed.root + "/data-2")
        os.symlink("/data-loop", bed.root + "/data-loop")
        for name, target in links(bed).items():
            put(bed, place, target)
            document = bed.document()
            change(document)
            bed.run(document)
            bed.delete()
            bed.untouched(f"a link ({name})")
    return attack


def race(place, change):
    def attack(bed):
        if os.path.isdir(os.path.join(bed.root, "data")):
            os.makedirs(os.path.join(bed.root, "data/sub/deep"))
            os.makedirs(os.path.join(bed.root, "data/below"))
            with open(os.path.join(bed.root, "data/secret"), "w") as file:
                file.write("inside")
        real = os.path.join(bed.root, place)
        other = os.path.join(bed.root, "other")
        os.symlink("../" * 30 + bed.canary.lstrip("/"), other)
        racer = bed.background("exchange.py", real, other)
        for _ in range(300 if bed.whole else 12):
            document = bed.document()
            change(document)
            bed.run(document)
            bed.delete()
            bed.untouched("an exchange while it was made")
        if racer.poll() is not None:
            raise RuntimeError("nobody exchanged anything")
    return attack


for name, (place, change) in PLACES.items():
    case("links in the image", name)(static(place, change))
for name in ("a mount", "a mount below a link", "a bound file below a link", "a device below a link",
             "the working directory", "a masked path", "a read-only path", "/proc", "/sys", "/dev", "/dev of the image"):
    case("exchanged while it is made", name)(race(*PLACES[name]))


@case("exchanged while it is made", "a bind mount's source in a volume")
def volume(bed):
    """Another container shares the volume in which this one has a mount point."""
    shared = bed.path("volume")
    os.makedirs(shared + "/point")
    os.symlink("../" * 30 + bed.canary.lstrip("/"), shared + "/other")
    bed.background("exchange.py", shared + "/point", shared + "/other")
    for _ in range(300 if bed.whole else 12):
        document = bed.document()
        document["mounts"] += [
            {"destination": "/data", "type": "bind", "source": shared, "options": ["rbind"]},
            {"destination": "/data/point", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/data/point/below", "type": "bind", "source": "/etc/hostname", "options": ["bind"]},
        ]
        bed.run(document)
        bed.delete()
        bed.untouched("an exchange in a volume")


@case("links in the image", "links that stay inside work")
def inside(bed):
    os.makedirs(bed.root + "/real/place")
    os.rmdir(bed.root + "/data")
    os.symlink("/real/../real/place", bed.root + "/data")
    document = bed.document("grep -c ' /real/place/sub ' /proc/self/mountinfo")
    tmpfs(document, "/data/sub")
    done = bed.run(document)
    if done.code != 0 or done.out.strip() != "1":
        raise Fell(f"a link that stays inside does not work: {done.out}{done.err}")
