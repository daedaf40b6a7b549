//! Kills at any moment: the next command leaves nothing behind, and whoever lives goes on talking.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::bed::{Host, until};

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Whoever it is, if it is still there.
fn kill(pid: i32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// What there is of this host's networks: devices, rules' elements, names.
fn there_is(host: &Host) -> (Vec<String>, String, Vec<String>) {
    let links = host.net.sh("ip -o link show type veth | cut -d: -f2 | cut -d@ -f1");
    let mut links: Vec<String> = links.split_whitespace().map(str::to_owned).collect();
    links.sort();
    let rules = host.net.sh("nft -nn list ruleset | grep -A3 'map any4' | grep -o 'elements.*' || true");
    let store = host.bed.0.text("store");
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/run/bundle/networks").into_iter().flatten().flatten() {
        if std::fs::read_to_string(entry.path().join("network")).unwrap_or_default().contains(&store) {
            for file in std::fs::read_dir(entry.path().join("containers")).into_iter().flatten().flatten() {
                names.push(file.file_name().to_string_lossy().into_owned());
            }
        }
    }
    (links, rules, names)
}

#[test]
fn kills_at_two_hundred_moments() {
    let host = Host::new("netkills");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "two"]).ok();
    host.web("stays", &["--network", "one", "-p", "8080:80"]);
    host.detached("asks", &["--network", "one"], "sleep 1000");
    let talks = || host.does("asks", "timeout 3 wget -qO- http://stays/ | grep -qx stays");
    until("they talk", talks);
    let before = there_is(&host);
    assert_eq!((before.0.len(), before.2.len()), (2, 2));
    let mut random = Random(11);
    for round in 0..200 {
        let operation = ["run", "stop", "connect", "disconnect", "rm", "restart"][random.below(6) as usize];
        let victim = ["command", "monitor", "server", "init"][random.below(4) as usize];
        let what = format!("round {round}: {operation}, {victim} killed");
        let run = ["run", "-d", "--name", "victim", "--network", "one", "-p", "9090:80", "it", "sleep", "1000"];
        if operation != "run" {
            host.run(&run).ok();
        }
        if operation == "disconnect" {
            host.run(&["network", "connect", "two", "victim"]).ok();
        }
        let known: Vec<i32> =
            if operation == "run" { vec![] } else { vec![host.bed.monitor("victim"), host.bed.pid("victim")] };
        let words: Vec<&str> = match operation {
            "run" => run.to_vec(),
            "stop" | "restart" => vec![operation, "-t", "0", "victim"],
            "connect" | "disconnect" => vec!["network", operation, "two", "victim"],
            _ => vec!["rm", "-f", "victim"],
        };
        let mut child: Child =
            host.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        match victim {
            "command" => kill(child.id() as i32),
            "server" => host.servers().into_iter().for_each(kill),
            "monitor" if known.is_empty() => {
                let spared = [host.bed.monitor("stays"), host.bed.monitor("asks")];
                host.bed.processes().into_iter().filter(|it| !spared.contains(it)).for_each(kill);
            }
            "monitor" => kill(known[0]),
            _ => known.get(1).into_iter().for_each(|it| kill(*it)),
        }
        let _ = child.wait();
        // The next command.
        host.run(&["ps", "-a"]).ok();
        host.run(&["network", "reload"]).ok();
        assert!(talks(), "{what}: others go on");
        let gone = host.run(&["rm", "-f", "victim"]);
        assert!(gone.status == 0 || gone.err.contains("no such container"), "{what}: {}", gone.err);
        until(&format!("{what}: {:?}", there_is(&host)), || there_is(&host) == before);
        assert!(host.net.does("curl -sf -m 2 http://127.0.0.1:8080/"), "{what}");
    }
    // Not an address is lost: as many as a new network of this size has, but for the two.
    let leases = host.run(&["network", "inspect", "one"]).ok().json();
    assert_eq!(leases[0]["Containers"].as_object().unwrap().len(), 2);
    host.run(&["rm", "-f", "stays", "asks"]).ok();
    host.is_clean();
}

