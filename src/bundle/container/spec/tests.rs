//! Documents of images and flags.

use std::os::fd::AsFd;

use super::*;

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

fn document(image: &Execution, flags: &Flags, command: &[&str]) -> Result<Value> {
    let root = std::fs::File::open("/").unwrap();
    let place = Place {
        root_path: "rootfs",
        root: root.as_fd(),
        hostname: "abc",
        cgroup: None,
        files: &[],
        mounts: &[],
        propagation: None,
        join: &[],
        shm: None,
        network: None,
        ids: None,
        plain_user: false,
    };
    build(image, &check(image, flags, false)?, &words(command), &place)
}

fn flags() -> Flags {
    Flags { network: vec!["none".into()], entrypoint: None, ..Flags::default() }
}

#[test]
fn entrypoint_and_command() {
    let image = Execution { entrypoint: Some(words(&["/e", "x"])), cmd: Some(words(&["c d"])), ..Execution::default() };
    let run = |entrypoint, command: &[&str]| arguments(&image, entrypoint, &words(command)).unwrap();
    assert_eq!(run(None, &[]), ["/e", "x", "c d"]);
    assert_eq!(run(None, &["1 2", ""]), ["/e", "x", "1 2", ""]);
    assert_eq!(run(Some("/f"), &[]), ["/f"]);
    assert_eq!(run(Some("/f"), &["a"]), ["/f", "a"]);
    assert_eq!(run(Some(""), &["a"]), ["a"]);
    assert!(arguments(&Execution::default(), None, &[]).is_err());
    assert!(arguments(&image, Some(""), &[]).is_err());
}

