//! What is rare: stores that share a host, a store of an earlier version, networks that leave containers with ports.

use crate::bed::{Bed, Host, Namespace, sh, until};

fn asks(from: &Namespace, url: &str, wanted: &str) -> bool {
    from.does(&format!("curl -gsf -m 2 http://{url}/ | grep -qx {wanted}"))
}

/// Its address may be another container's in a moment: nobody may be led there.
#[test]
fn ports_follow_a_container_from_network_to_network() {
    let host = Host::new("follow");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.run(&["network", "create", "--subnet", "10.2.0.0/24", "two"]).ok();
    host.web("web", &["--network", "one", "-p", "8080:80"]);
    until("it answers", || asks(&host.net, "127.0.0.1:8080", "web"));
    host.run(&["network", "disconnect", "one", "web"]).ok();
    host.web("other", &["--network", "one", "--ip", "10.1.0.2"]);
    until("the other one answers", || asks(&host.net, "10.1.0.2", "other"));
    assert!(!host.net.does("curl -s -m 1 http://127.0.0.1:8080/"), "a published port leads to another container");
    assert_eq!(host.run(&["port", "web"]).ok().out, "");
    // Nobody else has it meanwhile, and the next network that leads out brings it back.
    host.run(&["run", "--rm", "-p", "8080:80", "it", "true"]).fails(125, "8080");
    host.run(&["network", "connect", "two", "web"]).ok();
    until("it answers in its new network", || asks(&host.net, "127.0.0.1:8080", "web"));
    assert_eq!(host.run(&["port", "web"]).ok().out, "80/tcp -> 0.0.0.0:8080\n");
    // With two, it goes over to the other.
    host.run(&["network", "connect", "one", "web"]).ok();
    host.run(&["network", "disconnect", "two", "web"]).ok();
    until("it answers in the one that is left", || asks(&host.net, "127.0.0.1:8080", "web"));
    // By its own address too, which takes a port of the bridge that gives packets back to where they came from.
    assert!(host.does("web", "timeout 3 wget -qO- http://10.1.0.1:8080/ | grep -qx web"));
    host.run(&["rm", "-f", "web", "other"]).ok();
    // A process that forwards goes where it was told to go.
    host.web("slow", &["--network", "one", "-p", "8081:80,via=proxy"]);
    host.run(&["network", "disconnect", "one", "slow"]).fails(1, "bundle stop slow");
    until("it answers", || asks(&host.net, "127.0.0.1:8081", "slow"));
    host.run(&["rm", "-f", "slow"]).ok();
    host.is_clean();
}

/// Neither knows what the other has; the kernel does.
#[test]
fn two_stores_on_one_host() {
    let one = Host::new("store1");
    let two = Host { bed: Bed::new("store2"), net: one.net.shared() };
    // Both are asked for it while nothing of the other one's is there.
    for host in [&one, &two] {
        host.run(&["create", "--name", "web", "--network", "bridge", "it", "httpd", "-f", "-p", "80"]).ok();
        host.run(&["network", "create", "--subnet", "10.1.0.0/24", "same"]).ok();
    }
    one.run(&["start", "web"]).ok();
    let bridges = || one.net.sh("ip -o link show type bridge | wc -l");
    let addresses = || one.net.sh("ip -o -4 addr | grep -v ' lo ' | wc -l");
    let rules = || one.net.sh("nft list ruleset | wc -l");
    let before = (bridges(), addresses(), rules());
    two.run(&["start", "web"]).fails(1, "by br-");
    two.run(&["run", "--rm", "--network", "same", "it", "true"]).ok();
    one.run(&["run", "--rm", "--network", "same", "it", "true"]).fails(125, "10.1.0.0/24");
    two.run(&["network", "rm", "same"]).ok();
    one.run(&["run", "--rm", "--network", "same", "it", "true"]).ok();
    one.run(&["network", "rm", "same"]).ok();
    assert_eq!((bridges(), addresses(), rules()), before, "what was refused has left nothing");
    // One that is made while the other is there is another one.
    two.run(&["rm", "web"]).ok();
    two.run(&["network", "rm", "bridge"]).ok();
    assert!(one.does("web", "true"), "the other store's is still there");
    two.web("web", &["--network", "bridge"]);
    until("both answer", || {
        [&one, &two].iter().all(|it| it.net.does(&format!("curl -s -m 1 http://{}/", it.address("web"))))
    });
    assert_ne!(one.address("web"), two.address("web"));
    let reaches = format!("timeout 1 nc -w 1 {} 80 </dev/null", one.address("web"));
    assert!(!two.does("web", &reaches), "networks of different stores are isolated as those of one are");
    for host in [&two, &one] {
        host.run(&["rm", "-f", "web"]).ok();
        host.run(&["network", "prune", "-f"]).ok();
    }
    one.is_clean();
    two.is_clean();
}

