//! Images that Debian's tools make, unpacked by umoci and by this room: every file must be the same in every
//! way. Needs root, umoci and tar; the last image is a whole Debian, made once by debootstrap.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::flatten::flatten;
use super::super::overlay::Overlay;
use super::super::settle::settle;
use super::tree::{Node, differences, manifest};
use super::{Scratch, open, unpacked};

type Tree = BTreeMap<String, Node>;

/// Runs a script in a directory of its own, in which `$1`, ... are further arguments.
fn shell(directory: &Path, script: &str, arguments: &[&str]) {
    fs::create_dir_all(directory).unwrap();
    let mut command = Command::new("bash");
    command.args(["-euc", script, "sh"]).args(arguments).current_dir(directory).env("TZ", "UTC").env("LC_ALL", "C");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// A capability to bind low ports, permitted (linux/capability.h, revision 2).
const CAPABILITY: &[u8] = &[0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Layers, the lowest first, as umoci unpacks them and as this room does.
fn both(scratch: &Scratch, layers: &[PathBuf]) -> (Tree, Tree) {
    let layout = scratch.0.join("layout");
    shell(&scratch.0, "umoci init --layout layout && umoci new --image layout:x", &[]);
    for layer in layers {
        shell(&scratch.0, "umoci raw add-layer --image layout:x \"$1\"", &[layer.to_str().unwrap()]);
    }
    assert!(layout.join("index.json").exists());
    shell(&scratch.0, "umoci unpack --image layout:x bundle", &[]);

    let mut done: Vec<OwnedFd> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("layer-{number}");
        let result = unpacked(scratch, &name, &fs::read(layer).unwrap());
        let parents: Vec<_> = done.iter().rev().map(AsFd::as_fd).collect();
        let new = open(&scratch.0.join(&name));
        settle(new.as_fd(), &parents, &result, Overlay::Trusted).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        done.push(new);
    }
    let all: Vec<_> = done.iter().map(AsFd::as_fd).collect();
    let flat = scratch.directory("flat");
    flatten(&all, flat.as_fd(), Overlay::Trusted).unwrap();
    (manifest(&scratch.0.join("bundle/rootfs"), &[]), manifest(&scratch.0.join("flat"), &[]))
}

fn possible() -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let umoci = Command::new("umoci").arg("--version").output().is_ok_and(|it| it.status.success());
    assert!(umoci, "umoci is missing: contrib/setup test installs it");
    true
}

fn equal((umoci, own): (Tree, Tree), at_least: usize) {
    assert!(own.len() >= at_least, "{}", own.len());
    assert_eq!(differences(&umoci, &own), Vec::<String>::new());
}

#[test]
fn everything_that_a_file_can_be() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    let tree = scratch.0.join("tree");
    shell(&tree, MIXED, &[]);
    xattr(&tree.join("bin/ping"), "security.capability", CAPABILITY);
    xattr(&tree.join("bin/ping"), "user.binary", b"\0\n=\xff");
    xattr(&tree.join("sticky"), "user.directory", b"x");
    xattr(&tree.join("bin/tool"), "trusted.any", b"x");
    xattr(&tree.join("symlink"), "trusted.any", b"x");
    let layer = scratch.0.join("layer.tar");
    let script = "tar --format=pax --xattrs --xattrs-include='*' --sparse -cf \"$1\" .";
    shell(&tree, script, &[layer.to_str().unwrap()]);
    let result = both(&scratch, &[layer]);
    let own = manifest(&tree, &[]);
    assert_eq!(differences(&own, &result.1), Vec::<String>::new(), "as it was before");
    let sparse = fs::metadata(scratch.0.join("flat/sparse")).unwrap();
    assert!(sparse.blocks() < 1000, "holes stay holes");
    equal(result, 30);
}

