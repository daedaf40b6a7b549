//! Archives that somebody made to do harm, or that are broken, and some that only look like it. Each is
//! unpacked beside a canary, which must stay as it is.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ::tar::Header;

use super::super::remove::remove;
use super::super::unpack::{Limits, Options, unpack};
use super::build::{Tar, header};
use super::{OPTIONS, Scratch, listing, open, tree};

enum Expect {
    /// An error with these words in it.
    Error(&'static str),
    /// Exactly these things, as `listing` tells them.
    Tree(&'static [&'static str]),
}
use Expect::{Error, Tree};

fn tar() -> Tar {
    Tar::default()
}

/// A header that a test has changed.
fn changed(kind: u8, name: &str, change: impl FnOnce(&mut Header)) -> Header {
    let mut header = header(kind, name.as_bytes(), b"", 0);
    change(&mut header);
    header
}

/// Names that are longer than a header holds, as GNU tar writes them.
fn long(kind: u8, name: &[u8]) -> Tar {
    tar().entry(kind, "././@LongLink", "", &[name, b"\0"].concat())
}

fn gnu_sparse(extents: &[(u64, u64)], size: u64, stored: u64) -> Header {
    changed(b'S', "sparse", |header| {
        header.set_size(stored);
        let gnu = header.as_gnu_mut().unwrap();
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(extents) {
            slot.offset.copy_from_slice(format!("{offset:011o}\0").as_bytes());
            slot.numbytes.copy_from_slice(format!("{length:011o}\0").as_bytes());
        }
        gnu.realsize.copy_from_slice(format!("{size:011o}\0").as_bytes());
    })
}

