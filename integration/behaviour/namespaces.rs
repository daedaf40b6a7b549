//! Namespaces made and joined, and what belongs to them: id maps, clocks, names, kernel parameters,
//! network devices.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

use harness::{Bundle, Place, host, wait_until};
use serde_json::json;

/// The document's word, the file below /proc/PID/ns, unshare(1)'s option.
const KINDS: [(&str, &str, &str); 8] = [
    ("pid", "pid", "--pid"),
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("mount", "mnt", "--mount"),
    ("cgroup", "cgroup", "--cgroup"),
    ("time", "time", "--time"),
    ("user", "user", "--user"),
];

fn own(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}")).unwrap().display().to_string()
}

/// A bundle that shows the namespaces of its program.
fn showing(place: &Place) -> Bundle<'_> {
    let script = "for n in pid net ipc uts mnt cgroup time user; do echo $n $(readlink /proc/self/ns/$n); done";
    let mut bundle = place.bundle(script);
    // A joined mount namespace keeps what is done to it: the root should not be remounted there.
    bundle.set("/root/readonly", json!(false));
    bundle
}

/// What such a bundle has shown of one namespace.
fn shown(text: &str, file: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix(&format!("{file} ")))
        .unwrap_or_else(|| panic!("no {file} in {text}"))
        .to_owned()
}

/// A process that holds namespaces until the test ends.
struct Holder(Child);

impl Holder {
    fn new(options: &[&str]) -> Holder {
        let mut command = Command::new("unshare");
        command.args(options).args(["sleep", "1000"]).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        // unshare itself stays where it forks.
        let done = if options.contains(&"--fork") { "unshare" } else { "sleep" };
        let holder = Holder(child);
        wait_until("the holder", || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == done));
        holder
    }

    /// With a forked child: the two kinds that a process gets for its children alone.
    fn path(&self, file: &str) -> String {
        let file = if ["pid", "time"].contains(&file) { format!("{file}_for_children") } else { file.to_owned() };
        let path = format!("/proc/{}/ns/{file}", self.0.id());
        // There is none before it has a first process.
        wait_until(&path, || fs::read_link(&path).is_ok());
        path
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn new_namespaces() {
    let place = Place::new();
    let mut bundle = showing(&place);
    bundle.with_user_namespace();
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    let text = bundle.run("c").ok().stdout;
    for (_, file, _) in KINDS {
        assert_ne!(shown(&text, file), own(file), "{file}");
    }
}

#[test]
fn namespaces_that_are_not_named_are_the_callers() {
    let place = Place::new();
    for (kind, file, _) in KINDS.iter().filter(|(kind, ..)| !["user", "time", "mount"].contains(kind)) {
        let mut bundle = showing(&place);
        bundle.namespace(kind, None);
        match *kind {
            "uts" => drop(bundle.set("/hostname", json!(null))),
            "network" => {
                // The host's sysfs cannot be mounted for another network than one's own; a bind mount can.
                let sys = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]});
                bundle.set("/mounts/5", sys);
                bundle.config["mounts"].as_array_mut().unwrap().truncate(6);
            }
            _ => {}
        }
        let text = bundle.run("c").ok().stdout;
        for (_, other, _) in KINDS.iter().filter(|(other, ..)| !["user", "time"].contains(other)) {
            assert_eq!(shown(&text, other) == own(other), other == file, "{other} without {kind}");
        }
    }
}

