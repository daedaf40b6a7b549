//! `cp`: both ways, running or not, through archives, and what a hostile container makes of it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;

use crate::bed::{Bed, names};
use crate::harness::sh;

#[test]
fn files_go_both_ways() {
    let bed = Bed::new("cp");
    let volume = ["-v", "data:/data", "--tmpfs", "/mem"];
    bed.detached(
        "cc",
        &volume,
        "mkdir -p /d/sub; echo in >/d/sub/f; echo vol >/data/v; chown 33:34 /d/sub/f; sleep 100",
    );
    crate::bed::until("it is there", || bed.run(&["exec", "cc", "test", "-e", "/data/v"]).status == 0);
    let here = |name: &str| bed.0.text(name);
    // Running: volumes and what else is mounted are seen.
    let done = bed.run(&["cp", "cc:/data/v", &here("v")]).ok();
    assert!(done.err.contains("Successfully copied 4B to ") && done.out.is_empty(), "{}", done.err);
    assert_eq!(std::fs::read_to_string(here("v")).unwrap(), "vol\n");
    assert_eq!(bed.run(&["cp", "-q", &here("v"), "cc:/mem/w"]).ok().err, "");
    assert_eq!(bed.run(&["exec", "cc", "cat", "/mem/w"]).ok().out, "vol\n");
    bed.run(&["cp", "cc:/d", &here("d")]).ok();
    let meta = std::fs::metadata(here("d/sub/f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (0, 0));
    bed.run(&["cp", "-a", "cc:d/.", &here("kept")]).ok();
    let meta = std::fs::metadata(here("kept/sub/f")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (33, 34));
    bed.run(&["cp", &here("kept"), "cc:/back"]).ok();
    bed.run(&["cp", "-a", &here("kept"), "cc:/archive"]).ok();
    let owners = bed.run(&["exec", "cc", "stat", "-c", "%u:%g", "/back/sub/f", "/archive/sub/f"]).ok().out;
    assert_eq!(owners, "0:0\n33:34\n");
    // A file that something is mounted on is written to.
    std::fs::write(here("hosts"), "1.2.3.4 x\n").unwrap();
    bed.run(&["cp", &here("hosts"), "cc:/etc/hosts"]).ok();
    assert_eq!(bed.run(&["exec", "cc", "cat", "/etc/hosts"]).ok().out, "1.2.3.4 x\n");
    // Stopped: the same, volumes too.
    bed.run(&["stop", "-t", "0", "cc"]).ok();
    bed.run(&["cp", "cc:/data/v", &here("v2")]).ok();
    assert_eq!(std::fs::read_to_string(here("v2")).unwrap(), "vol\n");
    bed.run(&["cp", &here("d"), "cc:/data"]).ok();
    assert_eq!(std::fs::read_to_string(here("store/volumes/data/_data/d/sub/f")).unwrap(), "in\n");
    bed.run(&["start", "cc"]).ok();
    assert_eq!(bed.run(&["exec", "cc", "cat", "/data/d/sub/f", "/back/sub/f"]).ok().out, "in\nin\n");
    // What cannot be.
    for (words, wanted) in [
        (&["cp", "cc:/none", &here("x")][..], "no such file"),
        (&["cp", &here("none"), "cc:/x"], "no such file"),
        (&["cp", "cc:/d", &here("v")], "no directory"),
        (&["cp", "cc:/data/v", &here("none/x")], "opening the directory"),
        (&["cp", "cc:/data/v", &here("none/")], "no such directory"),
        (&["cp", "cc:/d", "cc:/e"], "both sides"),
        (&["cp", &here("v"), &here("w")], "neither side"),
        (&["cp", "cc:", &here("w")], "a path"),
        (&["cp", "nobody:/x", &here("w")], "no such container"),
    ] {
        bed.run(words).fails(1, wanted);
    }
    assert!(!bed.0.path("x").exists() && !bed.0.path("w").exists() && !bed.0.path("none").exists());
    // A name with a colon is the host's where it begins with a dot or a slash.
    std::fs::write(bed.0.path("a:b"), "colon").unwrap();
    bed.run(&["cp", &here("a:b"), "cc:/colon"]).ok();
    assert_eq!(bed.run(&["exec", "cc", "cat", "/colon"]).ok().out, "colon");
    bed.run(&["rm", "-f", "cc"]).ok();
    bed.run(&["volume", "rm", "data"]).ok();
    bed.is_clean();
}

#[test]
fn archives_go_through_pipes() {
    let bed = Bed::new("cp-pipe");
    bed.run(&["create", "--name", "one", "it"]).ok();
    bed.run(&["create", "--name", "two", "--read-only", "it", "sleep", "100"]).ok();
    let archive = bed.command(&["cp", "one:/srv", "-"]).output().unwrap();
    assert!(archive.status.success());
    std::fs::write(bed.0.path("srv.tar"), &archive.stdout).unwrap();
    assert_eq!(sh(&format!("tar -tf {}", bed.0.text("srv.tar"))), "srv/\nsrv/file\n");
    let into = |archive: &[u8], to: &str| {
        let mut child =
            bed.command(&["cp", "-a", "-", to]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(archive);
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(into(&archive.stdout, "two:/tmp").0, 0);
    let listed = bed.command(&["cp", "two:/tmp/.", "-"]).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&listed).contains("content\n"));
    // Compressed as well.
    assert_eq!(into(&crate::harness::gzip(&archive.stdout), "two:/etc").0, 0);
    // Bad ones say so in one line.
    for (bad, to, wanted) in [
        (&archive.stdout[..], "two:/none", "no such file"),
        (&archive.stdout[..], "two:/etc/passwd", "directory"),
        (&b"no archive at all, but longer than nothing"[..], "two:/tmp", "archive"),
        (&archive.stdout[..700], "two:/tmp", "archive"),
    ] {
        let (status, err) = into(bad, to);
        assert!(status == 1 && err.lines().count() == 1, "{to}: {err}");
        assert!(err.to_lowercase().contains(wanted), "{to}: wanted {wanted:?} in {err}");
    }
    // What is read-only for the container while it runs is so for us.
    bed.run(&["start", "two"]).ok();
    std::fs::write(bed.0.path("f"), "f").unwrap();
    bed.run(&["cp", &bed.0.text("f"), "two:/etc/f"]).fails(1, "Read-only");
}

#[test]
fn a_hostile_container_reaches_nothing_of_the_host() {
    let bed = Bed::new("cp-hostile");
    let here = |name: &str| bed.0.text(name);
    std::fs::create_dir(bed.0.path("victim")).unwrap();
    std::fs::write(bed.0.path("payload"), "payload").unwrap();
    let up = "/../../../../../../../../../../../..";
    let script = format!(
        "ln -s {victim} /abs; ln -s {up}{victim} /rel; ln -s /proc/1/root /magic; ln -s /proc/self/fd /fd; mkdir /tree; \
         ln -s {victim} /tree/link; echo x >/tree/zz; touch /ready; \
         while true; do mkdir /race; rm -rf /race; ln -s {up}{victim} /race; rm -f /race; done",
        victim = here("victim")
    );
    bed.detached("evil", &[], &script);
    crate::bed::until("it is ready", || bed.run(&["exec", "evil", "test", "-e", "/ready"]).status == 0);
    for to in ["evil:/abs/f", "evil:/rel/f", "evil:/abs", "evil:/rel", "evil:/fd/1", "evil:/magic/f2"] {
        let done = bed.run(&["cp", &here("payload"), to]);
        assert!(done.status <= 1, "{to}: {}", done.err);
    }
    for _ in 0..60 {
        let _ = bed.run(&["cp", &here("payload"), "evil:/race/f"]);
        let _ = bed.run(&["cp", "-L", "evil:/race", &here("raced")]);
    }
    assert!(names(&bed.0.path("victim")).is_empty(), "{:?}", names(&bed.0.path("victim")));
    // Out: links come out as links, and nothing goes through them, neither new ones nor those that are there.
    bed.run(&["cp", "evil:/tree", &here("out")]).ok();
    assert_eq!(std::fs::read_link(here("out/link")).unwrap(), Path::new(&here("victim")));
    bed.run(&["cp", "evil:/tree", &here("out")]).ok();
    std::fs::remove_dir_all(here("out")).unwrap();
    std::fs::create_dir(here("out")).unwrap();
    symlink(here("victim"), bed.0.path("out/tree")).unwrap();
    bed.run(&["cp", "evil:/tree", &here("out")]).fails(1, "no directory");
    assert!(names(&bed.0.path("victim")).is_empty());
    // A link to a file of the host is none of the container's.
    std::fs::write(bed.0.path("victim/secret"), "secret").unwrap();
    bed.run(&["cp", "-L", "evil:/abs/secret", &here("stolen")]).fails(1, "");
    assert!(!bed.0.path("stolen").exists());
}

/// In a container with users of its own, owners are the container's, whatever they are on the host.
#[test]
fn owners_are_those_of_the_containers_own_users() {
    let bed = Bed::new("cp-users");
    let here = |name: &str| bed.0.text(name);
    for (name, users) in [("auto", &["--userns", "auto"][..]), ("given", &["--uidmap", "0:300000:1000"])] {
        let script = "mkdir -p /d && echo x >/d/web && chown 33:34 /d/web && echo x >/d/root && echo x >/vol/web && \
            chown 33:34 /vol/web && touch /ready; exec sleep 1000";
        bed.detached(name, &[users, &["-v", &format!("{name}:/vol"), "--tmpfs", "/mem"]].concat(), script);
        crate::bed::until("it is ready", || bed.run(&["exec", name, "test", "-e", "/ready"]).status == 0);
        std::fs::create_dir_all(bed.0.path("in/sub")).unwrap();
        std::fs::write(bed.0.path("in/sub/file"), "in").unwrap();
        std::os::unix::fs::chown(bed.0.path("in/sub/file"), Some(33), Some(34)).unwrap();
        let at = |path: &str| format!("{name}:{path}");
        // How those see it who are in the container, which has to run for that.
        let owners = |paths: &[&str]| {
            let words = [&["exec", name, "stat", "-c", "%u:%g"], paths].concat();
            bed.run(&words).ok().out.replace('\n', " ")
        };
        for state in ["running", "stopped"] {
            if state == "stopped" {
                bed.run(&["stop", "-t", "0", name]).ok();
            }
            // Out: as an archive, with owners, and without.
            let list = |archive: Vec<u8>| {
                std::fs::write(bed.0.path("list.tar"), archive).unwrap();
                let list = sh(&format!("tar --numeric-owner -tvf {}", here("list.tar")));
                list.lines().filter(|it| it.contains("web") || it.contains("d/root")).fold(String::new(), |all, it| {
                    let mut words = it.split_whitespace();
                    format!("{all}{} {}\n", words.nth(1).unwrap(), words.last().unwrap())
                })
            };
            let run = |words: &[&str]| bed.command(words).output().unwrap().stdout;
            let wanted = "0/0 d/root\n33/34 d/web\n";
            assert_eq!(list(run(&["cp", &at("/d"), "-"])), wanted, "{name} {state}");
            assert_eq!(list(run(&["export", name])).replace("./", ""), wanted, "{name} {state}");
            assert_eq!(list(run(&["cp", &at("/vol"), "-"])), "33/34 vol/web\n", "{name} {state}");
            bed.run(&["cp", "-a", &at("/d"), &here("out")]).ok();
            let kept = std::fs::metadata(bed.0.path("out/web")).unwrap();
            assert_eq!((kept.uid(), kept.gid()), (33, 34), "{name} {state}");
            std::fs::remove_dir_all(here("out")).unwrap();
            // In: root's, or whose they are, in files of its own, on a volume and, while there is one, on a tmpfs.
            for dir in ["/srv", "/vol", "/mem", "/tmp"].iter().filter(|it| state == "running" || **it != "/mem") {
                bed.run(&["cp", &here("in"), &at(&format!("{dir}/{state}"))]).ok();
                bed.run(&["cp", "-a", &here("in"), &at(&format!("{dir}/{state}-kept"))]).ok();
            }
            if state == "stopped" {
                bed.run(&["start", name]).ok();
            }
            for dir in ["/srv", "/vol", "/mem", "/tmp"].iter().filter(|it| state == "running" || **it != "/mem") {
                let (new, kept) = (format!("{dir}/{state}"), format!("{dir}/{state}-kept/sub/file"));
                let seen = owners(&[&new, &format!("{new}/sub"), &format!("{new}/sub/file"), &kept]);
                assert_eq!(seen, "0:0 0:0 0:0 33:34 ", "{name} {state} {dir}");
            }
        }
        // Capabilities of files are its root's, and on the disk anybody's, as in an image.
        let capability = |path: &Path| {
            // With whose root they are for, were it somebody's.
            sh(&format!("getcap -n {}", path.display()))
                .split_once(' ')
                .map(|it| it.1.trim().to_owned())
                .unwrap_or_default()
        };
        sh(&format!("cp {0}/in/sub/file {0}/able && setcap cap_net_raw+ep {0}/able", bed.0.0.display()));
        bed.run(&["cp", "-a", &here("able"), &at("/able")]).ok();
        bed.run(&["cp", "-a", &at("/able"), &here("able-again")]).ok();
        assert_eq!(capability(&bed.0.path("able-again")), "cap_net_raw=ep");
        let pid = bed.pid(name);
        let seen = sh(&format!("nsenter --user --target {pid} getcap /proc/{pid}/root/able"));
        assert!(seen.trim().ends_with("cap_net_raw=ep"), "{seen}");
        let upper = bed.0.path("store/containers").join(bed.inspect(name, ".Id")).join("upper");
        assert_eq!(capability(&upper.join("able")), "cap_net_raw=ep");
        // On the disk they are the container's numbers too, which a commit takes.
        let disk = std::fs::metadata(upper.join("tmp/running-kept/sub/file")).unwrap();
        assert_eq!((disk.uid(), disk.gid()), (33, 34));
    }
    // Whom the container does not have gets nothing there, least of all as the host's root.
    std::fs::write(bed.0.path("alien"), "x").unwrap();
    std::os::unix::fs::chown(bed.0.path("alien"), Some(5000), Some(0)).unwrap();
    bed.run(&["cp", "-a", &here("alien"), "given:/tmp/alien"]).fails(1, "no such id");
    bed.run(&["cp", &here("alien"), "given:/tmp/alien"]).ok();
    bed.run(&["rm", "-f", "auto", "given"]).ok();
    bed.run(&["volume", "rm", "auto", "given"]).ok();
    bed.is_clean();
}
