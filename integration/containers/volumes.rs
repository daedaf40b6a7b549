//! Volumes, binds and tmpfs: what is mounted, who owns it, what outlives what; hostile links; kills.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, names};
use crate::harness::{layout, sh};

#[track_caller]
fn says(bed: &Bed, flags: &[&str], script: &str) -> String {
    bed.run(&[&["run", "--rm"], flags, &["it", "sh", "-c", script]].concat()).ok().out.trim_end().to_owned()
}

fn volumes(bed: &Bed) -> Vec<String> {
    bed.run(&["volume", "ls", "-q"]).ok().out.lines().map(str::to_owned).collect()
}

fn data(bed: &Bed, name: &str) -> PathBuf {
    bed.0.path("store/volumes").join(name).join("_data")
}

/// An image `it` of a tree that a line of the shell makes in its working directory, with busybox beside it.
fn image_of(bed: &Bed, name: &str, line: &str) {
    let dir = bed.0.path(&format!("tree-{name}"));
    std::fs::create_dir(&dir).unwrap();
    sh(&format!(
        "cd {} && mkdir bin && cp $(command -v busybox) bin/ && for it in sh ls cat stat find wc; do ln -s busybox bin/$it; done; {line}",
        dir.display()
    ));
    let tar = std::process::Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-cf", "-", "-C", dir.to_str().unwrap(), "."])
        .output()
        .unwrap();
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    let place = bed.0.path(&format!("layout-{name}"));
    layout(&place, &format!("{name}:latest"), &[tar.stdout], json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}));
    bed.run(&["load", "-q", "-i", place.to_str().unwrap()]).ok();
}

/// An extended attribute of a file.
fn xattr(path: &Path, name: &str) -> String {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(path, name, &mut value).unwrap();
    String::from_utf8_lossy(&value[..length]).into_owned()
}

