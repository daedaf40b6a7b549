//! Golden plans: the real documents of engines, planned for a host of known facts. And what holds
//! for every input, tried on many: the documents broken at random, and random words.
//!
//! `RT_BLESS=1 cargo test golden` writes the plans anew; read the difference before it is kept.

mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::host::Host;
use super::{Request, describe, names, options, plan};
use crate::cgroup::layout::{Hierarchy, Layout};
use crate::config::load;
use crate::config::problem::{Problem, Problems};
use crate::config::types::{Spec, Str};
use crate::config::validate::{cpu_list, validate};

const DOCUMENTS: [(&str, &str); 6] = [
    ("docker", include_str!("testdata/docker.json")),
    ("podman", include_str!("testdata/podman.json")),
    ("buildah", include_str!("testdata/buildah.json")),
    ("containerd", include_str!("testdata/containerd.json")),
    ("cri-container", include_str!("testdata/cri-container.json")),
    ("cri-sandbox", include_str!("testdata/cri-sandbox.json")),
];

/// A machine with cgroup v1, where everything is allowed.
fn host() -> Host {
    let controllers = [
        "cpu,cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls,net_prio",
        "hugetlb",
        "perf_event",
        "name=systemd",
    ];
    let v1 = controllers
        .iter()
        .map(|list| Hierarchy {
            mount: format!("/sys/fs/cgroup/{}", list.trim_start_matches("name=")),
            controllers: list.split(',').map(str::to_owned).collect(),
        })
        .collect();
    Host {
        layout: Layout { v1, v2: Some("/sys/fs/cgroup/unified".to_owned()), controllers: Vec::new() },
        own_cgroup: None,
        without_cgroups: false,
        systemd: None,
        capabilities: (1 << 41) - 1,
        apparmor: true,
        selinux: false,
        resctrl: None,
    }
}

fn request() -> Request {
    Request { id: "golden".to_owned(), bundle: PathBuf::from("/bundle"), ..Request::default() }
}

fn fatal(problems: &Problems) -> Vec<&Problem> {
    problems.fatal().collect()
}

/// The same machine with cgroup v2 alone.
fn host_v2() -> Host {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    let layout = Layout {
        v2: Some("/sys/fs/cgroup".to_owned()),
        controllers: controllers.map(str::to_owned).to_vec(),
        ..Layout::default()
    };
    Host { layout, ..host() }
}

#[test]
fn golden_plans_of_engines() {
    for (name, text) in DOCUMENTS {
        golden(name, text, &host());
    }
}

#[test]
fn golden_plans_on_cgroup_v2() {
    for (name, text) in DOCUMENTS.iter().filter(|(name, _)| ["docker", "cri-container"].contains(name)) {
        golden(&format!("{name}.v2"), text, &host_v2());
    }
}

#[test]
fn golden_plan_with_systemd() {
    let systemd = super::host::Systemd { version: 252, control_group: String::new(), user: false };
    let mut document: Value = serde_json::from_str(DOCUMENTS[0].1).unwrap();
    document["linux"]["cgroupsPath"] = json!("system-web.slice:docker:0123");
    document["linux"]["resources"] = json!({"memory": {"limit": 67_108_864, "swap": 134_217_728}, "cpu": {"shares": 512, "quota": 50_000},
            "pids": {"limit": 100}});
    document["annotations"]["org.systemd.property.TimeoutStopUSec"] = json!("uint64 10000000");
    let text = document.to_string();
    golden("docker.systemd", &text, &Host { systemd: Some(systemd), ..host_v2() });
}

/// Compares a plan with the one that is kept.
#[track_caller]
fn golden(name: &str, text: &str, host: &Host) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("plan/testdata/{name}.plan"));
    let mut problems = Problems::default();
    let spec: Spec<'_> = load::parse(text, &mut problems).unwrap();
    validate(&spec, &mut problems);
    let plan = plan(&spec, &request(), host, &mut problems);
    assert_eq!(fatal(&problems), Vec::<&Problem>::new(), "{name}");
    let planned: String =
        describe::text(&describe::lines(&plan))
            .lines()
            // How many instructions a filter takes is the machine's business.
            .map(|line| {
                if line.trim_start().starts_with("seccomp ") { "    seccomp\n".to_owned() } else { format!("{line}\n") }
            })
            .collect();
    if std::env::var_os("RT_BLESS").is_some() {
        std::fs::write(&golden, &planned).unwrap();
    }
    let known = std::fs::read_to_string(&golden).unwrap();
    for (number, (planned, known)) in planned.lines().zip(known.lines()).enumerate() {
        assert_eq!(planned, known, "{name}.plan line {}", number + 1);
    }
    assert_eq!(planned.lines().count(), known.lines().count(), "{name}.plan");
}