/// A monitor that is killed between the exit status and the end of its networks: what there was of them is undone
/// before the next run, whether that one comes to be or not.
#[test]
fn a_start_after_a_kill() {
    let host = Host::new("netagain");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "two"]).ok();
    host.detached("stays", &["--network", "one", "--network", "two"], "sleep 1000");
    let before = there_is(&host);
    assert_eq!((before.0.len(), before.2.len()), (2, 2));
    // A runtime that does not come to the end of its work as long as there is a file.
    let slow = host.bed.0.text("slow");
    let rt = crate::harness::rt();
    std::fs::write(
        &slow,
        format!(
            "#!/bin/sh\ncase \" $* \" in *\" delete \"*) test ! -e {slow}.now || exec sleep 1000;; esac\nexec {} \"$@\"\n",
            rt.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&slow, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let killed_at_its_end = || {
        let flags = ["--network", "one", "--network", "two", "-p", "9090:80"];
        let run = ["--runtime", &slow, "run", "-d", "--name", "victim"];
        host.run(&[&run[..], &flags, &["it", "sleep", "1000"]].concat()).ok();
        let monitor = host.bed.monitor("victim");
        std::fs::write(format!("{slow}.now"), "").unwrap();
        let mut stop = host.command(&["stop", "-t", "0", "victim"]);
        let mut stop = stop.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        until("its end is written down", || host.inspect("victim", ".State.Status") == "exited");
        kill(monitor);
        std::fs::remove_file(format!("{slow}.now")).unwrap();
        assert!(stop.wait().unwrap().success());
    };
    // Somebody has its port by now.
    killed_at_its_end();
    let script = "import socket,time; s=socket.socket(); s.bind((\"0.0.0.0\",9090)); s.listen(); time.sleep(1000)";
    let taken = host.net.spawn(&format!("python3 -c '{script}'"));
    until("the port is taken", || host.net.does("ss -Hltn | grep -q :9090"));
    let failed = host.run(&["start", "victim"]);
    assert!(failed.status == 1 && failed.err.contains("9090"), "{}", failed.err);
    drop(taken);
    host.run(&["rm", "victim"]).ok();
    until(&format!("after a start that failed: {:?}", there_is(&host)), || there_is(&host) == before);
    // It is in fewer networks by now.
    killed_at_its_end();
    host.run(&["network", "disconnect", "two", "victim"]).ok();
    host.run(&["start", "victim"]).ok();
    host.run(&["rm", "-f", "victim"]).ok();
    until(&format!("after another run: {:?}", there_is(&host)), || there_is(&host) == before);
    // A name that no row is of.
    let id = host.run(&["network", "inspect", "one"]).ok().json()[0]["Id"].as_str().unwrap()[..12].to_owned();
    std::fs::write(format!("/run/bundle/networks/{id}/containers/{}", "f".repeat(64)), "{}").unwrap();
    host.run(&["network", "ls"]).ok();
    assert_eq!(there_is(&host), before);
    host.run(&["rm", "-f", "stays"]).ok();
    host.is_clean();
}

/// Sixty-four at once, in and out, with kills among them: never one address or port twice.
#[test]
fn many_at_once() {
    let host = Host::new("netmany");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    let mut children: Vec<Child> = (0..64)
        .map(|number| {
            let name = format!("c{number}");
            let words = ["run", "-d", "--name", &name, "--network", "one", "-p", "80", "it", "sleep", "1000"];
            host.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for (number, child) in children.iter_mut().enumerate() {
        if number % 4 == 3 {
            std::thread::sleep(Duration::from_millis(3));
            let _ = child.kill();
        }
    }
    for (number, child) in children.iter_mut().enumerate() {
        let status = child.wait().unwrap();
        assert!(number % 4 == 3 || status.success(), "{number}: {status}");
    }
    let names = host.run(&["ps", "--format", "{{.Names}}"]).ok().out;
    let (mut addresses, mut ports) = (Vec::new(), Vec::new());
    for name in names.lines() {
        addresses.push(host.address(name));
        ports.push(host.run(&["port", name, "80"]).ok().out);
        assert!(host.exec(name, "ip -o -4 addr show eth0").contains(&format!(" {}/24", addresses.last().unwrap())));
    }
    assert!(addresses.len() >= 48, "{}", addresses.len());
    for list in [&mut addresses, &mut ports] {
        let count = list.len();
        list.sort();
        list.dedup();
        assert_eq!(list.len(), count, "none twice");
    }
    let ids = host.run(&["ps", "-aq"]).ok().out;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    host.run(&[&["rm", "-f"], &ids[..]].concat()).ok();
    host.run(&["prune", "-f"]).ok();
    host.is_clean();
}