/// Names, archives, what comes of them. `outside` is the canary's directory.
#[rustfmt::skip]
fn cases(outside: &Path) -> Vec<(&'static str, Vec<u8>, Expect)> {
    let outside = outside.to_str().unwrap();
    let out = |name: &str| format!("{outside}/{name}");
    let deep = "d/".repeat(2000);
    let file = |name: &str| tar().file(name, "bad");
    vec![
        // Upwards and absolute.
        ("a name upwards", file("../canary/new").end(), Error("leads upwards")),
        ("a name upwards in the middle", file("a/../../canary/new").end(), Error("leads upwards")),
        ("a name upwards that stays inside", file("a/../b").end(), Error("leads upwards")),
        ("only upwards", tar().dir("..").end(), Error("leads upwards")),
        ("upwards behind a dot", file("./../canary/secret").end(), Error("leads upwards")),
        ("an absolute name", file("/etc/passwd").end(), Tree(&["etc/", "etc/passwd=bad"])),
        ("an absolute name of many slashes", file("///x").end(), Tree(&["x=bad"])),
        ("dots and slashes", file("./a//./b/").end(), Tree(&["a/", "a/b=bad"])),
        ("a hard link upwards", tar().hard("a", "../canary/secret").end(), Error("leads upwards")),
        ("a hard link upwards in the middle", tar().dir("x").hard("a", "x/../../canary/secret").end(), Error("leads upwards")),
        ("a whiteout of ..", file("d/.wh...").end(), Error("whiteout of nothing")),
        ("a whiteout of .", file("d/.wh..").end(), Error("whiteout of nothing")),
        ("a whiteout of nothing", file(".wh.").end(), Error("whiteout of nothing")),
        ("a whiteout upwards", file("../.wh.canary").end(), Error("leads upwards")),
        ("something in a whiteout", file(".wh.a/b").end(), Error("nothing can be in it")),
        // Symbolic links.
        ("a link out, a file through it", tar().link("l", out("")).file("l/new", "bad").end(), Error("canary")),
        ("a link to the root's parent, a file through it", tar().link("l", "../..").file("l/new", "ok").end(), Tree(&["l->../..", "new=ok"])),
        ("a link upwards, a file through it", tar().link("l", "../canary").file("l/new", "ok").end(), Tree(&["canary/", "canary/new=ok", "l->../canary"])),
        ("a file in the place of a link out", tar().link("l", "../canary/secret").file("l", "ok").end(), Tree(&["l=ok"])),
        ("a directory in the place of a link out", tar().link("l", "../canary").dir("l").file("l/x", "ok").end(), Tree(&["l/ opaque", "l/x=ok"])),
        ("a link over a directory", tar().dir("d").file("d/x", "").link("d", "../canary").file("d/y", "ok").end(), Tree(&["canary/", "canary/y=ok", "d->../canary"])),
        ("a link to /, a file through it", tar().link("l", "/").file("l/l/l/x", "ok").end(), Tree(&["l->/", "x=ok"])),
        ("a link to itself, a file through it", tar().link("l", "l").file("l/x", "").end(), Error("symbolic links")),
        ("links around", tar().link("a", "b/x").link("b", "a").file("a/f", "").end(), Error("symbolic links")),
        ("a chain of links out", tar().link("a", "b").link("b", "c").link("c", "../../..").file("a/tmp/x", "ok").end(), Tree(&["a->b", "b->c", "c->../../..", "tmp/", "tmp/x=ok"])),
        ("a link with a dangling middle", tar().link("l", "no/../../x").file("l/f", "ok").end(), Tree(&["l->no/../../x", "no/", "x/", "x/f=ok"])),
        ("a directory through a link", tar().dir("t").link("l", "t").dir("l/s").end(), Tree(&["l->t", "t/", "t/s/"])),
        ("a whiteout through a link out", tar().link("l", "../canary").file("l/.wh.secret", "").end(), Tree(&["canary/", "canary/secret gone", "l->../canary"])),
        ("opaque through a link out", tar().link("l", "../canary").file("l/.wh..wh..opq", "").end(), Tree(&["canary/ opaque", "l->../canary"])),
        ("a link without a target", tar().link("l", "").end(), Error("target has 0 bytes")),
        ("a link to proc", tar().link("l", "/proc/self/root").file("l/x", "ok").end(), Tree(&["l->/proc/self/root", "proc/", "proc/self/", "proc/self/root/", "proc/self/root/x=ok"])),
        // Hard links.
        ("a hard link through a link out", tar().link("l", "../canary").hard("a", "l/secret").end(), Tree(&["a later", "l->../canary"])),
        ("a hard link to a link out, then written", tar().link("l", "../canary/secret").hard("h", "l").file("h", "ok").end(), Tree(&["h=ok", "l->../canary/secret"])),
        ("a hard link to a link", tar().link("l", "x").hard("h", "l").end(), Tree(&["h->x", "l==h"])),
        ("a hard link to a directory", tar().dir("d").hard("h", "d").end(), Error("is a directory")),
        ("a hard link to the root", tar().hard("h", "./").end(), Error("a hard link to the root")),
        ("a hard link to itself", tar().file("a", "x").hard("a", "a").end(), Tree(&["a=x"])),
        ("a hard link over what holds its target", tar().file("d/f", "x").hard("d", "d/f").end(), Error("replaces itself")),
        ("a hard link, its target replaced", tar().file("a", "old").hard("b", "a").file("a", "new").end(), Tree(&["a=new", "b=old"])),
        ("a hard link to what is gone", tar().file(".wh.a", "").hard("b", "a").end(), Error("takes away")),
        ("a hard link with a size", tar().file("a", "x").raw(&mut { let mut it = header(b'1', b"b", b"a", 7); it.set_size(7); it }, b"").file("c", "y").end(), Tree(&["a=x", "b==a", "c=y"])),
        ("a hard link through a file", tar().file("a", "x").hard("b", "a/c").end(), Error("is no directory")),
        // Things that take the place of others.
        ("a file in a file", tar().file("a", "x").file("a/b", "y").end(), Error("is no directory")),
        ("a file, a directory, a file", tar().file("a", "1").dir("a").file("a/b", "2").file("a", "3").end(), Tree(&["a=3"])),
        ("a directory, a file, a directory", tar().dir("a").file("a/b", "1").file("a", "2").dir("a").end(), Tree(&["a/ opaque"])),
        ("twice the same", tar().file("a", "long text").file("a", "x").end(), Tree(&["a=x"])),
        ("a root that is a file", file("./").end(), Error("only be a directory")),
        ("a root that is a link", tar().link("/", "/etc").end(), Error("only be a directory")),
        ("a whiteout behind its file", tar().file("a", "x").file(".wh.a", "").end(), Tree(&["a=x"])),
        ("a whiteout before its file", tar().file(".wh.a", "").file("a", "x").end(), Tree(&["a=x"])),
        ("a whiteout behind its directory", tar().file("d/a", "x").file(".wh.d", "").end(), Tree(&["d/ opaque", "d/a=x"])),
        ("a whiteout before its directory", tar().file(".wh.d", "").file("d/a", "x").end(), Tree(&["d/ opaque", "d/a=x"])),
        ("names of AUFS", tar().dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "x").file(".wh..wh.aufs", "").end(), Tree(&[])),
        // Overlayfs.
        ("a character device 0:0", tar().device(b'3', "a", 0, 0).end(), Tree(&["a gone"])),
        ("attributes of overlayfs", tar()
            .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.overlay.redirect", b"/etc"), ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"), ("SCHILY.xattr.trusted.overlay.overlay.opaque", b"y")])
            .dir("d").end(), Tree(&["d/"])),
        // Devices and other types.
        ("a disk", tar().device(b'4', "sda", 8, 0).end(), Tree(&["sda block 8:0"])),
        ("memory", tar().device(b'3', "mem", 1, 1).end(), Tree(&["mem character 1:1"])),
        ("a device with a size", tar().raw(&mut changed(b'3', "a", |it| { it.set_size(1 << 30); it.set_device_major(1).unwrap(); it.set_device_minor(3).unwrap(); }), b"").file("b", "x").end(), Tree(&["a character 1:3", "b=x"])),
        ("a pipe", tar().entry(b'6', "p", "", b"").file("p", "x").end(), Tree(&["p=x"])),
        ("another volume", tar().entry(b'M', "a", "", b"x").end(), Error("volumes")),
        ("a volume's label", tar().entry(b'V', "a", "", b"").end(), Error("label")),
        ("an incremental backup", tar().entry(b'D', "a", "", b"").end(), Error("incremental")),
        ("an unknown type", tar().entry(b'Z', "a", "", b"").end(), Error("unknown type 'Z'")),
        // Numbers.
        ("a negative size", tar().raw(&mut changed(b'0', "a", |it| it.as_old_mut().size = [0xff; 12]), b"").end(), Error("size of -1")),
        ("a size of nearly all", tar().raw(&mut changed(b'0', "a", |it| it.set_size(u64::MAX - 511)), b"").end(), Error("no file has a size")),
        ("a size that is no number", tar().raw(&mut changed(b'0', "a", |it| it.as_old_mut().size = *b"12x456789012"), b"").end(), Error("size is no number")),
        ("a size larger than the archive", tar().raw(&mut changed(b'0', "a", |it| it.set_size(1 << 20)), b"x").end(), Error("ends in the middle")),
        ("a size smaller than the data", tar().raw(&mut changed(b'0', "a", |it| it.set_size(1)), &[b'x'; 600]).end(), Error("checksum")),
        ("an owner out of range", tar().raw(&mut changed(b'0', "a", |it| it.set_uid(1 << 32)), b"").end(), Error("uid 4294967296 is out of range")),
        ("the owner that means no change", tar().pax(&[("gid", b"4294967295")]).file("a", "").end(), Error("gid 4294967295 is out of range")),
        ("a negative owner", tar().raw(&mut changed(b'0', "a", |it| it.as_old_mut().uid = [0xff; 8]), b"").end(), Error("uid -1 is out of range")),
        ("a mode of all bits", tar().raw(&mut changed(b'0', "a", |it| it.set_mode(0o7_777_777)), b"").end(), Tree(&["a= 7777"])),
        ("a time before all times", tar().pax(&[("mtime", b"-9223372036854775807")]).file("a", "").end(), Tree(&["a="])),
        ("a time that is none", tar().pax(&[("mtime", b"soon")]).file("a", "").end(), Error("is no time")),
        // Names.
        ("a NUL in a name", tar().pax(&[("path", b"a\0b")]).file("x", "").end(), Error("NUL")),
        ("a NUL in a target", tar().pax(&[("linkpath", b"a\0b")]).link("x", "y").end(), Error("NUL")),
        ("a name that is too long", long(b'L', &[b'x'; 5000]).file("x", "").end(), Error("longer than 4096")),
        ("a part that is too long", long(b'L', &[b'x'; 300]).file("x", "").end(), Error("too long")),
        ("a target that is too long", long(b'K', &[b'x'; 5000]).link("x", "y").end(), Error("target has 5000 bytes")),
        ("a name that is not UTF-8", tar().file(b"\xff\xfe\n", "x").end(), Tree(&["\\xff\\xfe\\n=x"])),
        ("an empty name", tar().file("", "x").end(), Error("only be a directory")),
        ("a name with GNU tar's header and pax's", Tar([long(b'L', b"gnu").0, tar().pax(&[("path", b"pax")]).0].concat()).file("x", "").end(), Tree(&["pax="])),
        ("2000 directories deep", long(b'L', deep.as_bytes()).dir("x").end(), Error("\u{0}deep")),
        // Extended headers.
        ("an extended header of a gigabyte", tar().raw(&mut changed(b'x', "x", |it| it.set_size(1 << 30)), b"").end(), Error("larger than 1 MiB")),
        ("a long name of a gigabyte", tar().raw(&mut changed(b'L', "x", |it| it.set_size(1 << 30)), b"").end(), Error("larger than 1 MiB")),
        ("a record longer than its header", tar().entry(b'x', "x", "", b"99 path=a\n").file("a", "").end(), Error("malformed")),
        ("a record of no length", tar().entry(b'x', "x", "", b"0 path=a\n").file("a", "").end(), Error("malformed")),
        ("a record without a value", tar().entry(b'x', "x", "", b"7 path\n").file("a", "").end(), Error("no =")),
        ("an extended header without its entry", tar().pax(&[("path", b"a")]).end(), Error("where its entry should be")),
        ("a path upwards in an extended header", tar().pax(&[("path", b"../canary/secret")]).file("a", "").end(), Error("leads upwards")),
        ("a global path upwards", tar().entry(b'g', "x", "", b"25 path=../canary/secret\n").file("a", "").end(), Error("leads upwards")),
        ("an attribute without a name", tar().pax(&[("SCHILY.xattr.", b"x")]).file("a", "").end(), Error("no name of an extended attribute")),
        ("an attribute of the labels of this machine", tar().pax(&[("SCHILY.xattr.security.selinux", b"x"), ("SCHILY.xattr.security.evm", b"x")]).file("a", "").end(), Tree(&["a="])),
        ("an attribute that is too large", tar().pax(&[("SCHILY.xattr.user.a", &[b'x'; 70_000])]).file("a", "").end(), Error("user.a")),
        // Sparse files.
        ("sparse, past its end", tar().raw(&mut gnu_sparse(&[(0, 512), (1 << 20, 512)], 1024, 1024), &[b'x'; 1024]).end(), Error("overlaps")),
        ("sparse, overlapping", tar().raw(&mut gnu_sparse(&[(0, 512), (256, 512)], 4096, 1024), &[b'x'; 1024]).end(), Error("overlaps")),
        ("sparse, with less data than it says", tar().raw(&mut gnu_sparse(&[(0, 4096)], 4096, 512), &[b'x'; 512]).end(), Error("counts 4096 bytes")),
        ("sparse, of more bytes than there are numbers", tar().pax(&[("GNU.sparse.size", b"9223372036854775808"), ("GNU.sparse.map", b"0,1")]).file("a", "x").end(), Error("counts 1 bytes")),
        ("sparse, with an odd map", tar().pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,1,2")]).file("a", "x").end(), Error("odd end")),
        ("sparse 1.0, a map that is none", tar().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")]).file("a", &format!("x\n{:600}", "")).end(), Error("no number")),
        ("sparse 1.0, a map without end", tar().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")]).file("a", "9\n").end(), Error("cut off")),
        ("sparse 1.0, a map of everything", tar().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"10")]).file("a", &format!("999999999999\n{:600}", "")).end(), Error("too large")),
        ("sparse, a map that goes on for ever", { let mut it = gnu_sparse(&[(0, 1)], 1, 1); it.as_gnu_mut().unwrap().isextended[0] = 1; let mut more = [0; 512]; more[504] = 1; (0..3000).fold(tar().raw(&mut it, b""), |tar, _| tar.data(&more)).end() }, Error("larger than 1 MiB")),
        // The end.
        ("nothing", Vec::new(), Tree(&[])),
        ("no end", file("a").0, Tree(&["a=bad"])),
        ("half an end", [file("a").0, vec![0; 512]].concat(), Tree(&["a=bad"])),
        ("a hidden entry behind one block of zeros", [file("a").0, vec![0; 512], file("b").end()].concat(), Error("goes on behind")),
        ("a hidden entry behind the end", [file("a").end(), file("b").end()].concat(), Tree(&["a=bad"])),
        ("cut in a header", file("a").0[..300].to_vec(), Error("middle of a header")),
        ("cut in a file", file("a").0[..514].to_vec(), Error("middle of a file")),
        ("no archive", b"<html>not found</html>".repeat(100), Error("no tar archive")),
        ("a checksum that does not fit", { let mut it = file("a").end(); it[0] = b'b'; it }, Error("checksum")),
    ]
}