#[test]
fn a_new_volume_gets_the_images_files_with_their_owners() {
    let bed = Bed::new("fill");
    image_of(
        &bed,
        "full",
        "mkdir -p data/sub/deep && echo 1 >data/a && ln data/a data/hard && ln -s a data/soft && ln -s /etc/passwd data/abs \
         && mknod data/null c 1 3 && mkfifo data/fifo \
         && python3 -c 'import os; os.setxattr(\"data/sub\", \"user.colour\", b\"blue\")' && chown 33:34 data/a data/sub && chmod 4751 data/a && chmod 1733 data/sub \
         && touch -d @1600000000 data/a && chown 5:6 data && chmod 2750 data && chown -h 7:8 data/soft",
    );
    bed.run(&["run", "--rm", "-v", "vol:/data", "full", "ls", "/data"]).ok();
    let at = data(&bed, "vol");
    let about = |name: &str| std::fs::symlink_metadata(at.join(name)).unwrap();
    let facts = |name: &str| (about(name).uid(), about(name).gid(), about(name).mode() & 0o7777);
    assert_eq!(facts("."), (5, 6, 0o2750), "the directory's own");
    assert_eq!(facts("a"), (33, 34, 0o4751));
    assert_eq!((about("a").ino(), about("a").mtime()), (about("hard").ino(), 1_600_000_000));
    assert_eq!(facts("sub"), (33, 34, 0o1733));
    assert_eq!((about("soft").uid(), about("soft").gid()), (7, 8));
    assert_eq!(std::fs::read_link(at.join("abs")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(about("null").rdev(), rustix_makedev(1, 3));
    assert_eq!(xattr(&at.join("sub"), "user.colour"), "blue");
    assert!(at.join("sub/deep").is_dir());
    // Nothing else is in its directory any more.
    assert_eq!(names(at.parent().unwrap()), ["_data"]);

    // Only once, and only into what is new.
    sh(&format!("rm -rf {0}/a {0}/sub", at.display()));
    let seen = bed.run(&["run", "--rm", "-v", "vol:/data", "full", "ls", "/data"]).ok().out;
    assert!(!seen.contains("sub") && seen.contains("hard"), "{seen}");
    bed.run(&["volume", "create", "mine"]).ok();
    std::fs::write(data(&bed, "mine").join("own"), "x").unwrap();
    assert_eq!(bed.run(&["run", "--rm", "-v", "mine:/data", "full", "ls", "/data"]).ok().out, "own\n");
    bed.run(&["volume", "create", "made"]).ok();
    assert!(bed.run(&["run", "--rm", "-v", "made:/data", "full", "ls", "/data"]).ok().out.contains("hard"));
    for flags in [&["-v", "none:/data:nocopy"], &["--mount", "src=none2,dst=/data,volume-nocopy"]] {
        assert_eq!(bed.run(&[&["run", "--rm"], &flags[..], &["full", "ls", "/data"]].concat()).ok().out, "");
    }
    // Where the image has nothing, there is an empty directory.
    assert_eq!(bed.run(&["run", "--rm", "-v", "empty:/new/place", "full", "ls", "/new/place"]).ok().out, "");
    bed.run(&["run", "--rm", "-v", "file:/data/a", "full", "true"]).fails(125, "is a file");
    // With users of one's own the numbers are the same: on the disk, and in there.
    let seen = bed.run(&[
        "run",
        "--rm",
        "--userns",
        "auto",
        "-v",
        "users:/data",
        "full",
        "stat",
        "-c",
        "%u %g %a",
        "/data",
        "/data/a",
    ]);
    assert_eq!(seen.ok().out, "5 6 2750\n33 34 4751\n");
    let about = std::fs::metadata(data(&bed, "users").join("a")).unwrap();
    assert_eq!((about.uid(), about.gid()), (33, 34));
    let seen = bed.run(&["run", "--rm", "-v", "users:/data", "full", "stat", "-c", "%u", "/data/a"]);
    assert_eq!(seen.ok().out, "33\n");
    bed.is_clean();
}

fn rustix_makedev(major: u64, minor: u64) -> u64 {
    (major & 0xfff) << 8 | (minor & 0xff)
}

#[test]
fn links_of_an_image_lead_to_places_in_the_container() {
    let bed = Bed::new("hostile");
    let target = bed.0.path("host");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("secret"), "secret").unwrap();
    let host = target.display();
    image_of(
        &bed,
        "evil",
        &format!(
            "ln -s {host} abs && ln -s ../../../../../../../../..{host} rel && mkdir -p real && echo mine >real/file && ln -s /real inside \
             && ln -s loop loop && ln -s /proc/1/root/etc magic && mkdir nest && ln -s {host} nest/up"
        ),
    );
    for at in ["/abs", "/rel", "/nest/up", "/abs/deeper"] {
        let name = format!("v{}", at.replace('/', "-"));
        let script = format!("ls {at}; echo x >{at}/written");
        bed.run(&["run", "--rm", "-v", &format!("{name}:{at}"), "evil", "sh", "-c", &script]);
        assert_eq!(names(&target), ["secret"], "{at}");
        let bind = format!("{}:{at}/b", bed.0.text("tree-evil/real"));
        bed.run(&["run", "--rm", "-v", &bind, "evil", "sh", "-c", "true"]);
        assert_eq!(names(&target), ["secret"], "{at}");
        if data(&bed, &name).exists() {
            assert!(!names(&data(&bed, &name)).contains(&"secret".to_owned()), "{at}");
        }
    }
    // A link in the image that stays there is followed, as the runtime follows it.
    assert_eq!(bed.run(&["run", "--rm", "-v", "in:/inside", "evil", "cat", "/real/file"]).ok().out, "mine\n");
    assert_eq!(names(&data(&bed, "in")), ["file"]);
    let looped = bed.run(&["run", "--rm", "-v", "l:/loop", "evil", "true"]);
    assert_eq!(looped.status, 125, "{}", looped.err);
    let magic = bed.run(&["run", "--rm", "-v", "m:/magic", "evil", "ls", "/magic"]);
    assert!(!magic.out.contains("passwd"), "{}", magic.out);

    // A directory in a volume that is a link by now.
    says(
        &bed,
        &["-v", "sub:/s"],
        &format!("mkdir /s/good && echo g >/s/good/f && ln -s {host} /s/bad && ln -s /good /s/link"),
    );
    let sub = |path: &str| {
        bed.run(&["run", "--rm", "--mount", &format!("src=sub,dst=/x,volume-subpath={path}"), "it", "ls", "/x"])
    };
    assert_eq!(sub("good").ok().out, "f\n");
    assert_eq!(sub("link").ok().out, "f\n", "a link is in the volume, and stays there");
    sub("bad").fails(125, "volume-subpath");
    sub("gone").fails(125, "volume-subpath");
    bed.is_clean();
}

#[test]
fn a_kill_while_a_volume_is_filled_leaves_no_half_of_it() {
    let bed = Bed::new("torn");
    image_of(
        &bed,
        "many",
        "mkdir data && cd data && for d in $(seq 40); do mkdir $d; for f in $(seq 40); do echo $f >$d/$f; done; done",
    );
    let files = "find /data -type f | wc -l";
    for round in 0..25_u64 {
        let name = format!("v{round}");
        let volume = format!("{name}:/data");
        let words = ["run", "--rm", "-v", &volume, "many", "sh", "-c", "true"];
        let mut child =
            bed.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Spread over the time that it takes.
        std::thread::sleep(Duration::from_millis(5 + round * 9));
        let _ = child.kill();
        child.wait().unwrap();
        let there = names(&data(&bed, &name)).len();
        assert!(there == 0 || there == 40, "{there} of 40 directories after round {round}");
        let seen = bed.run(&["run", "--rm", "-v", &volume, "many", "sh", "-c", files]).ok();
        assert_eq!(seen.out, "1600\n", "round {round}");
        assert_eq!(names(data(&bed, &name).parent().unwrap()), ["_data"], "round {round}");
    }
    bed.is_clean();
}

#[test]
fn a_kill_while_a_volume_is_removed_leaves_all_of_it_or_nothing() {
    let bed = Bed::new("rmkill");
    for round in 0..20_u64 {
        bed.run(&["volume", "create", "vv"]).ok();
        let at = data(&bed, "vv");
        for number in 0..50 {
            std::fs::write(at.join(number.to_string()), "x").unwrap();
        }
        let mut child =
            bed.command(&["volume", "rm", "vv"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(300 * round));
        let _ = child.kill();
        child.wait().unwrap();
        // Whoever comes next puts it right.
        let there = volumes(&bed);
        if there == ["vv"] {
            assert_eq!(names(&at).len(), 50, "round {round}");
            bed.run(&["volume", "rm", "vv"]).ok();
        } else {
            assert_eq!((there.len(), at.exists()), (0, false), "round {round}");
        }
        assert_eq!(names(&bed.0.path("store/trash")), Vec::<String>::new());
    }
    // A directory whose row a loss of power has taken is somebody's.
    std::fs::create_dir_all(data(&bed, "lost")).unwrap();
    std::fs::write(data(&bed, "lost").join("work"), "of years").unwrap();
    std::fs::create_dir_all(data(&bed, "hollow")).unwrap();
    bed.run(&["prune", "--force"]).ok();
    assert_eq!(volumes(&bed), ["lost"]);
    assert_eq!(says(&bed, &["-v", "lost:/l"], "cat /l/work"), "of years");
    assert!(!bed.0.path("store/volumes/hollow").exists());
    bed.is_clean();
}

#[test]
fn directories_of_the_host() {
    let bed = Bed::new("binds");
    let host = bed.0.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "from the host").unwrap();
    let source = host.to_str().unwrap();
    let bind = |rest: &str| format!("{source}:{rest}");
    assert_eq!(says(&bed, &["-v", &bind("/in")], "cat /in/file; echo new >/in/new"), "from the host");
    assert_eq!(std::fs::read_to_string(host.join("new")).unwrap(), "new\n");
    assert!(says(&bed, &["-v", &bind("/in:ro")], "touch /in/x 2>&1; true").contains("Read-only"));
    assert!(
        says(&bed, &["--mount", &format!("type=bind,src={source},dst=/in,readonly")], "touch /in/x 2>&1; true")
            .contains("Read-only")
    );
    assert_eq!(says(&bed, &["-v", &format!("{source}/file:/one")], "cat /one"), "from the host");
    let options = says(&bed, &["-v", &bind("/in:nosuid,nodev,noexec")], "mount | grep ' /in '");
    assert!(options.contains("nosuid,nodev,noexec"), "{options}");
    // A file of the container's own gives way, and so does /dev/shm.
    assert_eq!(says(&bed, &["-v", &format!("{source}/file:/etc/hosts")], "cat /etc/hosts"), "from the host");
    assert_eq!(says(&bed, &["-v", &bind("/dev/shm")], "cat /dev/shm/file"), "from the host");
    // U gives it to the container's user.
    std::fs::create_dir_all(host.join("deep/er")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", host.join("link")).unwrap();
    assert_eq!(
        says(&bed, &["-u", "web", "-v", &bind("/in:U")], "touch /in/deep/er/x && stat -c '%u %g' /in /in/link"),
        "33 34\n33 34"
    );
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0, "a link is given, not what it leads to");
    for (flags, words) in [
        (&["-v", "/no/where:/x"][..], "/no/where does not exist"),
        (&["-v", "./host:/x"], "relative path"),
        (&["-v", "host/x:/x"], "relative path"),
        (&["-v", &bind("/")], "over /"),
        (&["-v", &bind("/a/..")], "over /"),
        (&["-v", &bind("rel")], "not an absolute path"),
        (&["-v", &bind("/a:what")], "not known"),
        (&["-v", &bind("/a:ro,rw")], "against"),
        (&["-v", &bind("/a"), "-v", "other:/a"], "already mounted at /a"),
        (&["-v", &bind("/a"), "--tmpfs", "/a"], "already mounted at /a"),
        (&["-v", &bind("/a"), "--mount", "type=tmpfs,dst=/b/../a"], "already mounted at /a"),
        (&["-v", "a:/x"], "no name of a volume"),
        (&["--mount", "type=bind,dst=/x"], "source is missing"),
        (&["--mount", &format!("type=bind,src={source}")], "destination is missing"),
        (&["--mount", "type=what,dst=/x"], "type=what"),
        (&["--volumes-from", "nobody"], "nobody"),
    ] {
        bed.run(&[&["run", "--rm", "-v", "unmade:/unmade"], flags, &["it", "true"]].concat()).fails(125, words);
    }
    assert!(!Path::new("/no/where").exists() && volumes(&bed).is_empty());
    bed.is_clean();
}

/// In a mount namespace of the test's own, whose mounts are shared as a host's are.
#[test]
fn mounts_below_a_bind_go_where_they_are_asked_to() {
    let bed = Bed::new("propagation");
    let (place, store) = (bed.0.text("p"), bed.0.text("store"));
    let bundle = crate::harness::bundle();
    let runtime = crate::bed::runtime().unwrap_or_else(|| crate::harness::rt().to_str().unwrap().to_owned());
    let script = format!(
        r#"
        export BUNDLE_NETWORK=none BUNDLE_ROOT={store} BUNDLE_RUNTIME={runtime}
        b() {{ {bundle} "$@"; }}
        mkdir {place}; mount -t tmpfs shared {place}; mount --make-shared {place}; mkdir {place}/sub {place}/late
        mount -t tmpfs sub {place}/sub; echo below >{place}/sub/file
        echo "recursive: $(b run --rm -v {place}:/in it cat /in/sub/file)"
        echo "not: $(b run --rm -v {place}:/in:bind it ls /in/sub)"
        echo "read-only: $(b run --rm -v {place}:/in:ro it sh -c 'touch /in/x /in/sub/x 2>&1' | grep -c Read-only)"
        echo "writable below: $(b run --rm --mount type=bind,src={place},dst=/in,ro,bind-recursive=writable it sh -c 'touch /in/sub/x && echo yes')"
        for kind in rprivate rslave rshared; do
            b run -d --name pp --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
                -v {place}:/in:$kind it sh -c 'while ! test -e /in/go; do sleep 0.01; done; test -e /in/late/host && echo seen; mkdir -p /in/up; mount -t tmpfs up /in/up; exec sleep 1000' >/dev/null
            mount -t tmpfs late {place}/late; touch {place}/late/host; touch {place}/go
            for i in $(seq 300); do b exec pp grep -q ' /in/up ' /proc/mounts && break; sleep 0.01; done
            echo "$kind: $(b logs pp) $(grep -c ' {place}/up ' /proc/self/mounts || true)"
            b rm -f pp >/dev/null; umount {place}/late; umount {place}/up 2>/dev/null || true; rm -rf {place}/go
        done
        mount --make-private {place}
        b run --rm -v {place}:/in:rshared it true 2>&1 || true
        "#,
        bundle = bundle.display(),
    );
    let done = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-eu", "-c", &script])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    let wanted = [
        "recursive: below",
        "not:",
        "read-only: 2",
        "writable below: yes",
        "rprivate:  0",
        "rslave: seen 0",
        "rshared: seen 1",
    ];
    assert_eq!(lines.get(..7), Some(&wanted[..]), "{out}{}", String::from_utf8_lossy(&done.stderr));
    assert!(lines[7].contains("rshared needs a shared mount"), "{out}");
    bed.is_clean();
}

