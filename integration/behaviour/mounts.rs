//! Mounts, the root file system, devices, masked and read-only paths: looked at from inside, mostly in
//! /proc/self/mountinfo (proc_pid_mountinfo(5)).

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use harness::{Bundle, Done, Place, RT, host};
use serde_json::{Value, json};

/// One line of mountinfo.
#[derive(Debug, Clone)]
struct Line {
    root: String,
    point: String,
    options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`.
    propagation: Vec<String>,
    fstype: String,
    superblock: Vec<String>,
}

impl Line {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|word| word == option)
    }

    fn superblock_has(&self, option: &str) -> bool {
        self.superblock.iter().any(|word| word == option)
    }

    fn is(&self, propagation: &str) -> bool {
        self.propagation.iter().any(|word| word.split(':').next() == Some(propagation))
    }
}

fn table(text: &str) -> Vec<Line> {
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    text.lines()
        .filter(|line| line.contains(" - "))
        .map(|line| {
            let (before, after) = line.split_once(" - ").unwrap();
            let before: Vec<&str> = before.split(' ').collect();
            let after: Vec<&str> = after.split(' ').collect();
            Line {
                root: before[3].into(),
                point: before[4].into(),
                options: words(before[5]),
                propagation: before[6..].iter().map(|word| (*word).to_owned()).collect(),
                fstype: after[0].into(),
                superblock: words(after[2]),
            }
        })
        .collect()
}

/// The mount at a path; the topmost where there are several.
#[track_caller]
fn at<'l>(lines: &'l [Line], point: &str) -> &'l Line {
    lines.iter().rfind(|line| line.point == point).unwrap_or_else(|| panic!("no mount at {point}: {lines:#?}"))
}

/// A bundle whose root can be written, so that mount points can be made.
fn writable<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    bundle.set("/root/readonly", json!(false));
    bundle
}

/// The mount table of a run.
fn mountinfo(bundle: &mut Bundle<'_>) -> Vec<Line> {
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
    table(&bundle.run("c").ok().stdout)
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn bind(destination: &str, source: &Path, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

/// `rt run` in a mount namespace of its own, where `prepare` may mount things. The bundle's
/// directory is $B, the state directory $R.
fn run_in_own_mounts(bundle: &Bundle<'_>, prepare: &str, after: &str) -> Done {
    bundle.write();
    let script = bundle.place.dir.join("own-mounts.sh");
    let text = format!(
        "set -e\nB={}\nR={}\nID={}\nrt() {{ {RT} --root $R \"$@\"; }}\n{prepare}\nrt run --bundle $B $ID\n{after}\n",
        bundle.path(),
        bundle.place.root.display(),
        bundle.place.id("c")
    );
    fs::write(&script, text).unwrap();
    host(&format!("unshare --mount --propagation private sh {}", script.display()))
}

#[test]
fn options_of_a_mount() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    let cases: [(&[&str], &[&str], &[&str]); 26] = [
        (&[], &["rw", "relatime"], &["nosuid", "nodev", "noexec", "ro"]),
        (&["defaults"], &["rw", "relatime"], &["ro"]),
        (&["ro"], &["ro"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["nosuid"], &["nosuid"], &["nodev"]),
        (&["nosuid", "suid"], &[], &["nosuid"]),
        (&["nodev"], &["nodev"], &["nosuid"]),
        (&["nodev", "dev"], &[], &["nodev"]),
        (&["noexec"], &["noexec"], &["nosuid"]),
        (&["noexec", "exec"], &[], &["noexec"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &["relatime"], &["noatime"]),
        (&["relatime"], &["relatime"], &["noatime"]),
        (&["strictatime"], &[], &["relatime", "noatime"]),
        (&["strictatime", "nostrictatime"], &["relatime"], &["noatime"]),
        (&["norelatime"], &["relatime"], &["noatime"]),
        (&["nodiratime"], &["nodiratime", "relatime"], &[]),
        (&["nodiratime", "diratime"], &[], &["nodiratime"]),
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
        (&["rro"], &["ro"], &["rw"]),
        (&["rnosuid", "rnodev", "rnoexec"], &["nosuid", "nodev", "noexec"], &[]),
        (&["rnoatime"], &["noatime"], &["relatime"]),
        (&["rstrictatime"], &[], &["relatime", "noatime"]),
        (&["rnosymfollow", "rnodiratime"], &["nosymfollow", "nodiratime"], &[]),
        (
            &["nosuid", "nodev", "noexec", "noatime", "ro", "nosymfollow"],
            &["nosuid", "nodev", "noexec", "noatime", "ro", "nosymfollow"],
            &[],
        ),
    ];
    for (index, (options, ..)) in cases.iter().enumerate() {
        bundle.push("/mounts", tmpfs(&format!("/m/{index}"), options));
    }
    let lines = mountinfo(&mut bundle);
    for (index, (options, with, without)) in cases.iter().enumerate() {
        let line = at(&lines, &format!("/m/{index}"));
        for word in *with {
            assert!(line.has(word), "{options:?}: no {word} in {line:?}");
        }
        for word in *without {
            assert!(!line.has(word), "{options:?}: {word} in {line:?}");
        }
    }
}

#[test]
fn options_of_the_superblock() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    let cases: [(&[&str], &[&str], &[&str]); 6] = [
        (&["sync"], &["sync"], &[]),
        (&["sync", "async"], &[], &["sync"]),
        (&["dirsync"], &["dirsync"], &[]),
        (&["lazytime"], &["lazytime"], &[]),
        (&["lazytime", "nolazytime"], &[], &["lazytime"]),
        (&["ro"], &["ro"], &["rw"]),
    ];
    for (index, (options, ..)) in cases.iter().enumerate() {
        bundle.push("/mounts", tmpfs(&format!("/m/{index}"), options));
    }
    // Words without an effect here are no error.
    bundle.push("/mounts", tmpfs("/m/none", &["silent", "loud", "nomand", "noiversion", "defaults"]));
    let lines = mountinfo(&mut bundle);
    for (index, (options, with, without)) in cases.iter().enumerate() {
        let line = at(&lines, &format!("/m/{index}"));
        assert!(with.iter().all(|word| line.superblock_has(word)), "{options:?}: {line:?}");
        assert!(!without.iter().any(|word| line.superblock_has(word)), "{options:?}: {line:?}");
    }
}

#[test]
fn options_of_a_file_system() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    bundle.push("/mounts", tmpfs("/m", &["size=64k", "mode=1757", "uid=5", "gid=6", "nr_inodes=33"]));
    bundle.push("/mounts", tmpfs("/plain", &[]));
    fs::create_dir(bundle.rootfs("/plain")).unwrap();
    fs::set_permissions(bundle.rootfs("/plain"), fs::Permissions::from_mode(0o731)).unwrap();
    bundle.script("stat -c '%a %u:%g' /m /plain; cat /proc/self/mountinfo; dd if=/dev/zero of=/m/x bs=1k count=100 2>/dev/null || wc -c </m/x");
    let text = bundle.run("c").ok().stdout;
    assert!(text.starts_with("1757 5:6\n731 0:0\n"), "a tmpfs without a mode has that of the directory: {text}");
    assert!(text.ends_with("\n65536\n"), "{text}");
    let lines = table(&text);
    for word in ["size=64k", "mode=1757", "uid=5", "gid=6", "nr_inodes=33"] {
        assert!(at(&lines, "/m").superblock_has(word), "{word}");
    }
}

#[test]
fn bind_mounts() {
    let place = Place::new();
    let mut bundle = writable(
        &place,
        "cat /vol/file; echo new >/vol/made; cat /over; cat /new/deep/file; echo x >/ro/y || echo refused",
    );
    let volume = place.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "content\n").unwrap();
    fs::write(bundle.rootfs("/over"), "hidden\n").unwrap();
    bundle.push("/mounts", bind("/vol", &volume, &["bind"]));
    // A file on a file, and on one that is made.
    bundle.push("/mounts", bind("/over", &volume.join("file"), &["bind", "ro"]));
    bundle.push("/mounts", bind("/new/deep/file", &volume.join("file"), &["rbind"]));
    bundle.push("/mounts", bind("/ro", &volume, &["bind", "ro"]));
    // The type alone makes it one, and so does the option alone.
    bundle.push("/mounts", json!({"destination": "/by-option", "source": volume, "options": ["bind"]}));
    bundle.push("/mounts", json!({"destination": "/by-type", "type": "bind", "source": volume}));
    // Relative to the bundle (config.md, "Mounts").
    fs::create_dir(bundle.dir.join("here")).unwrap();
    bundle.push("/mounts", json!({"destination": "/relative", "type": "none", "source": "here", "options": ["bind"]}));
    let done = bundle.run("c").ok();
    assert_eq!(done.stdout, "content\ncontent\ncontent\nrefused\n");
    assert_eq!(fs::read_to_string(volume.join("made")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(bundle.rootfs("/over")).unwrap(), "hidden\n", "the mount has not touched it");
    assert_eq!(fs::metadata(bundle.rootfs("/new/deep/file")).unwrap().len(), 0);
    let lines = mountinfo(&mut bundle);
    for point in ["/by-option", "/by-type"] {
        assert!(at(&lines, point).root.ends_with("/volume"), "{lines:?}");
    }
    assert!(at(&lines, "/relative").root.ends_with("/here"));
}

#[test]
fn what_is_below_a_bind_mount() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    for (name, options) in [
        ("bind", vec!["bind"]),
        ("rbind", vec!["rbind"]),
        ("ro", vec!["rbind", "ro"]),
        ("rro", vec!["rbind", "rro"]),
        ("both", vec!["rbind", "rnosuid", "rnoatime", "nodev"]),
        ("back", vec!["rbind", "rrw"]),
    ] {
        bundle.push("/mounts", bind(&format!("/{name}"), &volume, &options));
    }
    let done = run_in_own_mounts(
        &bundle,
        "mount -t tmpfs -o rw x $B/volume; mkdir $B/volume/sub; mount -t tmpfs -o noexec y $B/volume/sub",
        "",
    );
    let lines = table(&done.ok().stdout);
    assert!(!lines.iter().any(|line| line.point == "/bind/sub"), "bind takes one mount alone");
    assert!(at(&lines, "/rbind/sub").has("noexec"), "a mount keeps its own options");
    assert!(at(&lines, "/ro").has("ro") && at(&lines, "/ro/sub").has("rw"), "ro is for the upper one");
    assert!(at(&lines, "/rro").has("ro") && at(&lines, "/rro/sub").has("ro"), "rro is for all");
    let (upper, sub) = (at(&lines, "/both"), at(&lines, "/both/sub"));
    assert!(upper.has("nosuid") && upper.has("noatime") && upper.has("nodev"), "{upper:?}");
    assert!(sub.has("nosuid") && sub.has("noatime") && !sub.has("nodev") && sub.has("noexec"), "{sub:?}");
    assert!(at(&lines, "/back/sub").has("rw"));
}

#[test]
fn a_bind_mount_keeps_what_its_source_is_mounted_with() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
    fs::create_dir(bundle.dir.join("volume")).unwrap();
    let volume = bundle.dir.join("volume");
    bundle.push("/mounts", bind("/same", &volume, &["bind"]));
    bundle.push("/mounts", bind("/more", &volume, &["bind", "ro"]));
    let done = run_in_own_mounts(&bundle, "mount -t tmpfs -o nosuid,noexec,noatime x $B/volume", "");
    let lines = table(&done.ok().stdout);
    for (point, words) in
        [("/same", ["nosuid", "noexec", "noatime", "rw"]), ("/more", ["nosuid", "noexec", "noatime", "ro"])]
    {
        assert!(words.iter().all(|word| at(&lines, point).has(word)), "{:?}", at(&lines, point));
    }
}

#[test]
fn propagation_of_mounts() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    bundle.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
    let volume = bundle.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let words = ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];
    for word in words {
        bundle.push("/mounts", bind(&format!("/{word}"), &volume, &["rbind", word]));
    }
    bundle.push("/mounts", tmpfs("/own", &["shared"]));
    let prepare = "mount -t tmpfs x $B/volume; mkdir $B/volume/sub; mount -t tmpfs y $B/volume/sub; mount --make-rshared $B/volume";
    let lines = table(&run_in_own_mounts(&bundle, prepare, "").ok().stdout);
    let kind = |point: &str| {
        at(&lines, point).propagation.iter().map(|word| word.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kind("/shared"), ["shared"]);
    assert_eq!(kind("/slave"), ["master"]);
    assert_eq!(kind("/private"), [""; 0]);
    assert_eq!(kind("/unbindable"), ["unbindable"]);
    assert_eq!((kind("/rshared"), kind("/rshared/sub")), (vec!["shared".into()], vec!["shared".into()]));
    assert_eq!((kind("/rslave"), kind("/rslave/sub")), (vec!["master".into()], vec!["master".into()]));
    assert_eq!((kind("/rprivate"), kind("/rprivate/sub")), (vec![], vec![]));
    assert_eq!(
        (kind("/runbindable"), kind("/runbindable/sub")),
        (vec!["unbindable".into()], vec!["unbindable".into()])
    );
    assert!(at(&lines, "/own").is("shared"));
}

/// `rshared` means that what the container mounts below shows on the host, and `rslave` the other way.
#[test]
fn mounts_travel_where_the_document_wants_it() {
    let place = Place::new();
    let mut bundle = writable(
        &place,
        "mkdir /out/by-container; mount -t tmpfs x /out/by-container; touch /out/mounted; while :; do test -e /in/sub/file && cat /in/sub/file && exit; sleep 0.02; done",
    );
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}),
    );
    for name in ["out", "in"] {
        fs::create_dir(bundle.dir.join(name)).unwrap();
    }
    bundle.push("/mounts", bind("/out", &bundle.dir.join("out"), &["rbind", "rshared"]));
    bundle.push("/mounts", bind("/in", &bundle.dir.join("in"), &["rbind", "rslave"]));
    let prepare = "for d in out in; do mount -t tmpfs x $B/$d; mount --make-shared $B/$d; done; mkdir $B/in/sub\n\
        (i=0; while [ $i -lt 500 ]; do [ -e $B/out/mounted ] && break; i=$((i+1)); sleep 0.02; done; \
         mount -t tmpfs y $B/in/sub; echo from-host >$B/in/sub/file) &";
    let done = run_in_own_mounts(&bundle, prepare, "wait; grep -c by-container /proc/self/mountinfo");
    assert_eq!(done.ok().stdout, "from-host\n1\n");
}

#[test]
fn tmpcopyup() {
    let place = Place::new();
    let mut bundle = writable(
        &place,
        "cd /data; stat -c '%n %a' .; for f in dir dir/file set-id link; do stat -c '%n %a %u:%g %F' $f; done; readlink link; cat dir/file; echo changed >dir/file; cat /proc/self/mountinfo",
    );
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"]}),
    );
    let data = bundle.rootfs("/data");
    fs::create_dir_all(data.join("dir")).unwrap();
    fs::write(data.join("dir/file"), "content\n").unwrap();
    fs::write(data.join("set-id"), "x").unwrap();
    symlink("/nowhere/../else", data.join("link")).unwrap();
    for (path, mode, owner) in [("", 0o1751, 7), ("dir", 0o2710, 8), ("dir/file", 0o640, 9), ("set-id", 0o4755, 10)] {
        std::os::unix::fs::chown(data.join(path), Some(owner), Some(owner + 100)).unwrap();
        fs::set_permissions(data.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::lchown(data.join("link"), Some(11), Some(111)).unwrap();
    bundle.push("/mounts", tmpfs("/data", &["tmpcopyup", "nodev"]));
    let text = bundle.run("c").ok().stdout;
    let wanted = ". 1751\ndir 2710 8:108 directory\ndir/file 640 9:109 regular file\n\
        set-id 4755 10:110 regular file\nlink 777 11:111 symbolic link\n/nowhere/../else\ncontent\n";
    assert!(text.starts_with(wanted), "{text}");
    assert_eq!(at(&table(&text), "/data").fstype, "tmpfs");
    assert_eq!(fs::read_to_string(data.join("dir/file")).unwrap(), "content\n", "the image stays as it was");
}

#[test]
fn ids_of_an_idmapped_mount() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    let volume = place.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "").unwrap();
    std::os::unix::fs::chown(volume.join("file"), Some(1000), Some(2000)).unwrap();
    let mut mount = bind("/vol", &volume, &["bind", "idmap"]);
    // Who owns it on disk becomes who is named as host id.
    mount["uidMappings"] = json!([{"containerID": 1000, "hostID": 5000, "size": 1}]);
    mount["gidMappings"] = json!([{"containerID": 2000, "hostID": 6000, "size": 1}]);
    bundle.push("/mounts", mount);
    bundle.script("stat -c %u:%g /vol/file; cat /proc/self/mountinfo");
    let text = bundle.run("c").ok().stdout;
    assert!(text.starts_with("5000:6000\n"), "{text}");
    assert!(at(&table(&text), "/vol").has("idmapped"));
    // With the maps alone, and in a user namespace.
    let index = bundle.config["mounts"].as_array().unwrap().len() - 1;
    bundle.with_user_namespace();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    for options in [json!(["bind"]), json!(["rbind", "ridmap"])] {
        let mount = json!({"destination": "/vol", "type": "bind", "source": volume, "options": options, "uidMappings": map, "gidMappings": map});
        bundle.set(&format!("/mounts/{index}"), mount);
        assert!(bundle.run("c").ok().stdout.starts_with("1000:2000\n"));
    }
    // The container's own maps, where the mount names none.
    bundle.set(&format!("/mounts/{index}"), bind("/vol", &volume, &["bind", "idmap"]));
    assert!(bundle.run("c").ok().stdout.starts_with("1000:2000\n"));
    // Without any, it is nobody's.
    bundle.set(&format!("/mounts/{index}"), bind("/vol", &volume, &["bind"]));
    assert!(bundle.run("c").ok().stdout.starts_with("65534:65534\n"));
}

#[test]
fn ridmap_goes_for_the_mounts_below() {
    let place = Place::new();
    let mut bundle = writable(&place, "stat -c %u /one/f /all/f; stat -c %u /one/sub/f /all/sub/f");
    fs::create_dir(bundle.dir.join("volume")).unwrap();
    let volume = bundle.dir.join("volume");
    let maps = json!([{"containerID": 0, "hostID": 5000, "size": 10}]);
    for (name, word) in [("/one", "idmap"), ("/all", "ridmap")] {
        let mut mount = bind(name, &volume, &["rbind", word]);
        (mount["uidMappings"], mount["gidMappings"]) = (maps.clone(), maps.clone());
        bundle.push("/mounts", mount);
    }
    let prepare = "mount -t tmpfs x $B/volume; mkdir $B/volume/sub; mount -t tmpfs y $B/volume/sub; touch $B/volume/f $B/volume/sub/f; chown 3 $B/volume/f $B/volume/sub/f";
    assert_eq!(run_in_own_mounts(&bundle, prepare, "").ok().stdout, "5003\n5003\n3\n5003\n");
}

#[test]
fn links_in_destinations_stay_inside() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    let outside = place.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let outside_name = outside.to_str().unwrap();
    symlink("/etc", bundle.rootfs("/absolute")).unwrap();
    symlink("../../../../../../etc", bundle.rootfs("/up")).unwrap();
    symlink(outside_name, bundle.rootfs("/host")).unwrap();
    bundle.push("/mounts", tmpfs("/absolute/a", &[]));
    bundle.push("/mounts", tmpfs("/up/b", &[]));
    bundle.push("/mounts", tmpfs("/host/c", &[]));
    bundle.push("/mounts", tmpfs("/../../etc/d", &[]));
    let lines = mountinfo(&mut bundle);
    for point in ["/etc/a", "/etc/b", "/etc/d", &*format!("{outside_name}/c")] {
        assert_eq!(at(&lines, point).fstype, "tmpfs");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing is made outside");
    assert!(!Path::new("/etc/a").exists() && !Path::new("/etc/b").exists() && !Path::new("/etc/d").exists());
    // A loop is an error and no hang.
    symlink("loop", bundle.rootfs("/loop")).unwrap();
    bundle.push("/mounts", tmpfs("/loop/x", &[]));
    bundle.run("c").fails_with("/mounts/11");
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn proc_and_sysfs_need_a_real_directory() {
    let place = Place::new();
    for (name, index) in [("proc", 0), ("sys", 5)] {
        let mut bundle = writable(&place, "true");
        fs::remove_dir(bundle.rootfs(name)).unwrap();
        symlink("tmp", bundle.rootfs(name)).unwrap();
        bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        bundle.run("c").fails_with(&format!("/mounts/{index}"));
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    }
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let place = Place::new();
    for destination in ["/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/sys/net", "/link/sys"] {
        let mut bundle = writable(&place, "true");
        symlink("proc", bundle.rootfs("/link")).unwrap();
        bundle.push("/mounts", tmpfs(destination, &[]));
        bundle.run("c").fails_with("/mounts/7");
    }
    // What engines put there is harmless.
    let mut bundle = writable(&place, "cat /proc/uptime");
    fs::write(place.dir.join("uptime"), "1.00 2.00\n").unwrap();
    bundle.push("/mounts", bind("/proc/uptime", &place.dir.join("uptime"), &["bind", "ro"]));
    assert_eq!(bundle.run("c").ok().stdout, "1.00 2.00\n");
}

#[test]
fn overlays() {
    let place = Place::new();
    let mut bundle = writable(&place, "cat /o/a /o/b; echo new >/o/made; rm /o/a; ls /o");
    let layers: Vec<_> =
        ["l".repeat(120), "m".repeat(120), "n".repeat(120)].iter().map(|name| place.dir.join(name)).collect();
    for (layer, file) in layers.iter().zip(["a", "b", "c"]) {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join(file), format!("{file}\n")).unwrap();
    }
    let (upper, work) = (place.dir.join("upper"), place.dir.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    let lower: Vec<&str> = layers.iter().map(|layer| layer.to_str().unwrap()).collect();
    // More than the 255 bytes that fsconfig(2) takes, and few enough for it.
    for lower in [lower.join(":"), format!("{}:{}", lower[0], lower[1])] {
        bundle.config["mounts"].as_array_mut().unwrap().truncate(7);
        bundle.push("/mounts", json!({"destination": "/o", "type": "overlay", "source": "overlay", "options": [
            format!("lowerdir={lower}"), format!("upperdir={}", upper.display()), format!("workdir={}", work.display()), "nodev"]}));
        let done = bundle.run("c").ok();
        assert!(done.stdout.starts_with("a\nb\nb\n"), "{done:?}");
        assert_eq!(fs::read_to_string(upper.join("made")).unwrap(), "new\n");
        assert!(
            fs::symlink_metadata(upper.join("a")).unwrap().file_type().is_char_device(),
            "removed in the upper layer"
        );
        assert!(layers[0].join("a").exists());
        for entry in ["a", "made"] {
            fs::remove_file(upper.join(entry)).unwrap();
        }
    }
}

#[test]
fn mqueue_and_devpts() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "touch /dev/mqueue/q && ls /dev/mqueue; readlink /dev/ptmx; stat -c %a /dev/pts/ptmx; cat /proc/self/mountinfo",
    );
    let text = bundle.run("c").ok().stdout;
    assert!(text.starts_with("q\npts/ptmx\n666\n"), "{text}");
    let lines = table(&text);
    let pts = at(&lines, "/dev/pts");
    assert_eq!(pts.fstype, "devpts");
    assert!(["gid=5", "mode=620", "ptmxmode=666"].iter().all(|word| pts.superblock_has(word)), "{pts:?}");
    assert_eq!(at(&lines, "/dev/mqueue").fstype, "mqueue");
    // Its own instance: none of the host's terminals is there.
    bundle.script("ls /dev/pts");
    assert_eq!(bundle.run("c").ok().stdout, "ptmx\n");
}

/// The names under which a v1 host's hierarchies are mounted.
fn v1_hierarchies() -> Vec<(String, String)> {
    let lines = table(&fs::read_to_string("/proc/self/mountinfo").unwrap());
    let v1 = lines.iter().filter(|line| line.fstype == "cgroup");
    v1.map(|line| (Path::new(&line.point).file_name().unwrap().to_str().unwrap().to_owned(), line.point.clone()))
        .collect()
}

#[test]
fn the_cgroup_mount_shows_every_hierarchy_from_the_container_on() {
    let hierarchies = v1_hierarchies();
    if hierarchies.is_empty() {
        eprintln!("skipped: this host has no cgroup v1");
        return;
    }
    let place = Place::new();
    for own_namespace in [true, false] {
        let mut bundle = place.bundle("");
        bundle.set("/linux/resources/pids", json!({"limit": 77}));
        if !own_namespace {
            bundle.namespace("cgroup", None);
        }
        bundle.script(
            "for h in /sys/fs/cgroup/*; do test -L $h || echo $(basename $h) $(grep -cx 1 $h/cgroup.procs); done; cat /sys/fs/cgroup/pids/pids.max; \
             mkdir /sys/fs/cgroup/pids/x || echo refused; touch /sys/fs/cgroup/x || echo refused; cat /proc/self/mountinfo",
        );
        let done = bundle.run("c").ok();
        for (name, _) in &hierarchies {
            assert!(
                done.stdout.contains(&format!("{name} 1\n")),
                "{name}, own namespace {own_namespace}: {}",
                done.stdout
            );
        }
        assert!(done.stdout.contains("\n77\nrefused\nrefused\n"), "{}", done.stdout);
        let lines = table(&done.stdout);
        for (name, _) in &hierarchies {
            let line = at(&lines, &format!("/sys/fs/cgroup/{name}"));
            assert_eq!(line.fstype, "cgroup");
            for word in ["ro", "nosuid", "nodev", "noexec", "relatime"] {
                assert!(line.has(word), "{line:?}");
            }
            let root = if own_namespace { "/".to_owned() } else { format!("/{}", place.id("c")) };
            assert_eq!(line.root, root, "only the container's own part is seen");
        }
        assert!(at(&lines, "/sys/fs/cgroup").has("ro"));
    }
}

#[test]
fn a_writable_cgroup_mount() {
    if v1_hierarchies().is_empty() {
        eprintln!("skipped: this host has no cgroup v1");
        return;
    }
    let place = Place::new();
    let mut bundle = place.bundle("mkdir /sys/fs/cgroup/pids/sub && echo $$ >/sys/fs/cgroup/pids/sub/cgroup.procs; cat /proc/self/cgroup | grep pids");
    bundle.set("/mounts/6/options", json!(["nosuid", "noexec", "nodev", "relatime"]));
    let text = bundle.run("c").ok().stdout;
    assert!(text.ends_with(":pids:/sub\n"), "{text}");
    // The group that the container has made is removed with it.
    assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
}

#[test]
fn root_propagation() {
    let place = Place::new();
    for (word, wanted) in [
        ("shared", vec!["shared"]),
        ("rshared", vec!["shared"]),
        ("slave", vec!["master"]),
        ("rslave", vec!["master"]),
        ("private", vec![]),
        ("rprivate", vec![]),
        ("unbindable", vec!["unbindable"]),
        ("runbindable", vec!["unbindable"]),
        ("", vec!["master"]),
    ] {
        let mut bundle = place.bundle("");
        bundle.set("/process/args", json!(["/bin/cat", "/proc/self/mountinfo"]));
        if !word.is_empty() {
            bundle.set("/linux/rootfsPropagation", json!(word));
        }
        let lines = table(&run_in_own_mounts(&bundle, "mount --bind $B $B; mount --make-shared $B", "").ok().stdout);
        let root = at(&lines, "/");
        let kinds: Vec<&str> = root.propagation.iter().map(|word| word.split(':').next().unwrap()).collect();
        if word == "shared" || word == "rshared" {
            assert!(kinds.contains(&"shared"), "{word}: {root:?}");
        } else {
            assert_eq!(kinds, wanted, "{word}: {root:?}");
        }
    }
}

/// Whatever the container does to its own mounts, and however its root propagates, the host keeps its
/// table: while it is made, while it runs, and afterwards.
#[test]
fn the_hosts_mounts_do_not_change() {
    let place = Place::new();
    for word in ["", "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable"] {
        let mut bundle = writable(&place, "mkdir /m; mount -t tmpfs x /m && echo mounted; umount /m");
        bundle.set(
            "/process/capabilities",
            json!({"bounding": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"]}),
        );
        if !word.is_empty() {
            bundle.set("/linux/rootfsPropagation", json!(word));
        }
        bundle.push("/mounts", tmpfs("/t", &[]));
        let compare = |when: &str| {
            format!(
                "cmp $B/before /proc/self/mountinfo || {{ diff $B/before /proc/self/mountinfo; echo CHANGED {when}; }}\n"
            )
        };
        let prepare = format!(
            "mount --bind $B $B; mount --make-rshared /; cat /proc/self/mountinfo >$B/before\n\
             rt create --bundle $B $ID >$B/out 2>&1 </dev/null; {}rt start $ID\n\
             i=0; while [ $i -lt 500 ]; do rt state $ID | grep -q stopped && break; i=$((i+1)); sleep 0.01; done\n{}rt delete $ID; cat $B/out; {}",
            compare("created"),
            compare("stopped"),
            compare("deleted")
        );
        let text = run_in_own_mounts(&bundle, &prepare, &compare("run")).ok().stdout;
        // The second one is of the foreground run; the first has left /m.
        assert_eq!(text, "mounted\nmounted\n", "{word}");
    }
}

#[test]
fn a_container_without_a_mount_namespace() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "ls /; cat /proc/1/comm; test -c /dev/null && echo dev; test -d /proc/1/ns && echo proc; pwd; sleep 0.2",
    );
    bundle.namespace("mount", None);
    // These need to be in a mount namespace of one's own, says the kernel or the spec.
    bundle.set("/root/readonly", json!(false));
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let done = bundle.run("c");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    assert!(done.code == 0 && done.stdout.contains("bin\n") && done.stdout.contains("\ndev\n"), "{done:?}");
}

#[test]
fn a_read_only_root() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "touch /x 2>/dev/null || echo refused; touch /dev/shm/x && echo fine; touch /tmp/x 2>/dev/null || echo refused",
    );
    assert_eq!(bundle.run("c").ok().stdout, "refused\nfine\nrefused\n");
    bundle.set("/root/readonly", json!(false));
    bundle.run("c").ok();
    assert!(bundle.rootfs("/x").exists());
    // Mount points are made also in a root that is read-only later.
    bundle.set("/root/readonly", json!(true));
    bundle.push("/mounts", tmpfs("/new/mount/point", &[]));
    let lines = mountinfo(&mut bundle);
    assert!(at(&lines, "/").has("ro") && at(&lines, "/new/mount/point").has("rw"));
}

#[test]
fn the_default_devices() {
    let place = Place::new();
    let mut bundle = place.bundle("cd /dev; for d in null zero full random urandom tty; do stat -c '%n %a %u:%g %t:%T' $d; done; for l in fd stdin stdout stderr ptmx; do readlink $l; done; ls");
    let text = bundle.run("c").ok().stdout;
    let wanted = "null 666 0:0 1:3\nzero 666 0:0 1:5\nfull 666 0:0 1:7\nrandom 666 0:0 1:8\nurandom 666 0:0 1:9\ntty 666 0:0 5:0\n\
        /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert!(text.starts_with(wanted), "{text}");
    // The same in a user namespace, where they cannot be made.
    bundle.with_user_namespace();
    bundle.script("echo x >/dev/null; head -c2 /dev/zero | wc -c; for d in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$d; done");
    let text = bundle.run("c").ok().stdout;
    assert!(text.starts_with("2\n/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n"), "{text}");
    let null = fs::metadata("/dev/null").unwrap();
    assert_eq!((null.uid(), null.gid(), null.mode() & 0o7777), (0, 0, 0o666));
}

#[test]
fn devices_of_the_document() {
    let place = Place::new();
    let mut bundle = writable(
        &place,
        "for d in /dev/char /dev/sub/block /dev/fifo /dev/unbuffered /dev/null; do stat -c '%n %a %u:%g %F %t:%T' $d; done",
    );
    bundle.set(
        "/linux/devices",
        json!([
        {"path": "/dev/char", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/sub/block", "type": "b", "major": 7, "minor": 300},
        {"path": "/dev/fifo", "type": "p", "fileMode": 0o622, "uid": 1000},
        {"path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5, "fileMode": 0o600},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o444, "gid": 9}]),
    );
    let wanted = "/dev/char 640 3:4 character special file a:e5\n/dev/sub/block 666 0:0 block special file 7:12c\n\
        /dev/fifo 622 1000:0 fifo 0:0\n/dev/unbuffered 600 0:0 character special file 1:5\n/dev/null 444 0:9 character special file 1:3\n";
    assert_eq!(bundle.run("c").ok().stdout, wanted);
}

#[test]
fn what_stands_at_a_devices_path() {
    let place = Place::new();
    let mut bundle = writable(&place, "stat -c '%t:%T' /node");
    bundle.set("/linux/devices", json!([{"path": "/node", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}]));
    let node = bundle.rootfs("/node");
    // The same device is there: fine (config-linux.md: "If a file already exists ... that does not
    // match the requested device, the runtime MUST generate an error").
    host(&format!("mknod {} c 1 5", node.display())).ok();
    assert_eq!(bundle.run("c").ok().stdout, "1:5\n");
    fs::remove_file(&node).unwrap();
    for make in [
        "mknod NODE c 1 3",
        "mknod NODE b 1 5",
        "mkfifo NODE",
        "echo precious >NODE",
        "mkdir NODE",
        "ln -s /dev/zero NODE",
    ] {
        host(&make.replace("NODE", node.to_str().unwrap())).ok();
        bundle.run("c").fails_with("/node");
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new(), "{make}");
        if make.starts_with("echo") {
            assert_eq!(fs::read_to_string(&node).unwrap(), "precious\n");
        }
        host(&format!("rm -r {}", node.display())).ok();
    }
}

#[test]
fn masked_paths() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    fs::create_dir_all(bundle.rootfs("/secret/dir")).unwrap();
    fs::write(bundle.rootfs("/secret/dir/file"), "secret").unwrap();
    fs::write(bundle.rootfs("/secret/file"), "secret").unwrap();
    symlink("secret/file", bundle.rootfs("/link")).unwrap();
    fs::write(bundle.rootfs("/linked"), "secret").unwrap();
    symlink("/linked", bundle.rootfs("/to-linked")).unwrap();
    bundle.set(
        "/linux/maskedPaths",
        json!([
            "/secret/dir",
            "/secret/file",
            "/to-linked",
            "/not/there",
            "/etc/passwd/x",
            "/proc/keys",
            "/sys/firmware"
        ]),
    );
    bundle.script(
        "ls -A /secret/dir; cat /secret/file /link /linked /proc/keys; touch /secret/dir/x 2>/dev/null || echo refused; \
         echo into >/secret/file; cat /secret/file; ls -A /sys/firmware; stat -c '%t:%T' /secret/file; mount -o remount,rw /secret/dir 2>/dev/null || echo stays",
    );
    let done = bundle.run("c").ok();
    assert_eq!((&*done.stdout, &*done.stderr), ("refused\n1:3\nstays\n", ""));
    assert_eq!(fs::read_to_string(bundle.rootfs("/secret/file")).unwrap(), "secret");
    assert!(!bundle.rootfs("/not").exists(), "nothing is made for a path that is not there");
}

#[test]
fn read_only_paths() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    fs::create_dir_all(bundle.rootfs("/keep/sub")).unwrap();
    fs::write(bundle.rootfs("/keep/file"), "kept\n").unwrap();
    fs::write(bundle.rootfs("/single"), "kept\n").unwrap();
    bundle.push("/mounts", tmpfs("/keep/sub", &["mode=1777", "nodev"]));
    bundle.set("/linux/readonlyPaths", json!(["/keep", "/single", "/proc/sys", "/not/there"]));
    bundle.script(
        "for f in /keep/new /keep/sub/new /keep/file /single /proc/sys/kernel/hostname; do (echo x >$f) 2>/dev/null && echo written $f; done; \
         cat /keep/file /single; touch /tmp/fine && echo fine; cat /proc/self/mountinfo",
    );
    let done = bundle.run("c").ok();
    assert!(done.stdout.starts_with("kept\nkept\nfine\n"), "{}", done.stdout);
    let lines = table(&done.stdout);
    for point in ["/keep", "/keep/sub", "/single", "/proc/sys"] {
        assert!(at(&lines, point).has("ro"), "{point}");
    }
    assert!(at(&lines, "/keep/sub").has("nodev"), "the rest of the options stays");
    assert!(!bundle.rootfs("/not").exists());
}

#[test]
fn remounts() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    bundle.push("/mounts", tmpfs("/m", &["nosuid", "size=1m"]));
    bundle.push("/mounts", tmpfs("/m", &["remount", "ro", "nosuid", "noexec"]));
    bundle.push("/mounts", tmpfs("/s", &["size=1m"]));
    bundle.push("/mounts", tmpfs("/s", &["remount", "size=2m"]));
    let lines = mountinfo(&mut bundle);
    let line = at(&lines, "/m");
    assert!(line.has("ro") && line.has("nosuid") && line.has("noexec"), "{line:?}");
    assert_eq!(lines.iter().filter(|line| line.point == "/m").count(), 1, "no second mount");
    assert!(at(&lines, "/s").superblock_has("size=2048k"), "{:?}", at(&lines, "/s"));
}

#[test]
fn mounts_are_in_the_documents_order() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    fs::create_dir(bundle.dir.join("volume")).unwrap();
    // The later one is on top.
    bundle.push("/mounts", tmpfs("/a/b", &["size=1m"]));
    bundle.push("/mounts", tmpfs("/a", &["size=2m"]));
    bundle.push("/mounts", bind("/a/c", &bundle.dir.join("volume"), &["bind"]));
    bundle.push("/mounts", tmpfs("/a", &["size=3m"]));
    let points: Vec<String> = mountinfo(&mut bundle).into_iter().map(|line| line.point).collect();
    let own: Vec<&str> = points.iter().map(|point| &**point).filter(|point| point.starts_with("/a")).collect();
    assert_eq!(own, ["/a/b", "/a", "/a/c", "/a"]);
    bundle.script("ls -A /a");
    assert_eq!(bundle.run("c").ok().stdout, "");
}

#[test]
fn three_hundred_mounts() {
    let place = Place::new();
    let mut bundle = writable(&place, "");
    for index in 0..300 {
        bundle.push("/mounts", tmpfs(&format!("/m/{index}"), &["size=4k"]));
    }
    let lines = mountinfo(&mut bundle);
    assert_eq!(lines.iter().filter(|line| line.point.starts_with("/m/")).count(), 300);
}

#[test]
fn no_pivot() {
    let place = Place::new();
    let bundle = place.bundle("ls -d /bin; ls /proc/1/root/ | grep -c '^rootfs$'; pwd");
    assert_eq!(bundle.run_with("c", &["--no-pivot"]).ok().stdout, "/bin\n0\n/\n");
}