const MIXED: &str = r#"
    mkdir -m 1777 sticky; mkdir -m 2750 group; chown 7:8 group; mkdir -m 0 closed; mkdir -p a/b/c bin
    echo inherits > group/file; mkdir group/inherits
    echo tool > bin/tool; chmod 6711 bin/tool; chown 100000:200000 bin/owned 2>/dev/null || true
    echo big > bin/owned; chown 3000000:4000000000 bin/owned; chmod 4755 bin/owned
    echo ping > bin/ping; chmod 755 bin/ping
    echo linked > one; ln one two; ln one a/b/c/three; ln -s one symlink; ln symlink a/symlink
    ln -s /absolute/target absolute; ln -s nowhere dangling; ln -s ../../.. upwards
    mkfifo -m 640 pipe; mknod -m 600 null c 1 3; mknod -m 660 loop b 7 300
    : > empty; printf 'x%.0s' {1..511} > 511; printf 'x%.0s' {1..512} > 512; printf 'x%.0s' {1..513} > 513
    head -c 3000000 /dev/urandom > random
    truncate -s 50M sparse; echo start | dd of=sparse conv=notrunc status=none
    echo middle | dd of=sparse bs=1M seek=20 conv=notrunc status=none
    truncate -s 5M hole; truncate -s 1M end; echo x >> end
    name=$(printf 'n%.0s' {1..250}); mkdir -p $name/$name; echo deep > $name/$name/$name; ln $name/$name/$name a/long
    ln -s $name/$name/$name a/to-long
    printf x > "$(printf 'bytes-\377\376-\n')"; printf x > ' space '; printf x > 'glob*?['; printf x > 'a\b'; printf x > ümläut
    touch -d '2001-02-03 04:05:06.123456789Z' one; touch -d '1960-01-02 03:04:05.5Z' two empty
    touch -d '1960-01-02 03:04:05Z' 511; touch -d '2200-01-01Z' 512; touch -hd '1999-12-31 23:59:59.999999999Z' symlink
    touch -d '2010-10-10 10:10:10.101010101Z' a a/b pipe null group closed; touch -d '2011-11-11 11:11:11Z' .
    chmod 711 .
"#;

#[test]
fn layers_upon_layers() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    shell(&scratch.0, LAYERS, &[]);
    let layers: Vec<PathBuf> = (1..=4).map(|number| scratch.0.join(format!("{number}.tar"))).collect();
    equal(both(&scratch, &layers), 16);
}

const LAYERS: &str = r#"
    pack() { tar --format=pax --no-recursion -C $1 -cf $1.tar "${@:2}"; }
    mkdir -p 1/etc/conf 1/opaque/in 1/gone/in 1/turns 1/implied/deep 1/again/x
    echo 1 | tee 1/etc/conf/{a,b,c} 1/opaque/{a,b} 1/opaque/in/c 1/gone/{a,b} 1/turns/file 1/implied/deep/a 1/again/{x/,}y >/dev/null
    ln -s conf 1/etc/link; ln 1/etc/conf/a 1/etc/hard; echo 1 > 1/file; echo kept > 1/opaque/kept
    chown 5:6 1/implied 1/implied/deep; chmod 2750 1/implied; chmod 1777 1/implied/deep
    touch -d '2003-03-03 03:03:03.030303030Z' 1/implied 1/implied/deep 1/etc 1/etc/conf 1/opaque
    (cd 1; find . | sort) > list; tar --format=pax --no-recursion -C 1 -T list -cf 1.tar

    mkdir -p 2/etc/conf 2/opaque 2/implied/deep 2/file 2/again/x
    touch 2/etc/conf/.wh.a 2/opaque/.wh..wh..opq 2/.wh.gone 2/.wh.turns; echo 2 > 2/opaque/new; echo 2 > 2/implied/deep/b
    echo 2 > 2/turns; echo 2 > 2/file/inside; echo 2 > 2/again/new; touch 2/.wh.again
    pack 2 etc/conf/.wh.a opaque opaque/.wh..wh..opq opaque/new .wh.gone .wh.turns turns file file/inside implied/deep/b .wh.again again again/new

    mkdir -p 3/gone 3/turns 3/etc 3/implied/deep; echo 3 > 3/gone/new; echo 3 > 3/turns/file; touch 3/.wh.file 3/implied/deep/.wh.b
    ln -s /elsewhere 3/etc/conf; echo 3 > 3/opaque
    pack 3 gone gone/new turns turns/file .wh.file etc/conf implied/deep/.wh.b opaque

    mkdir -p 4/etc/conf 4/opaque 4/implied; echo 4 > 4/etc/conf/back; echo 4 > 4/opaque/back; touch 4/implied/.wh..wh..opq; echo 4 > 4/implied/only
    touch -d '2004-04-04 04:04:04Z' 4/etc/conf 4/opaque 4
    pack 4 . etc/conf etc/conf/back opaque opaque/back implied/.wh..wh..opq implied/only