#[test]
fn memory_as_a_mount() {
    let bed = Bed::new("memory");
    let seen = says(
        &bed,
        &["--tmpfs", "/t:size=64k,mode=1777,uid=33", "-u", "web"],
        "mount | grep ' /t '; stat -c '%u %a' /t; touch /t/x; dd if=/dev/zero of=/t/x bs=1k count=100 2>&1; true",
    );
    assert!(
        seen.contains("nosuid,nodev,noexec") && seen.contains("33 1777") && seen.contains("No space left"),
        "{seen}"
    );
    assert!(!says(&bed, &["--tmpfs", "/t:exec"], "mount | grep ' /t '").contains("noexec"));
    let mount = ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700,readonly"];
    let seen = says(&bed, &mount, "mount | grep ' /t '; touch /t/x 2>&1; true");
    assert!(seen.contains("size=1024k,mode=700") && seen.contains("Read-only"), "{seen}");
    bed.is_clean();
}

#[test]
fn nameless_volumes_go_with_their_container() {
    let bed = Bed::with(
        "nameless",
        json!({"Env": ["PATH=/bin"], "Cmd": ["sh"], "Volumes": {"/srv": {}, "/gone/../made": {}}}),
    );
    assert_eq!(says(&bed, &[], "cat /srv/file; mount | grep -cE ' (/srv|/made) '"), "content\n2");
    assert!(volumes(&bed).is_empty(), "--rm takes them along");
    // What the flags mount there comes in their place.
    assert_eq!(says(&bed, &["--tmpfs", "/srv", "-v", "named:/made"], "ls /srv; touch /made/x"), "");
    assert_eq!(volumes(&bed), ["named"]);
    bed.run(&["create", "--name", "cc", "-v", "/more", "it", "sh", "-c", "echo kept >>/srv/x; cat /srv/x"]).ok();
    assert_eq!(volumes(&bed).len(), 4);
    assert_eq!(bed.run(&["start", "-a", "cc"]).ok().out, "kept\n");
    assert_eq!(bed.run(&["start", "-a", "cc"]).ok().out, "kept\nkept\n", "they outlive a start");
    bed.run(&["rm", "cc"]).ok();
    assert_eq!(volumes(&bed).len(), 4, "without -v they stay");
    let all = bed.run(&["volume", "prune", "--dry-run", "--format", "json"]).ok().json();
    assert_eq!(all["Volumes"].as_array().unwrap().len(), 3);
    bed.run(&["volume", "prune", "--force"]).ok();
    assert_eq!(volumes(&bed), ["named"]);
    bed.run(&["create", "--name", "dd", "it"]).ok();
    bed.run(&["rm", "-v", "dd"]).ok();
    assert_eq!(volumes(&bed), ["named"]);
    bed.is_clean();
}