#[test]
fn the_image_is_applied_and_flags_come_after_it() {
    let image = Execution {
        env: words(&["A=1", "PATH=/p", "broken"]),
        working_dir: "/w".into(),
        cmd: Some(words(&["sh"])),
        ..Execution::default()
    };
    let mut with = flags();
    with.env = words(&["A=2", "B=3"]);
    let built = document(&image, &with, &[]).unwrap();
    assert_eq!(built["process"]["env"], json!(["PATH=/p", "HOSTNAME=abc", "A=2", "B=3"]));
    assert_eq!((&built["process"]["cwd"], &built["hostname"]), (&json!("/w"), &json!("abc")));
    assert_eq!(built["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert!(built["linux"]["seccomp"].is_object() && built["linux"]["maskedPaths"].is_array());
}

#[test]
fn privileges_follow_the_flags() {
    let image = Execution { cmd: Some(words(&["sh"])), ..Execution::default() };
    let caps = |edit: fn(&mut Flags)| {
        let mut it = flags();
        edit(&mut it);
        document(&image, &it, &[]).unwrap()["process"]["capabilities"]["bounding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        caps(|it| {
            it.cap_drop = words(&["all"]);
            it.cap_add = words(&["net_admin"]);
        }),
        ["CAP_NET_ADMIN"]
    );
    assert!(!caps(|it| it.cap_drop = words(&["CAP_CHOWN"])).contains(&"CAP_CHOWN".to_owned()));
    let mut it = flags();
    it.privileged = true;
    let built = document(&image, &it, &[]).unwrap();
    assert!(built["linux"].get("seccomp").is_none() && built["linux"].get("maskedPaths").is_none());
    it = flags();
    it.user = Some("65534".into());
    assert_eq!(document(&image, &it, &[]).unwrap()["process"]["capabilities"]["effective"], json!([]));
}

/// The error of flags.
fn refused(edit: fn(&mut Flags)) -> String {
    let image = Execution { cmd: Some(words(&["sh"])), ..Execution::default() };
    let mut it = flags();
    edit(&mut it);
    format!("{:#}", document(&image, &it, &[]).map(|it| it.to_string()).unwrap_err())
}

#[test]
fn bad_flags_are_errors() {
    type Edit = fn(&mut Flags);
    let cases: [(Edit, &str); 66] = [
        (|it| it.memory = Some("10x".into()), "--memory"),
        (|it| it.memory = Some("1m".into()), "6m is the least"),
        (|it| it.memory_swap = Some("1g".into()), "only together"),
        (|it| it.memory_swappiness = Some(101), "--memory-swappiness"),
        (|it| it.kernel_memory = Some("1g".into()), "--kernel-memory"),
        (|it| it.oom_kill_disable = true, "--oom-kill-disable"),
        (|it| it.oom_score_adj = Some(1001), "--oom-score-adj"),
        (|it| it.cpus = Some("0".into()), "--cpus"),
        (|it| it.cpus = Some("9999".into()), "processors that there are"),
        (
            |it| {
                it.cpus = Some("1".into());
                it.cpu_quota = Some(5000);
            },
            "--cpu-quota",
        ),
        (|it| it.cpu_shares = Some(1), "--cpu-shares"),
        (|it| it.cpu_period = Some(5), "--cpu-period"),
        (|it| it.cpu_quota = Some(-2), "--cpu-quota"),
        (|it| it.cpu_quota = Some(999), "--cpu-quota"),
        (|it| it.cpu_rt_runtime = Some(-1), "--cpu-rt-runtime"),
        (|it| it.cpuset_cpus = Some("65000".into()), "processor 65000 is not there"),
        (|it| it.cpuset_cpus = Some("x".into()), "--cpuset-cpus"),
        (|it| it.cpuset_mems = Some("999".into()), "memory node 999"),
        (|it| it.pids_limit = Some(-5), "--pids-limit"),
        (|it| it.blkio_weight = Some(9), "--blkio-weight"),
        (|it| it.blkio_weight_device = words(&["/dev/null:100"]), "no block device"),
        (|it| it.device_read_bps = words(&["/dev/null:1m"]), "no block device"),
        (|it| it.device_write_bps = words(&["/nowhere:1m"]), "/nowhere"),
        (|it| it.device_read_iops = words(&["/dev/null"]), "DEVICE:RATE"),
        (|it| it.device_write_iops = words(&["x"]), "DEVICE:RATE"),
        (|it| it.cap_add = words(&["CAP_NOTHING"]), "--cap-add"),
        (|it| it.cap_drop = words(&["x"]), "--cap-drop"),
        (|it| it.security_opt = words(&["what"]), "--security-opt"),
        (|it| it.security_opt = words(&["seccomp=/nowhere"]), "/nowhere"),
        (|it| it.security_opt = words(&["seccomp={}"]), "defaultAction"),
        (|it| it.security_opt = words(&["label=x"]), "label"),
        (|it| it.security_opt = words(&["mask=x"]), "absolute path"),
        (|it| it.security_opt = words(&["unmask=/a/../b"]), "absolute path"),
        (|it| it.network = vec!["a:b".into()], "--network"),
        (|it| it.network = vec!["container:".into()], "--network"),
        (|it| it.uts = Some("x".into()), "--uts"),
        (|it| it.uts = Some("container:x".into()), "--uts"),
        (|it| it.ipc = Some("x".into()), "--ipc"),
        (|it| it.pid = Some("none".into()), "--pid"),
        (|it| it.cgroupns = Some("x".into()), "--cgroupns"),
        (
            |it| {
                it.ipc = Some("none".into());
                it.shm_size = Some("1m".into());
            },
            "--shm-size",
        ),
        (
            |it| {
                it.uts = Some("host".into());
                it.hostname = Some("x".into());
            },
            "--uts host",
        ),
        (|it| it.workdir = Some("rel".into()), "--workdir"),
        (|it| it.device = words(&["/etc"]), "no device"),
        (|it| it.device = words(&["/dev/null:x"]), "--device"),
        (|it| it.device = words(&["/dev/null:/a/../b"]), "--device"),
        (|it| it.device = words(&["/dev/null:/x:rwx"]), "--device"),
        (|it| it.device_cgroup_rule = words(&["c 1 rwm"]), "--device-cgroup-rule"),
        (|it| it.device_cgroup_rule = words(&["x 1:1 rwm"]), "--device-cgroup-rule"),
        (|it| it.ulimit = words(&["x=1"]), "--ulimit"),
        (|it| it.sysctl = words(&["kernel.panic=1"]), "whole machine's"),
        (|it| it.sysctl = words(&["x"]), "NAME=VALUE"),
        (
            |it| {
                it.sysctl = words(&["net.core.somaxconn=1"]);
                it.network = vec!["host".into()];
            },
            "the host's",
        ),
        (|it| it.hostname = Some("x".repeat(65)), "--hostname"),
        (|it| it.domainname = Some(String::new()), "--domainname"),
        (|it| it.env = words(&["=x"]), "--env"),
        (|it| it.env_file = words(&["/nowhere"]), "--env-file /nowhere"),
        (|it| it.label = words(&["=x"]), "--label"),
        (|it| it.label_file = words(&["/nowhere"]), "--label-file /nowhere"),
        (|it| it.annotation = words(&["x"]), "--annotation"),
        (|it| it.cgroup_parent = Some("/a/../b".into()), "--cgroup-parent"),
        (|it| it.gpus = Some("all".into()), "--gpus"),
        (|it| it.isolation = Some("hyperv".into()), "--isolation"),
        (|it| it.storage_opt = words(&["size=1"]), "--storage-opt"),
        (|it| it.volume_driver = Some("nfs".into()), "--volume-driver"),
        (|it| it.log_driver = Some("syslog".into()), "--log-driver"),
    ];
    for (edit, text) in cases {
        let error = refused(edit);
        assert!(error.contains(text), "{text}: {error}");
    }
}

fn with(edit: impl FnOnce(&mut Flags)) -> Value {
    let image = Execution { cmd: Some(words(&["sh"])), ..Execution::default() };
    let mut it = flags();
    edit(&mut it);
    document(&image, &it, &[]).unwrap()
}

fn destinations(document: &Value) -> Vec<&str> {
    document["mounts"].as_array().unwrap().iter().map(|it| it["destination"].as_str().unwrap()).collect()
}

fn namespaces_of(document: &Value) -> Vec<&str> {
    document["linux"]["namespaces"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect()
}

#[test]
fn modes_of_namespaces() {
    assert_eq!(namespaces_of(&with(|_| {})), ["mount", "pid", "ipc", "uts", "cgroup", "network"]);
    let shared = with(|it| {
        it.pid = Some("host".into());
        it.uts = Some("host".into());
        it.network = vec!["host".into()];
        it.cgroupns = Some("host".into());
    });
    assert_eq!(namespaces_of(&shared), ["mount", "ipc"]);
    assert!(shared.get("hostname").is_none());
    assert!(!destinations(&with(|it| it.ipc = Some("none".into()))).contains(&"/dev/shm"));
    let shm = with(|it| it.shm_size = Some("2m".into()));
    assert!(shm["mounts"].to_string().contains("size=2097152"));

    let flags = Flags {
        network: vec!["container:a".into()],
        ipc: Some("container:b".into()),
        pid: Some("container:a".into()),
        ..flags()
    };
    assert_eq!(joined(&flags).unwrap(), [("pid", "pid", "a"), ("ipc", "ipc", "b"), ("network", "net", "a")]);
    assert!(check(&Execution::default(), &flags, true).unwrap_err().to_string().contains("no other one may join"));
    let join = [("pid", "/p".to_owned()), ("ipc", "/i".to_owned()), ("network", "/n".to_owned())];
    let root = std::fs::File::open("/").unwrap();
    let place = Place {
        root_path: "rootfs",
        root: root.as_fd(),
        hostname: "abc",
        cgroup: None,
        files: &[],
        mounts: &[],
        propagation: None,
        join: &join,
        network: None,
        shm: Some("/shm-of-b"),
        ids: None,
        plain_user: false,
    };
    let built = build(&Execution::default(), &flags, &words(&["x"]), &place).unwrap();
    assert!(built["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "network", "path": "/n"})));
    assert!(built["mounts"].to_string().contains("/shm-of-b"));
    assert!(built["linux"].get("sysctl").is_none(), "the network is another one's");
}

#[test]
fn what_is_asked_for_comes_in_the_place_of_what_all_get() {
    let root = std::fs::File::open("/").unwrap();
    let build_with = |flags: &Flags, mounts: &[Value]| {
        let files = [("/etc/hosts", "/h".to_owned())];
        let place = Place {
            root_path: "rootfs",
            root: root.as_fd(),
            hostname: "abc",
            cgroup: None,
            files: &files,
            mounts,
            propagation: None,
            join: &[],
            shm: None,
            network: None,
            ids: None,
            plain_user: false,
        };
        build(&Execution::default(), flags, &words(&["x"]), &place).unwrap()
    };
    let mount = |at: &str| json!({"destination": at, "type": "bind", "source": "/s", "options": []});
    let built = build_with(&flags(), &[mount("/etc/hosts"), mount("/dev/shm")]);
    let list = destinations(&built);
    assert_eq!(list.iter().filter(|it| **it == "/etc/hosts" || **it == "/dev/shm").count(), 2, "{list:?}");
    let built = build_with(&flags(), &[mount("/dev")]);
    let list = destinations(&built);
    assert!(!list.contains(&"/dev/pts") && list.contains(&"/dev"), "{list:?}");
    let read_only = build_with(&Flags { read_only: true, ..flags() }, &[]);
    let hosts = read_only["mounts"].as_array().unwrap().iter().find(|it| it["destination"] == "/etc/hosts").unwrap();
    assert!(hosts["options"].as_array().unwrap().contains(&json!("ro")));
    let init = build_with(&Flags { init: true, ..flags() }, &[]);
    assert_eq!(init["process"]["args"], json!(["/dev/bundle-init", "init", "--", "x"]));
    assert_eq!(destinations(&init).last(), Some(&"/dev/bundle-init"));
}

#[test]
fn flags_are_kept_without_what_they_came_from() {
    let dir = std::env::temp_dir().join(format!("rt-bundle-flags-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name).to_str().unwrap().to_owned()
    };
    let given = Flags {
        env: words(&["B=flag", "PATH"]),
        env_file: vec![file("env", "A=1\nB=file\n# x\nNOBODY_HAS_THIS\n")],
        label: words(&["l=flag"]),
        label_file: vec![file("labels", "l=file\nm=1\n")],
        security_opt: vec![format!("seccomp={}", file("profile", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#))],
        ..flags()
    };
    let image = Execution { env: words(&["NOBODY_HAS_THIS=image"]), ..Execution::default() };
    let kept = check(&image, &given, false).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let stored: Flags = serde_json::from_value(serde_json::to_value(&kept).unwrap()).unwrap();
    assert_eq!(stored, kept);
    assert_eq!(
        labels(&image, &stored).unwrap().into_iter().collect::<Vec<_>>(),
        [("l".to_owned(), "flag".to_owned()), ("m".to_owned(), "1".to_owned())]
    );
    let built = document(&image, &stored, &["x"]).unwrap();
    let environment = built["process"]["env"].as_array().unwrap();
    assert!(environment.contains(&json!("A=1")) && environment.contains(&json!("B=flag")), "{environment:?}");
    assert!(!built["process"]["env"].to_string().contains("NOBODY"), "{environment:?}");
    assert_eq!(built["linux"]["seccomp"], json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    // A row of an older program has less in it.
    assert_eq!(serde_json::from_str::<Flags>("{}").unwrap(), Flags::default());
}

#[test]
fn paths_are_hidden_and_shown() {
    let paths = |options: &[&str]| {
        let built = with(|it| it.security_opt = words(options));
        (built["linux"]["maskedPaths"].to_string(), built["linux"]["readonlyPaths"].to_string())
    };
    let (masked, read_only) = paths(&["mask=/secret:/other", "unmask=/proc/kcore:/proc/s*"]);
    assert!(masked.contains("/secret") && masked.contains("/other") && masked.contains("/proc/acpi"));
    assert!(!masked.contains("kcore") && !masked.contains("/proc/scsi") && !read_only.contains("/proc/sys"));
    assert_eq!(paths(&["systempaths=unconfined"]), ("null".to_owned(), "null".to_owned()));
    assert_eq!(paths(&["unmask=ALL", "mask=/a"]).0, r#"["/a"]"#);
}

#[test]
fn devices_and_their_rules() {
    let built = with(|it| {
        it.device = words(&["/dev/null:/dev/mine:r"]);
        it.device_cgroup_rule = words(&["c 42:* rwm", "b *:7 r"]);
    });
    let node = &built["linux"]["devices"][0];
    assert_eq!((&node["path"], &node["major"], &node["minor"]), (&json!("/dev/mine"), &json!(1), &json!(3)));
    assert!(node.get("access").is_none());
    let rules = built["linux"]["resources"]["devices"].as_array().unwrap();
    for rule in [
        json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}),
        json!({"allow": true, "type": "c", "major": 42, "access": "rwm"}),
        json!({"allow": true, "type": "b", "minor": 7, "access": "r"}),
    ] {
        assert!(rules.contains(&rule), "{rule}");
    }
    let all = with(|it| it.privileged = true);
    assert!(all["linux"]["devices"].as_array().unwrap().iter().any(|it| it["path"] == "/dev/kmsg"));
    assert!(!all["linux"]["devices"].to_string().contains("\"/dev/null\""));
}

#[test]
fn cgroups_have_parents() {
    let under = |parent: &str| cgroup(&Flags { cgroup_parent: Some(parent.into()), ..flags() }, "x").unwrap();
    assert_eq!(cgroup(&flags(), "x").unwrap(), "/bundle-x");
    assert_eq!(
        (under("/a/b/"), under("a"), under("/")),
        ("/a/b/bundle-x".into(), "/a/bundle-x".into(), "/bundle-x".into())
    );
}