"#;

#[test]
fn formats_of_tar() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    let mut layers = Vec::new();
    for (name, options) in [
        ("v7", "--format=v7"),
        ("ustar", "--format=ustar"),
        ("oldgnu", "--format=oldgnu"),
        ("gnu", "--format=gnu --blocking-factor=100"),
        ("pax", "--format=pax --sparse"),
        ("sparse00", "--format=pax --sparse --sparse-version=0.0"),
        ("sparse01", "--format=pax --sparse --sparse-version=0.1"),
    ] {
        layers.push(format(&scratch, name, options));
    }
    let (mut umoci, own) = both(&scratch, &layers);
    let mut tree = manifest(&scratch.0.join("tree"), &[]);
    // No entry is for the root.
    for tree in [&mut umoci, &mut tree] {
        tree.get_mut("").unwrap().mtime = own[""].mtime;
    }
    assert_eq!(differences(&tree, &own), Vec::<String>::new(), "as it was before");
    equal((umoci, own), 50);
    // What umoci does not know, GNU tar's own format of sparse files and global headers, is measured by what tar
    // packed.
    let scratch = Scratch::new();
    for (name, options) in [
        ("gnu", "--format=gnu --sparse"),
        ("oldgnu", "--format=oldgnu --sparse"),
        ("global", "--format=pax --pax-option=globexthdr.name=g,comment=x,mtime=1000000000.5"),
    ] {
        let layer = format(&scratch, name, options);
        unpacked(&scratch, name, &fs::read(layer).unwrap());
        let (tree, own) = (scratch.0.join("tree").join(name), scratch.0.join(name).join(name));
        let mut all = manifest(&tree, &[]);
        if name == "global" {
            for node in all.values_mut() {
                node.mtime = (1_000_000_000, 500_000_000);
            }
        } else {
            let [packed, own] = [&tree, &own].map(|it| fs::metadata(it.join("hole")).unwrap());
            assert_eq!((packed.blocks(), packed.len()), (own.blocks(), own.len()), "holes stay holes");
        }
        assert_eq!(differences(&all, &manifest(&own, &[])), Vec::<String>::new());
    }
}

/// A tree of all that a format can hold, and its archive.
fn format(scratch: &Scratch, name: &str, options: &str) -> PathBuf {
    let layer = scratch.0.join(format!("{name}.tar"));
    shell(&scratch.0.join("tree"), &FORMATS.replace("NAME", name), &[]);
    let pack = format!("tar {options} -cf \"$1\" {name}");
    shell(&scratch.0.join("tree"), &pack, &[layer.to_str().unwrap()]);
    layer
}