#[test]
fn another_containers_volumes() {
    let bed = Bed::new("from");
    let host = bed.0.text("host");
    std::fs::create_dir(&host).unwrap();
    let flags = [
        "create",
        "--name",
        "first",
        "-v",
        "/nameless",
        "-v",
        "named:/named:ro",
        "-v",
        &format!("{host}:/host"),
        "--tmpfs",
        "/t",
        "it",
    ];
    bed.run(&flags).ok();
    let words = "echo 1 >/nameless/x; touch /named/x 2>&1; touch /host/x; ls -d /t 2>&1; true";
    let seen = says(&bed, &["--volumes-from", "first"], words);
    assert!(
        seen.contains("Read-only") && seen.contains("/t: No such") && Path::new(&host).join("x").exists(),
        "{seen}"
    );
    assert_eq!(
        says(&bed, &["--volumes-from", "first:ro"], "cat /nameless/x; touch /nameless/y 2>/dev/null || echo ro"),
        "1\nro"
    );
    assert_eq!(says(&bed, &["--volumes-from", "first:rw"], "touch /named/y && ls /named"), "y");
    // Ours come first.
    assert_eq!(says(&bed, &["--volumes-from", "first", "-v", "mine:/named"], "ls /named"), "");
    // Held by two: it goes with the last one only.
    bed.run(&["create", "--name", "second", "--volumes-from", "first", "it"]).ok();
    let before = volumes(&bed).len();
    bed.run(&["rm", "-v", "first"]).ok();
    assert_eq!(volumes(&bed).len(), before);
    bed.run(&["rm", "-v", "second"]).ok();
    assert_eq!(volumes(&bed), ["mine", "named"]);
    bed.is_clean();
}