#[test]
fn joined_namespaces() {
    let place = Place::new();
    for (kind, file, option) in KINDS.iter().filter(|(kind, ..)| *kind != "user") {
        let options: &[&str] = match *kind {
            "pid" => &["--pid", "--fork", "--kill-child"],
            "mount" => &["--mount", "--propagation", "private"],
            _ => &[option],
        };
        let holder = Holder::new(options);
        let path = holder.path(file);
        let mut bundle = showing(&place);
        bundle.namespace(kind, Some(&path));
        if *kind == "uts" {
            bundle.set("/hostname", json!(null));
        }
        let wanted = fs::read_link(&path).unwrap().display().to_string();
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let text = bundle.run("c").ok().stdout;
        assert_eq!(shown(&text, file), wanted, "{kind}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "{kind}");
    }
}

#[test]
fn a_path_to_something_else_is_refused() {
    let place = Place::new();
    let file = place.dir.join("file");
    fs::write(&file, "").unwrap();
    for (kind, own_file, _) in KINDS {
        let other = if own_file == "net" { "/proc/self/ns/ipc" } else { "/proc/self/ns/net" };
        for (path, words) in [
            (other, "of another type"),
            (file.to_str().unwrap(), "no namespace file"),
            ("/no/such", "no such file or directory"),
        ] {
            let mut bundle = place.bundle("true");
            bundle.namespace(kind, Some(path));
            let index = bundle.config["linux"]["namespaces"].as_array().unwrap().len() - 1;
            bundle.run("c").fails_with(&format!("/linux/namespaces/{index}/path")).fails_with(words);
        }
    }
}

#[test]
fn a_user_namespace_maps_ids() {
    let place = Place::new();
    let mut bundle = place.bundle(
        "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u; id -G; touch /vol/made; exec sleep 100",
    );
    bundle.with_user_namespace();
    bundle.config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 200_000, "size": 10}, {"containerID": 10, "hostID": 300_000, "size": 1000}]);
    bundle.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9, 12]}));
    let volume = place.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
    bundle.push("/mounts", json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["bind"]}));
    fs::create_dir(bundle.rootfs("/vol")).unwrap();
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    place.rt(&["start", &id]).ok();
    wait_until("the file", || volume.join("made").exists());
    let words: Vec<String> = bundle.output().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words.join(" "), "0 100000 65536 0 200000 10 10 300000 1000 allow 7 8 9 12");
    let made = fs::metadata(volume.join("made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (100_007, 200_008));
    let pid = place.state(&id)["pid"].to_string();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t100007\t") && status.contains("Groups:\t200009 300002 "), "{status}");
}

#[test]
fn the_waiting_init_of_a_user_namespace_is_closed_to_it() {
    let place = Place::new();
    let mut bundle = place.bundle("true");
    bundle.with_user_namespace();
    bundle.create("c", &[]).ok();
    let pid = place.state(&place.id("c"))["pid"].to_string();
    // Who owns /proc/PID/mem may read and trace it: not the container's root while the runtime's
    // code is still in there (CVE-2016-9962).
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0);
}

#[test]
fn ids_outside_the_maps_are_refused() {
    let place = Place::new();
    for (user, field) in [
        (json!({"uid": 70_000, "gid": 0}), "/process/user/uid"),
        (json!({"uid": 0, "gid": 70_000}), "/process/user/gid"),
        (json!({"uid": 0, "gid": 0, "additionalGids": [70_000]}), "/process/user/additionalGids"),
    ] {
        let mut bundle = place.bundle("true");
        bundle.with_user_namespace().set("/process/user", user);
        bundle.run("c").fails_with(field);
        assert_eq!(place.lasting_leftovers(), Vec::<String>::new());
    }
}

#[test]
fn a_bundle_that_the_mapped_root_cannot_reach() {
    let place = Place::new();
    let mut bundle = place.bundle("echo inside");
    bundle.with_user_namespace().write();
    fs::set_permissions(&bundle.dir, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bundle.run("c").ok().stdout, "inside\n");
}

#[test]
fn a_user_namespace_is_joined_with_others() {
    let place = Place::new();
    let holder = Holder::new(&["--user", "--map-root-user", "--net", "--ipc", "--uts"]);
    let mut bundle = showing(&place);
    bundle.set("/hostname", json!(null));
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.namespace(kind, Some(&holder.path(file)));
    }
    // Group 5 is not mapped there.
    bundle.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
    let text = bundle.run("c").ok().stdout;
    for file in ["user", "net", "ipc", "uts"] {
        assert_eq!(shown(&text, file), fs::read_link(holder.path(file)).unwrap().display().to_string());
    }
    for file in ["pid", "mnt", "cgroup"] {
        assert_ne!(shown(&text, file), own(file));
    }
}

#[test]
fn a_user_namespace_is_joined_alone() {
    let place = Place::new();
    let holder = Holder::new(&["--user"]);
    // What newuidmap(1) would do.
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", holder.0.id()), "0 100000 65536").unwrap();
    }
    let mut bundle = showing(&place);
    bundle.namespace("user", Some(&holder.path("user")));
    let text = bundle.run("c").ok().stdout;
    assert_eq!(shown(&text, "user"), fs::read_link(holder.path("user")).unwrap().display().to_string());
    assert_ne!(shown(&text, "net"), own("net"));
}

#[test]
fn a_new_user_namespace_with_a_joined_network() {
    let place = Place::new();
    let holder = Holder::new(&["--net", "--ipc"]);
    let mut bundle = showing(&place);
    bundle.with_user_namespace();
    bundle.namespace("network", Some(&holder.path("net"))).namespace("ipc", Some(&holder.path("ipc")));
    // sysfs belongs to the network namespace, which is not the container's.
    bundle.config["mounts"].as_array_mut().unwrap().truncate(4);
    let text = bundle.run("c").ok().stdout;
    for file in ["net", "ipc"] {
        assert_eq!(shown(&text, file), fs::read_link(holder.path(file)).unwrap().display().to_string());
    }
    assert_ne!(shown(&text, "user"), own("user"));
}