/// v7 knows no devices, and no names beyond 100 bytes.
const FORMATS: &str = r"
    mkdir NAME; cd NAME; mkdir dir; echo x > dir/file; ln dir/file hard; ln -s dir/file symlink; chmod 4711 dir/file
    if [ NAME != v7 ]; then
        long=$(printf 'l%.0s' {1..90}); mkdir -p $long/$long; echo deep > $long/$long/file; mknod null c 1 3; mkfifo pipe
    fi
    case NAME in *gnu | pax | sparse*)
        truncate -s 9M sparse; for at in {0..60}; do echo $at | dd of=sparse bs=128K seek=$at conv=notrunc status=none; done
        truncate -s 11M sparse; truncate -s 3M hole
        name=$(printf 'n%.0s' {1..240}); mkdir $name; ln -s $name/$name $name/$name; ln $name/$name $name/hard
        chown 3000000:3000001 dir
    esac
    find . -exec touch -hd '2005-05-05 05:05:05Z' {} +
";

#[test]
fn a_directory_that_is_a_link_below() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    shell(&scratch.0, LINKED, &[]);
    let layers: Vec<PathBuf> = (1..=3).map(|number| scratch.0.join(format!("{number}.tar"))).collect();
    let (umoci, own) = both(&scratch, &layers);
    for (path, kind) in [("lib", "symlink"), ("usr/lib/new/file", "file"), ("usr/lib/old/merged", "file")] {
        assert_eq!(own[path].kind, kind, "{path}");
    }
    assert_eq!(own["usr/lib/hard"].first, own["usr/lib/a"].first);
    assert!(!own.contains_key("usr/lib/b"));
    equal((umoci, own), 15);
}

const LINKED: &str = r"
    mkdir -p 1/usr/lib/old/in 1/opt/real; echo 1 | tee 1/usr/lib/{a,b,old/file,old/in/file} >/dev/null
    ln -s usr/lib 1/lib; ln -s ../opt/real 1/usr/link; ln -s /usr/link 1/again; chmod 700 1/usr/lib/old; chown 1:2 1/opt/real
    touch -d '2006-06-06 06:06:06.060606060Z' 1/usr/lib/old/in 1/usr/lib/old 1/usr/lib 1/usr/link 1/opt/real 1/lib
    tar --format=pax -C 1 -cf 1.tar .

    mkdir -p 2/lib/new 2/lib/old/in 2/usr/lib/old 2/again; echo 2 > 2/lib/new/file; echo 2 > 2/lib/old/merged; touch 2/lib/.wh.b
    echo 2 > 2/lib/old/in/second; echo 2 > 2/usr/lib/old/here; echo 2 > 2/again/far
    touch -d '2007-07-07 07:07:07Z' 2/lib/new
    tar --format=pax --no-recursion -C 2 -cf 2.tar lib/new lib/new/file usr/lib/old/here lib/old/merged lib/old/in/second lib/.wh.b again/far

    mkdir -p 3/lib 3/usr/lib; echo 1 > 3/lib/a; ln 3/lib/a 3/usr/lib/hard; mkdir 3/lib/old; echo 3 > 3/lib/old/third
    tar --format=pax --no-recursion -C 3 -cf 3.tar lib/a usr/lib/hard lib/old/third
    # Only the link: what it links to is in the first layer.
    tar --delete -f 3.tar lib/a
";

#[test]
fn a_whole_debian() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    let debian = debian();
    let more = scratch.0.join("more");
    shell(&more, "mkdir -p usr/bin; cp /bin/cat usr/bin/one; cp /bin/cat usr/bin/two; chmod 4755 usr/bin/one", &[]);
    xattr(&more.join("usr/bin/two"), "security.capability", CAPABILITY);
    let layer = scratch.0.join("more.tar");
    let script = "tar --xattrs --xattrs-include='*' -cf \"$1\" usr/bin/one usr/bin/two";
    shell(&more, script, &[layer.to_str().unwrap()]);
    let result = both(&scratch, &[debian, layer]);
    assert!(result.1["usr/bin/two"].xattrs.contains_key("security.capability"));
    equal(result, 5000);
}

/// The archive of a small Debian, made at the first use.
fn debian() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../integration/images/debian");
    let output = Command::new(script).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}