/// What `create` refuses on this host is refused by name, not left out.
#[test]
fn what_the_host_lacks_is_named() {
    let (_, text) = DOCUMENTS[0];
    let mut problems = Problems::default();
    let mut document: Value = serde_json::from_str(text).unwrap();
    document["process"]["apparmorProfile"] = json!("docker-default");
    document["process"]["selinuxLabel"] = json!("label");
    document["linux"]["mountLabel"] = json!("label");
    document["linux"]["intelRdt"] = json!({});
    document["linux"]["resources"] =
        json!({"pids": {"limit": 5}, "memory": {"limit": 1}, "unified": {"memory.high": "1"}});
    let text = document.to_string();
    let spec: Spec<'_> = load::parse(&text, &mut problems).unwrap();
    let mut host = host();
    host.apparmor = false;
    host.layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    let _ = plan(&spec, &request(), &host, &mut problems);
    let found: Vec<&str> = fatal(&problems).iter().map(|problem| &*problem.pointer).collect();
    assert_eq!(
        found,
        [
            "/linux/resources/pids/limit",
            "/linux/resources/unified/memory.high",
            "/process/apparmorProfile",
            "/process/selinuxLabel",
            "/linux/mountLabel",
            "/linux/intelRdt",
        ]
    );
}

/// The library that others read such documents with reads the same out of them.
#[test]
fn another_reader_agrees() {
    for (name, text) in DOCUMENTS {
        let ours: Spec<'_> = serde_json::from_str(text).unwrap();
        let theirs: oci_spec::runtime::Spec = serde_json::from_str(text).unwrap();
        let (process, other) = (ours.process.as_ref().unwrap(), theirs.process().as_ref().unwrap());
        assert_eq!(&*ours.oci_version, theirs.version(), "{name}");
        assert_eq!(
            ours.hostname.as_deref().unwrap_or_default(),
            theirs.hostname().as_deref().unwrap_or_default(),
            "{name}"
        );
        assert_eq!(strings(&process.args), *other.args().as_ref().unwrap(), "{name}");
        assert_eq!(strings(&process.env), *other.env().as_ref().unwrap(), "{name}");
        assert_eq!(Path::new(&*process.cwd), other.cwd(), "{name}");
        assert_eq!((process.user.uid, process.user.gid), (other.user().uid(), other.user().gid()), "{name}");
        assert_eq!(process.rlimits.len(), other.rlimits().as_ref().map_or(0, Vec::len), "{name}");
        let mounts = theirs.mounts().as_ref().unwrap();
        assert_eq!(ours.mounts.len(), mounts.len(), "{name}");
        for (mount, other) in ours.mounts.iter().zip(mounts) {
            assert_eq!(Path::new(&*mount.destination), other.destination(), "{name}");
            assert_eq!(strings(&mount.options), other.options().clone().unwrap_or_default(), "{name}");
        }
        let linux = theirs.linux().as_ref().unwrap();
        let namespaces = linux.namespaces().as_ref().unwrap();
        assert_eq!(ours.linux.namespaces.len(), namespaces.len(), "{name}");
        for (namespace, other) in ours.linux.namespaces.iter().zip(namespaces) {
            assert_eq!(
                namespace.kind.to_string(),
                serde_json::to_value(other.typ()).unwrap().as_str().unwrap(),
                "{name}"
            );
            assert_eq!(namespace.path.as_deref().map(Path::new), other.path().as_deref(), "{name}");
        }
        assert_eq!(strings(&ours.linux.masked_paths), linux.masked_paths().clone().unwrap_or_default(), "{name}");
        let rules = |count: Option<usize>| count.unwrap_or(0);
        assert_eq!(
            rules(ours.linux.seccomp.as_ref().map(|it| it.syscalls.len())),
            rules(linux.seccomp().as_ref().and_then(|it| it.syscalls().as_ref().map(Vec::len))),
            "{name}"
        );
        // And what we write is what we read.
        let again = serde_json::to_string(&ours).unwrap();
        assert_eq!(serde_json::from_str::<Spec<'_>>(&again).unwrap(), ours, "{name}");
    }
}

fn strings(list: &[Str<'_>]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

/// xorshift64*, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.roll(of.len())]
    }
}

/// Runs the way of a document from text to plan; what comes out does not matter.
fn read(text: &str) {
    let mut problems = Problems::default();
    let parsed = load::parse::<Spec<'_>>(text, &mut problems);
    assert!(parsed.is_some() || problems.fatal().count() > 0, "refused without a reason");
    let salvaged = if parsed.is_none() { load::salvage(text) } else { None };
    let spec = parsed.or_else(|| serde_json::from_str(salvaged.as_deref()?).ok());
    let Some(spec) = spec else { return };
    validate(&spec, &mut problems);
    if problems.fatal().count() == 0 {
        let plan = plan(&spec, &request(), &host(), &mut problems);
        let _ = describe::text(&describe::lines(&plan));
    }
}

#[track_caller]
fn reads_without_panic(name: &str, text: &str) {
    assert!(catch_unwind(AssertUnwindSafe(|| read(text))).is_ok(), "{name}: {text}");
}

#[test]
fn no_broken_text_is_too_much() {
    let mut dice = Dice(1);
    for (name, text) in DOCUMENTS {
        for _ in 0..60 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len());
                bytes[at] =
                    if dice.roll(2) == 0 { bytes[at] ^ (1 << dice.roll(7)) } else { *dice.pick(b"{}[]\",:0-eE\\ntf") };
            }
            if dice.roll(4) == 0 {
                bytes.truncate(dice.roll(bytes.len()));
            }
            reads_without_panic(name, &String::from_utf8_lossy(&bytes));
        }
    }
}