#[test]
fn volumes_are_made_listed_shown_and_removed() {
    let bed = Bed::new("commands");
    assert_eq!(bed.run(&["volume", "create", "--label", "team=web", "--label", "x", "one"]).ok().out, "one\n");
    assert_eq!(bed.run(&["volume", "create", "one"]).ok().out, "one\n", "it is there already");
    assert_eq!(bed.run(&["volume", "create"]).ok().out.trim().len(), 64);
    bed.run(&["volume", "create", "x y"]).fails(1, "no name of a volume");
    bed.run(&["volume", "create", "../x"]).fails(1, "no name of a volume");
    bed.run(&["volume", "create", "--driver", "nfs", "n"]).fails(1, "driver local");
    bed.run(&["volume", "create", "--opt", "size=1", "n"]).fails(1, "volume option");
    bed.run(&["volume", "create", "--opt", "type=tmpfs", "one"]).fails(1, "other options");
    let it = bed.run(&["volume", "inspect", "one"]).ok().json();
    assert_eq!((&it[0]["Labels"], &it[0]["Driver"]), (&json!({"team": "web", "x": ""}), &json!("local")));
    assert_eq!(it[0]["Mountpoint"], json!(data(&bed, "one")));
    bed.run(&["volume", "inspect", "nothing"]).fails(1, "no such volume: nothing");
    bed.run(&["create", "--name", "holder", "-v", "one:/o", "it"]).ok();
    let list = |filter: &str| bed.run(&["volume", "ls", "--filter", filter, "--format", "{{.Name}}"]).ok().out;
    assert_eq!(
        (list("label=team=web"), list("label=team=db"), list("name=on")),
        ("one\n".into(), String::new(), "one\n".into())
    );
    assert_eq!((list("dangling=false"), list("dangling=true").len()), ("one\n".into(), 65));
    bed.run(&["volume", "ls", "--filter", "what=1"]).fails(1, "known are");
    let table = bed.run(&["volume", "ls"]).ok().out;
    assert!(table.starts_with("DRIVER   VOLUME NAME\n") && table.contains("local    one\n"), "{table}");
    assert_eq!(bed.run(&["volume", "ls", "--format", "json", "--filter", "name=one"]).ok().json()["Name"], "one");

    bed.run(&["volume", "rm", "one"]).fails(1, "used by container holder");
    assert_eq!(names(&bed.0.path("store/volumes")).len(), 2);
    bed.run(&["volume", "rm", "nothing"]).fails(1, "no such volume");
    bed.run(&["volume", "rm", "-f", "nothing"]).ok();
    let dry = bed.run(&["volume", "prune", "--all", "--dry-run"]).ok();
    assert!(!dry.err.contains("volume one"), "{}", dry.err);
    bed.run(&["volume", "prune", "--all"]).fails(1, "--force");
    bed.run(&["rm", "holder"]).ok();
    std::fs::write(data(&bed, "one").join("big"), vec![1; 1 << 20]).unwrap();
    let told = bed.run(&["volume", "prune", "--all", "--dry-run"]).ok().err;
    assert!(told.contains("volume one (1.0") && told.contains("2 volumes"), "{told}");
    assert_eq!(
        bed.run(&["volume", "prune", "--all", "--force", "--filter", "label!=team"]).ok().out.lines().count(),
        2
    );
    assert_eq!(volumes(&bed), ["one"]);
    assert!(bed.run(&["volume", "prune", "--all", "--force", "--filter", "label=team=web"]).ok().out.contains("one\n"));
    assert_eq!(names(&bed.0.path("store/volumes")), Vec::<String>::new());
    bed.is_clean();
}