#[test]
fn harm_is_not_done() {
    let scratch = Scratch::new();
    let canary = scratch.0.join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("secret"), "secret").unwrap();
    let before = tree::manifest(&scratch.0, &[]);
    let cases = cases(&canary);
    assert!(cases.len() >= 60, "{}", cases.len());
    let above = open(&scratch.0);
    for (name, archive, expect) in cases {
        let root = scratch.directory("root");
        let result = unpack(&mut &archive[..], root.as_fd(), &OPTIONS);
        match (&result, &expect) {
            (Ok(_), Error("canary")) => {
                // Below the root stands the whole way that the link names.
                let all = listing(&scratch.0.join("root"));
                assert_eq!(all.last().unwrap(), &format!("{}/new=bad", &canary.to_str().unwrap()[1..]), "{name}");
            }
            (Ok(_), Error("\u{0}deep")) => assert_eq!(listing(&scratch.0.join("root")).len(), 2000, "{name}"),
            (Ok(done), Tree(tree)) => {
                let mut all = listing(&scratch.0.join("root"));
                all.extend(done.links.iter().map(|link| format!("{} later", link.path.escape_ascii())));
                all.sort();
                assert_eq!(&all, tree, "{name}");
            }
            (Err(error), Error(words)) => {
                let text = format!("{error:#}");
                assert!(text.contains(words), "{name}: {text}");
                assert!(!text.contains('\n') && text.len() < 1000, "{name}: {text}");
            }
            (Ok(_), Error(words)) => {
                panic!("{name}: no error, expected {words}: {:?}", listing(&scratch.0.join("root")))
            }
            (Err(error), Tree(_)) => panic!("{name}: {error:#}"),
        }
        remove(above.as_fd(), b"root").unwrap();
        let mut after = tree::manifest(&scratch.0, &[]);
        after.get_mut("").unwrap().mtime = before[""].mtime;
        assert_eq!(tree::differences(&before, &after), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let scratch = Scratch::new();
    let limits = |bytes, entries| Options { limits: Limits { bytes, entries, remedy: "raise it" }, ..OPTIONS };
    let start = std::time::Instant::now();
    // Ten gigabytes of zeros that take no memory and no time to make.
    let header = Tar::default().raw(header(b'0', b"bomb", b"", 0).of_size(10 << 30), b"").0;
    let mut bomb = (&header[..]).chain(std::io::repeat(0));
    let root = scratch.directory("a");
    let error = unpack(&mut bomb, root.as_fd(), &limits(1 << 20, 10)).unwrap_err();
    assert!(format!("{error:#}").contains("1048576 bytes unpacked, which is the limit; raise it"), "{error:#}");
    let written = std::fs::metadata(scratch.0.join("a/bomb")).unwrap();
    assert!(written.blocks() * 512 <= 2 << 20, "{}", written.blocks());
    // The same, told to be small by compression.
    let packed = {
        use std::io::Write;
        let mut encoder =
            super::super::compress::encoder(super::super::compress::Compression::Gzip, None, Vec::new()).unwrap();
        encoder.write_all(&header).unwrap();
        (0..12).for_each(|_| encoder.write_all(&vec![0; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    assert!(packed.len() < 1 << 18);
    let root = scratch.directory("b");
    let (_, mut stream) = super::super::compress::decoder(&packed[..]).unwrap();
    let error = unpack(&mut stream, root.as_fd(), &limits(4 << 20, 10)).unwrap_err();
    assert!(format!("{error:#}").contains("which is the limit"), "{error:#}");
    // A sparse file is as large as what it holds.
    let sparse = Tar::default().raw(&mut gnu_sparse(&[(0, 1), (1 << 32, 0)], 1 << 32, 1), b"x").end();
    let root = scratch.directory("c");
    unpack(&mut &sparse[..], root.as_fd(), &limits(1, 10)).unwrap();
    assert_eq!(std::fs::metadata(scratch.0.join("c/sparse")).unwrap().len(), 1 << 32);
    // Too many entries.
    let many = (0..11).fold(Tar::default(), |tar, _| tar.file("a", "")).end();
    let root = scratch.directory("d");
    let error = unpack(&mut &many[..], root.as_fd(), &limits(1, 10)).unwrap_err();
    assert!(format!("{error:#}").contains("more than 10 entries"), "{error:#}");
    assert!(start.elapsed().as_secs() < 60);
}

/// Deeper than names are long, by way of links: taken, and removable.
#[test]
fn depth_is_no_danger() {
    let scratch = Scratch::new();
    let root = scratch.directory("deep");
    let step = "d/".repeat(1000);
    let mut archive = Tar(long(b'L', step.as_bytes()).0).dir("x").0;
    // Each link leads 1000 directories further down than the one before.
    for link in 0..20 {
        let from = if link == 0 { String::new() } else { format!("l{}/", link - 1) };
        archive.extend(Tar(long(b'K', format!("{from}{step}").as_bytes()).0).link(format!("l{link}"), "x").0);
        archive.extend(Tar(long(b'L', format!("l{link}/{step}").as_bytes()).0).dir("x").0);
    }
    archive.extend([0; 1024]);
    let result = unpack(&mut &archive[..], root.as_fd(), &OPTIONS);
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("too long"), "{error}");
    remove(open(&scratch.0).as_fd(), b"deep").unwrap();
    assert!(!scratch.0.join("deep").exists());
    // A tree deeper than stacks and open files go can be removed.
    let mut at = scratch.directory("deeper");
    for _ in 0..10_000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    drop(at);
    remove(open(&scratch.0).as_fd(), b"deeper").unwrap();
    assert!(!scratch.0.join("deeper").exists());
}

trait WithSize {
    fn of_size(&mut self, size: u64) -> &mut Self;
}

impl WithSize for Header {
    fn of_size(&mut self, size: u64) -> &mut Self {
        self.set_size(size);
        self
    }
}