/// A value that does not belong where it is put, mostly.
fn stranger(dice: &mut Dice) -> Value {
    let words = [
        "",
        "/",
        "..",
        "a",
        "\u{0}",
        "\u{1F600}",
        "/proc/self",
        "pid",
        "c",
        "SCMP_ACT_ERRNO",
        "0-3,7",
        "4294967296",
        "-1",
        "bind",
        "ro",
        "1.0.0",
        "rshared",
        "../..",
    ];
    match dice.roll(9) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(*dice.pick(&[0, -1, 1, 7, 255, 65_536, 4_294_967_295, 4_294_967_296, i64::MIN, i64::MAX])),
        3 => json!(*dice.pick(&[u64::MAX, 1 << 63])),
        4 => json!(*dice.pick(&[0.5, 1e300, -0.0])),
        5 => json!([]),
        6 => json!({}),
        7 => json!([stranger(dice)]),
        _ => json!(*dice.pick(&words)),
    }
}

/// Changes one place of a document: something goes, or something else stands there.
fn disturb(value: &mut Value, dice: &mut Dice) {
    let stop = dice.roll(4) == 0;
    match value {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = dice.pick(&keys);
            match (stop, dice.roll(2)) {
                (true, 0) => drop(map.remove(key)),
                (true, _) => drop(map.insert(key.clone(), stranger(dice))),
                (false, _) => disturb(&mut map[key], dice),
            }
        }
        Value::Array(list) if !list.is_empty() => {
            let at = dice.roll(list.len());
            match (stop, dice.roll(3)) {
                (true, 0) => drop(list.remove(at)),
                (true, 1) => list.push(list[at].clone()),
                (true, _) => list[at] = stranger(dice),
                (false, _) => disturb(&mut list[at], dice),
            }
        }
        other => *other = stranger(dice),
    }
}

#[test]
fn no_strange_document_is_too_much() {
    let mut dice = Dice(2);
    for (name, text) in DOCUMENTS {
        let mut document: Value = serde_json::from_str(text).unwrap();
        // The filters are the largest part and have tests of their own.
        if let Some(syscalls) = document.pointer_mut("/linux/seccomp/syscalls").and_then(Value::as_array_mut) {
            syscalls.truncate(3);
        }
        for _ in 0..400 {
            let mut strange = document.clone();
            for _ in 0..=dice.roll(4) {
                disturb(&mut strange, &mut dice);
            }
            reads_without_panic(name, &strange.to_string());
        }
    }
}

