//! `bundle run` and `bundle export-bundle`: what a container of an image is like.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Place, layout, rt, sh, tar};

/// A store with an image `it` in it: busybox, users, and what `config` says.
fn with_image(place: &Place, config: serde_json::Value) {
    let busybox = std::fs::read(sh("command -v busybox").trim()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, bytes: &[u8], mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, path, bytes).unwrap();
    };
    add("bin/busybox", &busybox, 0o755);
    add("etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n", 0o644);
    add("etc/group", b"root:x:0:\nweb:x:34:\nlog:x:4:web\n", 0o644);
    let base = builder.into_inner().unwrap();
    let mut files: Vec<(String, &str, u32)> = "sh cat id pwd env hostname grep sleep wc rm true echo"
        .split(' ')
        .map(|it| (format!("bin/{it}"), "->busybox", 0o777))
        .collect();
    files.extend([
        ("srv/".to_owned(), "", 0o755),
        (
            "srv/file".to_owned(),
            "content
",
            0o644,
        ),
        ("bin/noexec".to_owned(), "x", 0o644),
    ]);
    let files: Vec<(&str, &str, u32)> = files.iter().map(|it| (it.0.as_str(), it.1, it.2)).collect();
    let links = tar(&files);
    layout(&place.path("layout"), "it:latest", &[base, links], config);
    place.bundle(&["load", "-q", "-i", &place.text("layout")]).ok();
}

