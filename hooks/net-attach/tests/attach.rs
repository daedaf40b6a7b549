//! The hook under the real runtimes, in a network namespace of the test's own that stands for the host.

#[path = "../../../integration/harness/mod.rs"]
mod harness;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use harness::{Bundle, Done, Place, RT, crun, finish, wait_until};
use serde_json::{Value, json};

const HOOK: &str = env!("CARGO_BIN_EXE_oci-net-attach");
const BRIDGE: &str = "br-test";

/// A process with a network namespace of its own; both end with this, or with the test.
struct Netns(Child);

impl Netns {
    fn new() -> Netns {
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", "300"]);
        let netns = Netns(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        wait_until("a network namespace", || {
            let path = format!("/proc/{}", netns.0.id());
            fs::read_link(format!("{path}/ns/net")).is_ok_and(|it| it != own)
                && fs::read_to_string(format!("{path}/comm")).is_ok_and(|it| it == "sleep\n")
        });
        netns
    }

    /// Runs a line of the shell in it.
    fn sh(&self, script: &str) -> Done {
        self.run("sh", &["-c", script])
    }

    fn run(&self, program: &str, args: &[&str]) -> Done {
        finish(self.command(program, args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--").arg(program).args(args);
        command.stdin(Stdio::null());
        command
    }

    /// The names of its links.
    fn links(&self) -> BTreeSet<String> {
        let text = self.sh("ip -o link | awk -F': ' '{print $2}'").ok().stdout;
        text.lines().map(|line| line.split('@').next().unwrap().to_owned()).collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn state_dir(place: &Place) -> String {
    place.dir.join("leases").display().to_string()
}

fn bundle<'p>(place: &'p Place, script: &str) -> Bundle<'p> {
    let mut bundle = place.bundle(script);
    // crun 1.8 refuses a document of a newer version; hard limits cannot be raised everywhere.
    bundle.set("/ociVersion", json!("1.0.2")).set("/process/rlimits", json!([]));
    let args =
        json!(["oci-net-attach", "--bridge", BRIDGE, "--subnet", "10.99.0.0/24", "--state-dir", state_dir(place)]);
    for stage in ["createRuntime", "poststop"] {
        bundle.set(&format!("/hooks/{stage}"), json!([{"path": HOOK, "args": args}]));
    }
    bundle
}

fn leases(place: &Place) -> Value {
    let text = fs::read_to_string(place.dir.join(format!("leases/{BRIDGE}.json"))).unwrap_or_else(|_| "{}".into());
    serde_json::from_str(&text).unwrap()
}

/// The address of a container.
fn address(place: &Place, id: &str) -> String {
    let all = leases(place);
    let mut all = all["leases"].as_object().unwrap().iter();
    all.find(|(_, lease)| lease["id"] == id).expect("a lease").0.clone()
}

/// `RUNTIME --root … args` on the host that the namespace stands for.
fn runtime(host: &Netns, place: &Place, program: &str, args: &[&str]) -> Done {
    let root = if program == RT { place.root.clone() } else { place.dir.join("state-other") };
    let out = place.dir.join(format!("out-{}", args.last().unwrap()));
    let mut words = vec!["--root", root.to_str().unwrap()];
    words.extend(args);
    // Not a pipe: what a container holds open would have no end.
    let file = File::create(&out).unwrap();
    let mut command = host.command(program, &words);
    let mut done = finish(command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap());
    done.stdout = fs::read_to_string(out).unwrap();
    done
}

#[test]
fn containers_of_all_runtimes_reach_each_other() {
    let place = Place::new();
    let host = Netns::new();
    let before = host.links();
    let server = bundle(&place, "while true; do echo hello from $(hostname) | nc -l -p 5000; done");
    server.write();
    let id = place.id("server");
    runtime(&host, &place, RT, &["create", "--bundle", server.path(), &id]).ok();
    runtime(&host, &place, RT, &["start", &id]).ok();
    let server = address(&place, &id);
    assert_eq!(server, "10.99.0.2");
    assert_eq!(host.links().len(), before.len() + 2, "the bridge and one device");
    for program in [RT, "runc", &crun(&place)] {
        let script = format!(
            "ip -4 addr show eth0; ip -4 addr show lo; ip route; \
             for i in $(seq 100); do nc {server} 5000 </dev/null && exit; usleep 20000; done; exit 3"
        );
        let client = bundle(&place, &script);
        client.write();
        let done = runtime(&host, &place, program, &["run", "--bundle", client.path(), &place.id("client")]).ok();
        for words in ["inet 10.99.0.3/24", "inet 127.0.0.1/8", "default via 10.99.0.1 dev eth0", "hello from"] {
            assert!(done.stdout.contains(words), "{program}: no {words} in {}", done.stdout);
        }
        assert_eq!(leases(&place)["leases"].as_object().unwrap().len(), 1, "{program}: the lease is back");
        assert_eq!(host.links().len(), before.len() + 2, "{program}");
    }
    runtime(&host, &place, RT, &["delete", "--force", &id]).ok();
    assert_eq!(leases(&place), json!({}));
    assert_eq!(host.links(), before);
}

#[test]
fn twenty_at_once_have_addresses_of_their_own() {
    let place = Place::new();
    let host = Netns::new();
    let before = host.links();
    let bundle = bundle(&place, "exec sleep 100");
    bundle.write();
    let ids: Vec<String> = (0..20).map(|number| place.id(&format!("c{number}"))).collect();
    let all = |args: &[&str]| {
        std::thread::scope(|scope| {
            let (host, place) = (&host, &place);
            let threads: Vec<_> = ids
                .iter()
                .map(|id| scope.spawn(move || runtime(host, place, RT, &[args, &[id.as_str()]].concat()).ok()))
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    };
    all(&["create", "--bundle", bundle.path()]);
    let taken: BTreeSet<String> = ids.iter().map(|id| address(&place, id)).collect();
    assert_eq!(taken.len(), 20);
    assert_eq!(host.links().len(), before.len() + 21);
    all(&["delete", "--force"]);
    assert_eq!(leases(&place), json!({}));
    assert_eq!(host.links(), before);
}

/// The hook by hand, with a state of these fields.
fn hook(host: &Netns, place: &Place, prefix: &str, options: &str, state: Value) -> Done {
    host.sh(&format!("echo '{state}' | {prefix} {HOOK} --bridge {BRIDGE} --state-dir {} {options}", state_dir(place)))
}

#[test]
fn an_address_can_be_asked_for() {
    let place = Place::new();
    let (host, first, second) = (Netns::new(), Netns::new(), Netns::new());
    let state = |id: &str, netns: &Netns, address: &str| json!({"id": id, "status": "created", "pid": netns.0.id(), "annotations": {"io.oci-net-attach.address": address}});
    hook(&host, &place, "", "", state("a", &first, "10.99.0.77")).ok();
    assert_eq!(address(&place, "a"), "10.99.0.77");
    assert!(first.sh("ip addr").ok().stdout.contains("inet 10.99.0.77/24"));
    hook(&host, &place, "", "", state("b", &second, "10.99.0.77")).fails_with("10.99.0.77 is taken by a");
    hook(&host, &place, "", "", state("b", &second, "10.99.0.1")).fails_with("no address of containers");
    hook(&host, &place, "", "", state("b", &second, "10.98.0.1")).fails_with("no address of containers");
    hook(&host, &place, "", "", state("b", &second, "x")).fails_with("not an IPv4 address");
    hook(&host, &place, "", "", state("a", &second, "10.99.0.78")).fails_with("a has the address 10.99.0.77 already");
    hook(&host, &place, "", "", json!({"id": "a", "status": "stopped"})).ok();
    assert_eq!(leases(&place), json!({}));
}

#[test]
fn bad_input_changes_nothing() {
    let place = Place::new();
    let (host, container) = (Netns::new(), Netns::new());
    let before = host.links();
    let good = json!({"id": "a", "status": "created", "pid": container.0.id()});
    for (options, words) in [
        ("--subnet 10.99.0.0", "is not a subnet"),
        ("--subnet 10.99.0.1/24", "bits behind the prefix"),
        ("--subnet 10.99.0.0/31", "leaves room"),
        ("--interface a/b", "a link's name"),
        ("--interface lo", "has a device lo already"),
        ("--bridge lo", "cannot be used multiple times"),
        ("--nonsense", "unexpected argument"),
    ] {
        hook(&host, &place, "", options, good.clone()).fails_with(words);
    }
    hook(&host, &place, "", "", json!({"status": "created"})).fails_with("not the state of a container");
    hook(&host, &place, "", "", json!({"id": "a", "status": "created"})).fails_with("names no process");
    let own = json!({"id": "a", "status": "created", "pid": host.0.id()});
    hook(&host, &place, "", "", own).fails_with("no network namespace of its own");
    assert!(!place.dir.join("leases").exists());
    assert_eq!(host.links(), before);

    // A link of that name that is no bridge; and a last step that fails: all before it is undone.
    host.sh(&format!("ip link add {BRIDGE} type veth peer name other")).ok();
    hook(&host, &place, "", "", good.clone()).fails_with("is not a bridge");
    host.sh(&format!("ip link del {BRIDGE}")).ok();
    let other_route = "ip link add other0 type veth peer name other1; ip link set other0 up; ip link set other1 up; \
        ip addr add 10.98.0.2/24 dev other0; ip route add default via 10.98.0.1";
    container.sh(other_route).ok();
    let before = host.links();
    hook(&host, &place, "", "", good).fails_with("the default route");
    assert_eq!(leases(&place), json!({}));
    assert_eq!(host.links(), before);
}

/// A hook that is killed at any of its requests to the kernel leaks nothing: in a subnet with room for
/// one container, the next one gets the address once the first is gone.
#[test]
fn a_killed_hook_costs_no_address() {
    let place = Place::new();
    let host = Netns::new();
    let before = host.links();
    let options = "--subnet 10.99.0.0/30";
    for request in 1.. {
        assert!(request < 50, "the hook never came to its end");
        let killed = Netns::new();
        let state = |id: &str, netns: &Netns| json!({"id": id, "status": "created", "pid": netns.0.id()});
        let strace = format!("strace -f -o /dev/null -e trace=sendto -e inject=sendto:signal=KILL:when={request}");
        let done = hook(&host, &place, &strace, options, state("killed", &killed));
        if done.code == 0 {
            assert!(request > 8, "only {request} requests");
            hook(&host, &place, "", options, json!({"id": "killed", "status": "stopped"})).ok();
            break;
        }
        assert_eq!(done.code, 137, "{}", done.stderr);
        drop(killed);
        let next = Netns::new();
        // The kernel takes a namespace apart a little after its last process.
        wait_until("the address to be free again", || hook(&host, &place, "", options, state("next", &next)).code == 0);
        assert_eq!(address(&place, "next"), "10.99.0.2");
        hook(&host, &place, "", options, json!({"id": "next", "status": "stopped"})).ok();
        assert_eq!(leases(&place), json!({}), "at request {request}");
        assert_eq!(host.links(), before, "at request {request}");
    }
}

#[test]
fn hooks_d_file_has_both_stages() {
    let file: Value = serde_json::from_str(include_str!("../oci-net-attach.json")).unwrap();
    assert_eq!(file["version"], "1.0.0");
    assert_eq!(file["hook"]["path"], "/usr/libexec/oci/hooks.d/oci-net-attach");
    assert_eq!(file["stages"], json!(["createRuntime", "poststop"]));
}

/// By its hooks.d file, as it is installed.
#[test]
fn under_podman() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(top.join("integration/engines/podman"))
        .args([RT, "--only", "hook: network"])
        .env("RT_HOOKS", Path::new(HOOK).parent().unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.ends_with("podman: 1 passed, 0 failed\n"), "{text}");
}