#[test]
fn cleaned_paths_are_clean() {
    let mut dice = Dice(3);
    let parts = ["..", ".", "", "a", "b.c", "...", "ü", " ", "..a"];
    for _ in 0..20_000 {
        let length = dice.roll(7);
        let path = (0..length).map(|_| *dice.pick(&parts)).collect::<Vec<_>>().join("/");
        let clean = options::clean(&path);
        assert!(clean.starts_with('/'), "{path}");
        assert!(clean == "/" || clean[1..].split('/').all(|part| !["", ".", ".."].contains(&part)), "{path}: {clean}");
        assert_eq!(options::clean(&clean), clean, "{path}");
        // Every name that is left was there, in this order.
        let mut names = path.split('/');
        assert!(
            clean.split('/').filter(|part| !part.is_empty()).all(|part| names.any(|name| name == part)),
            "{path}: {clean}"
        );
    }
}

/// A word that a list of options does not keep as the file system's own has set something, or is
/// one of those that ask for what is so anyway.
#[test]
fn no_mount_option_is_lost() {
    let mut dice = Dice(4);
    let words = [
        "ro",
        "rw",
        "rro",
        "nosuid",
        "rnosuid",
        "noatime",
        "relatime",
        "bind",
        "rbind",
        "size=1m",
        "mode=0755",
        "rsize=4096",
        "r",
        "",
        "x",
        "rshared",
        "slave",
        "remount",
        "idmap",
        "ridmap",
        "tmpcopyup",
        "sync",
        "dirsync",
        "lazytime",
        "defaults",
        "RO",
        "ro ",
        "nouser_xattr",
        "ü",
    ];
    let idle = ["", "defaults"];
    for _ in 0..5_000 {
        let length = dice.roll(8);
        let list: Vec<Str<'_>> = (0..length).map(|_| Str::from(*dice.pick(&words))).collect();
        let parsed = options::parse(&list);
        for (position, word) in &parsed.data {
            assert_eq!(*word, &*list[*position]);
        }
        for (position, word) in list.iter().enumerate() {
            let alone = [word.clone()];
            let does_something = options::parse(&alone) != options::Options::default();
            assert!(does_something || idle.contains(&&**word), "{word:?} is lost");
            let kept = parsed.data.iter().any(|(at, _)| *at == position);
            assert_eq!(kept, !options::parse(&alone).data.is_empty(), "{word:?} in {list:?}");
        }
    }
}

#[test]
fn cpu_lists_come_back() {
    let mut dice = Dice(5);
    for _ in 0..2_000 {
        let wanted: Vec<bool> = (0..dice.roll(200)).map(|_| dice.roll(3) == 0).collect();
        let mut ranges = Vec::new();
        let mut at = 0;
        while at < wanted.len() {
            let end = (at..wanted.len()).find(|bit| !wanted[*bit]).unwrap_or(wanted.len());
            match end - at {
                0 => {}
                1 => ranges.push(at.to_string()),
                _ => ranges.push(format!("{at}-{}", end - 1)),
            }
            at = end.max(at + 1);
        }
        if ranges.is_empty() {
            continue;
        }
        let mask = cpu_list(&ranges.join(",")).unwrap();
        for (bit, wanted) in wanted.iter().enumerate() {
            assert_eq!(mask.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0), *wanted, "{ranges:?}");
        }
        assert_eq!(
            mask.iter().map(|word| word.count_ones() as usize).sum::<usize>(),
            wanted.iter().filter(|it| **it).count()
        );
    }
    for bad in [
        "",
        ",",
        "1,",
        "-",
        "1-",
        "-1",
        "3-1",
        "1-2-3",
        "a",
        "0x1",
        "+1",
        "1;2",
        "8192",
        "0-18446744073709551615",
        "1\n2",
        "٣",
    ] {
        assert!(cpu_list(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn signals_are_in_range_whatever_they_are_called() {
    let mut dice = Dice(6);
    let parts = [
        "SIG",
        "RTMIN",
        "RTMAX",
        "+",
        "-",
        "0",
        "1",
        "9",
        "31",
        "64",
        "99999999999",
        "KILL",
        "term",
        "hUp",
        " ",
        "\u{0}",
        "ſ",
        "İ",
    ];
    for _ in 0..20_000 {
        let length = dice.roll(5);
        let text: String = (0..length).map(|_| *dice.pick(&parts)).collect();
        if let Some(signal) = names::signal(&text) {
            assert!((0..=64).contains(&signal), "{text}: {signal}");
            assert_eq!(names::signal(&signal.to_string()), Some(signal));
            assert_eq!(names::signal(&text.to_ascii_lowercase()), Some(signal), "{text}");
        }
    }
    for number in 0..=64 {
        assert_eq!(names::signal(&number.to_string()), Some(number));
    }
}