/// A store of the version before this one, in which a container had one word for its network.
#[test]
fn a_store_of_before_keeps_its_containers() {
    let host = Host::new("before");
    for (name, network) in [("plain", "none"), ("open", "host"), ("joined", "container:open")] {
        host.run(&["create", "--name", name, "--network", network, "it", "sleep", "100"]).ok();
    }
    host.run(&["start", "open"]).ok();
    let store = host.bed.0.text("store");
    sh(&format!(
        r#"python3 - <<'END'
import sqlite3
c = sqlite3.connect("{store}/bundle.db")
c.executescript("""
DROP TRIGGER containers_leave; DROP TABLE given_back; DROP TABLE leases; DROP TABLE pools; DROP TABLE debts;
DROP TABLE endpoints; DROP TABLE networks; DROP TABLE build_cache; DROP TABLE build_mounts;
UPDATE containers SET settings = json_set(settings, '$.flags.network', json_extract(settings, '$.flags.network[0]'));
UPDATE containers SET settings = json_remove(settings, '$.flags.network') WHERE name = 'plain';
PRAGMA user_version = 2;
""")
END"#
    ));
    assert_eq!(host.bed.status("open").split(' ').next(), Some("Up"));
    for (name, network) in [("plain", "none"), ("open", "host"), ("joined", "container:open")] {
        assert_eq!(host.inspect(name, ".HostConfig.NetworkMode"), network);
    }
    host.run(&["start", "plain", "joined"]).ok();
    assert!(!host.exec("plain", "ip -o link").contains("eth0"));
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    host.run(&["network", "connect", "one", "plain"]).ok();
    assert!(host.does("plain", "ping -c1 -W2 10.1.0.1"));
    host.run(&["rm", "-f", "plain", "open", "joined"]).ok();
    host.is_clean();
}

/// It has the port for itself: whoever starts something at the moment when its container has ended gets it.
#[test]
fn a_forwarder_ends_with_its_container_and_comes_back_where_it_was_killed() {
    let host = Host::new("forwarder");
    host.web("web", &["-p", "8080:80,via=proxy"]);
    for _ in 0..20 {
        host.run(&["restart", "-t", "0", "web"]).ok();
    }
    for _ in 0..10 {
        host.run(&["run", "--rm", "-p", "8081:80,via=proxy", "it", "true"]).ok();
    }
    until("it answers", || asks(&host.net, "127.0.0.1:8080", "web"));
    let comm = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let forwarders = || {
        host.servers().into_iter().filter(|it| comm(it).windows(9).any(|it| it == b"\0forward\0")).collect::<Vec<_>>()
    };
    let [forwarder] = forwarders()[..] else { panic!("{:?}", forwarders()) };
    crate::bed::kill("KILL", forwarder);
    until("it is gone", || forwarders().is_empty());
    assert!(!host.net.does("curl -s -m 1 http://127.0.0.1:8080/"));
    // Who dies has lost its name before its sockets are closed.
    until("the next command has put it back", || {
        host.run(&["network", "reload"]).ok();
        asks(&host.net, "127.0.0.1:8080", "web")
    });
    host.run(&["rm", "-f", "web"]).ok();
    host.is_clean();
}