#[test]
fn volumes_by_the_local_drivers_options() {
    let bed = Bed::new("local");
    let host = bed.0.text("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(bed.0.path("host/f"), "bound").unwrap();
    let device = format!("device={host}");
    bed.run(&["volume", "create", "-o", "type=none", "-o", &device, "-o", "o=bind", "bound"]).ok();
    assert_eq!(says(&bed, &["-v", "bound:/b"], "cat /b/f; touch /b/new"), "bound");
    assert!(bed.0.path("host/new").exists() && names(&data(&bed, "bound")).is_empty());
    bed.run(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=100k,uid=33,nosuid", "mem"])
        .ok();
    let seen = says(&bed, &["-v", "mem:/m"], "mount | grep ' /m '; stat -c %u /m; touch /m/x");
    assert!(seen.contains("size=100k") && seen.contains("nosuid") && seen.ends_with("33"), "{seen}");
    assert_eq!(says(&bed, &["-v", "mem:/m"], "ls /m"), "", "it is gone with its container");
    bed.run(&["create", "--name", "one", "-v", "mem:/m", "it"]).ok();
    bed.run(&["create", "--name", "two", "-v", "mem:/m", "it"]).fails(1, "two cannot share");
    bed.run(&["rm", "one"]).ok();
    // Made by the first container that names it.
    let mount = "src=new,dst=/n,volume-opt=type=tmpfs,volume-opt=o=size=50k,volume-label=a=b";
    assert!(says(&bed, &["--mount", mount], "mount | grep ' /n '").contains("size=52k"));
    assert_eq!(bed.run(&["volume", "inspect", "--format", "{{json .Labels}}", "new"]).ok().json(), json!({"a": "b"}));
    bed.run(&["run", "--rm", "--mount", "src=bound,dst=/n,volume-opt=type=tmpfs", "it", "true"])
        .fails(125, "other options");
    bed.run(&["volume", "create", "-o", "type=nosuchfs", "-o", "device=x", "bad"]).ok();
    bed.run(&["run", "--rm", "-v", "bad:/b", "it", "true"]).fails(125, "no such file system");
    bed.run(&["volume", "rm", "bound", "mem", "new", "bad"]).ok();
    assert!(bed.0.path("host/f").exists(), "what it was bound to is nobody's to remove");
    bed.is_clean();
}

#[test]
fn what_is_in_volumes_is_in_no_image() {
    let bed = Bed::new("commit");
    let host = bed.0.text("host");
    std::fs::create_dir(&host).unwrap();
    let script = "echo own >/own; for d in /srv /named /host /t /dev/shm; do echo secret >$d/secret; done";
    let flags = ["-v", "/srv", "-v", "named:/named", "-v", &format!("{host}:/host"), "--tmpfs", "/t"];
    bed.run(&[&["run", "--name", "cc"], &flags[..], &["it", "sh", "-c", script]].concat()).ok();
    bed.run(&["commit", "cc", "mine"]).ok();
    let seen = bed.run(&["run", "--rm", "mine", "sh", "-c", "cat /own; find / -xdev -name secret"]).ok().out;
    assert_eq!(seen, "own\n");
    let files = bed.run(&["run", "--rm", "mine", "cat", "/srv/file"]).ok().out;
    assert_eq!(files, "content\n", "the image's own are as they were");
    bed.run(&["rm", "-v", "cc"]).ok();
    bed.is_clean();
}