#[test]
fn the_demonstration_needs_no_image() {
    let place = Place::new("demo");
    let done = place.bundle(&["run", "--rm", "demo"]).ok();
    assert!(done.out.contains("Hello from a container") && done.out.contains("interfaces         lo"), "{}", done.out);
    let facts = place.bundle(&["run", "--rm", "demo", "--json"]).ok().json();
    assert_eq!((&facts["pid"], &facts["uid"], &facts["seccomp"]), (&json!(1), &json!("0"), &json!(true)));
    assert_eq!(facts["bounding"], "00000000a80425fb", "Docker's default capabilities");
    assert_eq!(place.bundle(&["images", "-q"]).ok().out.lines().count(), 1);
    assert_eq!(place.bundle(&["run", "--rm", "demo", "args", "a b", "", "$X"]).ok().last(), r#"["a b","","$X"]"#);
    // Set-user-ID programs of images are in nobody else's reach.
    for name in ["layers", "containers"] {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(place.path("store").join(name)).unwrap());
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
    // Nothing is left of any of them.
    assert_eq!(std::fs::read_dir(place.path("store/containers")).unwrap().count(), 0);
    place.bundle(&["store", "check"]).ok();
}

#[test]
fn the_images_configuration_is_applied() {
    let place = Place::new("config");
    with_image(
        &place,
        json!({
            "Env": ["A=image", "PATH=/bin"], "Entrypoint": ["/bin/busybox"], "Cmd": ["echo", "one  two"], "User": "web",
            "WorkingDir": "/srv", "Labels": {"l": "v"}, "StopSignal": "SIGINT",
        }),
    );
    let run = |words: &[&str]| place.bundle(&[&["run", "--rm"], words].concat());
    assert_eq!(run(&["it"]).ok().out, "one  two\n");
    assert_eq!(run(&["it", "id"]).ok().out, "uid=33(web) gid=34(web) groups=4(log),34(web)\n");
    assert_eq!(run(&["it", "pwd"]).ok().out, "/srv\n");
    assert_eq!(run(&["-w", "/new/dir", "--user", "0", "it", "pwd"]).ok().out, "/new/dir\n");
    assert_eq!(run(&["-u", "root:log", "it", "id"]).ok().out, "uid=0(root) gid=4(log) groups=4(log)\n");
    assert_eq!(run(&["-u", "1234", "it", "id", "-u"]).ok().out, "1234\n");
    assert_eq!(run(&["--entrypoint", "/bin/sh", "it", "-c", "echo $0 $A"]).ok().out, "/bin/sh image\n");
    let env = run(&["-e", "B=x y", "-e", "A", "-e", "HOME_OF_NOBODY", "it", "env"]).ok().out;
    // `-e A` takes it from the caller, who has none.
    assert!(!env.contains("A=") && env.contains("B=x y\n") && env.contains("HOSTNAME="), "{env}");
    // Nothing of the caller's environment gets in.
    assert!(!env.contains("BUNDLE_ROOT") && !env.contains("CARGO"), "{env}");
    std::fs::write(place.path("env"), "# comment\nC=1\n\n D=2\n").unwrap();
    let env = run(&["--env-file", &place.text("env"), "it", "env"]).ok().out;
    assert!(env.contains("C=1\n") && env.contains("D=2\n"), "{env}");
    assert_eq!(run(&["-h", "box", "it", "hostname"]).ok().out, "box\n");
    assert!(run(&["it", "cat", "/etc/hosts"]).ok().out.contains("localhost"));
    run(&["-u", "nobody", "it"]).fails(125, "not in the image's /etc/passwd");
}

#[test]
fn exit_statuses_are_dockers() {
    let place = Place::new("status");
    with_image(&place, json!({"Env": ["PATH=/bin"]}));
    let run = |words: &[&str]| place.bundle(&[&["run", "--rm"], words].concat());
    assert_eq!(run(&["it", "sh", "-c", "exit 42"]).status, 42);
    assert_eq!(run(&["it", "sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]).status, 137);
    assert_eq!(run(&["it", "/bin/no"]).status, 127);
    assert_eq!(run(&["it", "no"]).status, 127);
    assert_eq!(run(&["it", "/bin/noexec"]).status, 126);
    run(&["it"]).fails(125, "names no program");
    run(&["-m", "10x", "it", "sh"]).fails(125, "--memory");
    run(&["--what", "it"]).fails(125, "--what");
    run(&["--pull", "never", "nothere"]).fails(125, "no such image");
    run(&["--name", "x y", "it", "sh"]).fails(125, "--name");
    // What failed has left nothing.
    assert_eq!(std::fs::read_dir(place.path("store/containers")).unwrap().count(), 0);
}

#[test]
fn flags_reach_the_kernel() {
    let place = Place::new("flags");
    with_image(&place, json!({"Env": ["PATH=/bin"]}));
    let run = |words: &[&str]| place.bundle(&[&["run", "--rm"], words].concat());
    assert!(run(&["--read-only", "it", "sh", "-c", ">/x"]).err.contains("Read-only"));
    assert_eq!(run(&["--read-only", "--tmpfs", "/t:size=64k", "it", "sh", "-c", ">/t/x; echo $?"]).ok().out, "0\n");
    let caps = |words: &[&str]| run(&[words, &["it", "sh", "-c", "grep CapEff /proc/self/status"]].concat()).ok().out;
    assert!(caps(&["--cap-drop", "ALL"]).contains("0000000000000000"));
    assert!(caps(&["--cap-drop", "all", "--cap-add", "net_admin"]).contains("0000000000001000"));
    let grep = |what: &str, words: &[&str]| {
        run(&[words, &["it", "sh", "-c", &format!("grep {what} /proc/self/status")]].concat()).ok().out
    };
    assert!(grep("NoNewPrivs", &["--security-opt", "no-new-privileges"]).contains('1'));
    assert!(
        grep("Seccomp:", &[]).contains('2')
            && grep("Seccomp:", &["--security-opt", "seccomp=unconfined"]).contains('0')
    );
    assert!(grep("Seccomp:", &["--privileged"]).contains('0'));
    assert_eq!(run(&["--ulimit", "nofile=50:60", "it", "sh", "-c", "ulimit -n; ulimit -Hn"]).ok().out, "50\n60\n");
    assert_eq!(
        run(&["--sysctl", "net.ipv4.ip_default_ttl=7", "it", "sh", "-c", "cat /proc/sys/net/ipv4/ip_default_ttl"])
            .ok()
            .out,
        "7\n"
    );
    assert!(run(&["--shm-size", "1m", "it", "sh", "-c", "grep /dev/shm /proc/mounts"]).ok().out.contains("size=1024k"));
    // Masked and read-only.
    assert_ne!(run(&["it", "sh", "-c", "echo 1 >/proc/sys/vm/drop_caches"]).status, 0);
    assert_eq!(run(&["it", "sh", "-c", "cat /proc/timer_list | wc -c"]).ok().out, "0\n");
    let mounts = run(&["it", "cat", "/proc/mounts"]).ok().out;
    assert!(mounts.lines().next().unwrap().starts_with("overlay / overlay"), "{mounts}");
    assert!(run(&["--storage-driver", "vfs", "it", "cat", "/srv/file"]).ok().out.contains("content"));
}

#[test]
fn streams_and_signals_pass_through() {
    let place = Place::new("streams");
    with_image(&place, json!({"Env": ["PATH=/bin"]}));
    let mut command = place.command("store", &["run", "--rm", "-i", "it", "sh", "-c", "cat; echo err >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"in\0put").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"in\0put"[..], &b"err\n"[..]));
    // Without -i there is nothing to read.
    assert_eq!(place.bundle(&["run", "--rm", "it", "cat"]).ok().out, "");

    let words =
        ["run", "--rm", "it", "sh", "-c", "trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.05; done"];
    let mut child = place.command("store", &words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut up = [0; 3];
    out.read_exact(&mut up).unwrap();
    sh(&format!("kill -TERM {}", child.id()));
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(9), "term\n"));

    // A terminal: `script` gives us one.
    let line = format!(
        "BUNDLE_NETWORK=none BUNDLE_ROOT={} BUNDLE_RUNTIME={} script -qec '{} run --rm -it it sh -c \"test -t 0 && test -t 1 && echo terminal\"' /dev/null </dev/null",
        place.text("store"),
        rt().display(),
        crate::harness::bundle().display()
    );
    assert!(sh(&line).contains("terminal"));
}

#[test]
fn a_container_is_kept_committed_and_exported() {
    let place = Place::new("commit");
    with_image(&place, json!({"Env": ["PATH=/bin"], "Cmd": ["cat", "/new"]}));
    assert_eq!(
        place.bundle(&["run", "--name", "cc", "it", "sh", "-c", "echo kept >/new; rm /srv/file; exit 5"]).status,
        5
    );
    place.bundle(&["rmi", "it"]).fails(1, "used by container cc");
    let json = place.bundle(&["commit", "--format", "json", "cc", "mine:0"]).ok().json();
    assert_eq!(json["Name"], "docker.io/library/mine:0");
    let commit = |name: &str| {
        let mut command = place.command("store", &["commit", "--change", "ENV X=1", "cc", name]);
        crate::harness::Done::of(command.env("SOURCE_DATE_EPOCH", "1000"), &["commit"]).ok().out
    };
    assert_eq!(commit("mine:1"), commit("mine:2"), "the same changes, the same image");
    // The new layer has what was changed, and nothing that the runtime made for its mounts.
    let layer = place.bundle(&["inspect", "--format", "{{json .Layers}}", "mine:1"]).ok().json();
    let blob = place.path("store/blobs/sha256").join(&layer[2]["digest"].as_str().unwrap()[7..]);
    assert_eq!(sh(&format!("tar -tzf {}", blob.display())), "./\netc/\nnew\nsrv/\nsrv/.wh.file\n");
    assert_eq!(place.bundle(&["run", "--rm", "mine:1"]).ok().out, "kept\n");
    assert_ne!(place.bundle(&["run", "--rm", "mine:1", "cat", "/srv/file"]).status, 0);
    let env = place.bundle(&["inspect", "--format", "{{json .Config.Env}} {{.Created}}", "mine:1"]).ok().out;
    assert_eq!(env, "[\"PATH=/bin\",\"X=1\"] 1970-01-01T00:16:40Z\n");
    place.bundle(&["export", "-o", &place.text("c.tar"), "cc"]).ok();
    let list = sh(&format!("tar -tf {}", place.text("c.tar")));
    assert!(list.contains("new\n") && list.contains("bin/busybox\n") && !list.contains("srv/file"), "{list}");
    place
        .bundle(&[
            "import",
            "--change",
            "CMD [\"cat\", \"/new\"]",
            "--change",
            "ENV PATH=/bin",
            &place.text("c.tar"),
            "flat",
        ])
        .ok();
    assert_eq!(place.bundle(&["run", "--rm", "flat"]).ok().out, "kept\n");
    place.bundle(&["rm", "cc"]).ok();
    place.bundle(&["rmi", "it", "mine:0", "mine:1", "mine:2", "flat"]).ok();
    assert_eq!(std::fs::read_dir(place.path("store/layers")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(place.path("store/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn a_bundle_runs_under_any_runtime() {
    let place = Place::new("export");
    with_image(&place, json!({"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", "echo from $0 $A; id -u"], "User": "web"}));
    place.bundle(&["export-bundle", "it", &place.text("b"), "-e", "A=b"]).ok();
    for runtime in [rt().to_str().unwrap(), "runc", "crun"] {
        let hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        let output = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                hide,
                "sh",
                runtime,
                "--root",
                &place.text("state"),
                "run",
                "--bundle",
                &place.text("b"),
                "exported",
            ])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text, "from sh b\n33\n", "{runtime}: {}", String::from_utf8_lossy(&output.stderr));
    }
    place.bundle(&["export-bundle", "it", &place.text("b")]).fails(1, "not empty");
    place.bundle(&["export-bundle", "-m", "x", "it", &place.text("b2")]).fails(1, "--memory");
    assert!(
        !place.path("b2").exists()
            && sh(&format!("ls -A {}", place.0.display())).lines().all(|it| !it.starts_with(".b2"))
    );
}

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new("help");
    let help = |words: &[&str]| place.bundle(&[words, &["--help"]].concat()).ok().out;
    let commands = |text: &str| -> Vec<String> {
        let list = text.split("Commands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
        let names = list.lines().filter_map(|line| line.split_whitespace().next()).filter(|it| *it != "help");
        names.map(str::to_owned).collect()
    };
    let all = commands(&help(&[]));
    assert!(all.len() > 20, "{all:?}");
    for name in all {
        let text = help(&[&name]);
        let below = commands(&text);
        if below.is_empty() {
            assert!(text.contains("Example: bundle "), "{name}: {text}");
        }
        for it in below {
            assert!(help(&[&name, &it]).contains("Example: bundle "), "{name} {it}");
        }
    }
    // A wrong command line is one line and Docker's status.
    let done = place.bundle(&["imagse"]);
    assert_eq!((done.status, done.err.lines().count()), (125, 1), "{}", done.err);
}