#[test]
fn clocks_with_offsets() {
    let place = Place::new();
    let mut bundle = place.bundle("cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets");
    bundle.push("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 5_000_000, "nanosecs": 7}, "monotonic": {"secs": 86_400}}),
    );
    let text = bundle.run("c").ok().stdout;
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words[0].parse::<u64>().unwrap() >= 5_000_000, "{text}");
    assert_eq!(words[1..], ["monotonic", "86400", "0", "boottime", "5000000", "7"]);
    let own: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(own < 5_000_000.0, "the runtime's clock is the host's");
    bundle.set("/linux/namespaces/6", json!({"type": "user"}));
    bundle.run("c").fails_with("/linux");
}

#[test]
fn a_cgroup_namespace_starts_at_the_containers_group() {
    let place = Place::new();
    let mut bundle = place.bundle("cut -d: -f3 /proc/self/cgroup | sort -u; sleep 0.1");
    assert_eq!(bundle.run("c").ok().stdout, "/\n");
    bundle.namespace("cgroup", None);
    let shown = bundle.run("c").ok().stdout;
    assert!(shown.lines().any(|line| line == format!("/{}", place.id("c"))), "{shown}");
}

#[test]
fn names_of_the_container() {
    let place = Place::new();
    let mut bundle = place.bundle("hostname; cat /proc/sys/kernel/domainname");
    bundle.set("/hostname", json!("a-name.example")).set("/domainname", json!("domain.example"));
    let own = host("hostname").stdout;
    assert_eq!(bundle.run("c").ok().stdout, "a-name.example\ndomain.example\n");
    // Without an own UTS namespace they would be the host's.
    bundle.namespace("uts", None);
    bundle.run("c").fails_with("/hostname");
    bundle.set("/hostname", json!(null));
    bundle.run("c").fails_with("/domainname");
    assert_eq!(host("hostname").stdout, own);
}

#[test]
fn the_loopback_is_up() {
    let place = Place::new();
    let bundle = place.bundle("ip -o link show lo; ip -o addr show lo");
    let text = bundle.run("c").ok().stdout;
    assert!(text.contains(",UP") && text.contains("127.0.0.1/8"), "{text}");
}

#[test]
fn kernel_parameters() {
    let place = Place::new();
    let mut bundle = place.bundle("cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax fs/mqueue/msg_max net/ipv4/conf/lo/rp_filter kernel/domainname");
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "fs.mqueue.msg_max": "9",
        "net/ipv4/conf/lo/rp_filter": "2", "kernel.domainname": "d.example"}),
    );
    let files = "cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax fs/mqueue/msg_max net/ipv4/conf/lo/rp_filter kernel/domainname";
    let before = host(files).stdout;
    assert_eq!(bundle.run("c").ok().stdout, "1\n12345\n9\n2\nd.example\n");
    assert_eq!(host(files).stdout, before, "the host's stay");
}

#[test]
fn kernel_parameters_of_the_host_are_refused() {
    let place = Place::new();
    for (key, namespace) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
        ("kernel.core_pattern", ""),
        ("vm.swappiness", ""),
        ("kernel.hostname.x", ""),
        ("net/../kernel/core_pattern", ""),
        ("", ""),
    ] {
        let mut bundle = place.bundle("true");
        bundle.set("/linux/sysctl", json!({key: "1"}));
        if !namespace.is_empty() {
            bundle.namespace(namespace, None);
            bundle.set("/hostname", json!(null));
        }
        bundle.run("c").fails_with("/linux/sysctl");
    }
}

/// Makes a network device of whatever type this kernel has.
fn network_device(name: &str) -> bool {
    ["dummy", "veth"].iter().any(|kind| host(&format!("ip link add {name} type {kind}")).code == 0)
        || host(&format!("ip tuntap add dev {name} mode tun")).code == 0
}

#[test]
fn network_devices_move_with_their_addresses() {
    // Short: 15 characters are a device's longest name.
    let name = format!("rt{}", std::process::id() % 10_000_000);
    if !network_device(&name) {
        eprintln!("skipped: no network device can be made here");
        return;
    }
    let place = Place::new();
    host(&format!("ip addr add 10.99.3.7/24 dev {name} && ip link set {name} mtu 1400 up")).ok();
    let mut bundle = place.bundle("ip -o addr show inside; ip -o link show inside");
    bundle.set("/linux/netDevices", json!({&name: {"name": "inside"}}));
    let text = bundle.run("c").ok().stdout;
    assert!(text.contains("10.99.3.7/24") && text.contains("mtu 1400") && text.contains("UP"), "{text}");
    // A device without a home goes with its namespace.
    wait_until("the end of the device", || host(&format!("ip link show {name}")).code != 0);
    // A missing one is an error, and so is a container in the host's network.
    bundle.run("c").fails_with(&format!("/linux/netDevices/{name}"));
    bundle.namespace("network", None);
    bundle.run("c").fails_with("/linux/netDevices");
}
