//! Which network a container has: one of ours, several, the host's, another container's, none.

use crate::bed::{Host, Namespace, until};

#[test]
fn the_usual_network_is_made_at_its_first_use() {
    let host = Host::new("usual");
    assert_eq!(host.run(&["network", "ls", "-q"]).ok().out, "");
    // A new namespace has what the machine has.
    host.net.sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
    let done = host.run(&["run", "--rm", "it", "sh", "-c", "ip -4 addr show eth0; ip route; cat /etc/hosts"]).ok();
    assert!(done.out.contains("inet 10.80.0.2/16"), "{}", done.out);
    assert!(done.out.contains("default via 10.80.0.1 dev eth0"), "{}", done.out);
    assert!(done.out.contains("10.80.0.2\t"), "{}", done.out);
    // What changes for the whole machine is said, once.
    assert!(done.err.contains("net.ipv4.ip_forward = 1 (was 0)"), "{}", done.err);
    assert_eq!(host.run(&["network", "ls", "-q"]).ok().out, "bridge\n");
    assert_eq!(host.net.sh("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    let done = host.run(&["run", "--rm", "it", "ping", "-c1", "-W2", "10.80.0.1"]).ok();
    assert_eq!(done.err, "");
    // The host's own devices are seen by --network host alone.
    host.net.sh("ip link add mark type bridge");
    let mark = |words: &[&str]| {
        let words = [&["run", "--rm"], words, &["it", "ip", "link"]].concat();
        host.run(&words).ok().out.contains("mark")
    };
    assert!(mark(&["--network", "host"]));
    assert!(!mark(&["--network", "none"]) && !mark(&[]) && !mark(&["--net", "default"]));
    let none = host.run(&["run", "--rm", "--network", "none", "it", "ip", "-o", "link"]).ok().out;
    assert_eq!(none.lines().count(), 1, "{none}");
    host.is_clean();
}

#[test]
fn a_container_in_several_networks() {
    let host = Host::new("several");
    for (name, subnet) in [("one", "10.1.0.0/24"), ("two", "10.2.0.0/24")] {
        host.run(&["network", "create", "--subnet", subnet, name]).ok();
    }
    host.detached("both", &["--network", "name=one,ip=10.1.0.9", "--network", "two"], "sleep 100");
    let addresses = host.exec("both", "ip -o -4 addr; ip route");
    assert!(addresses.contains("eth0    inet 10.1.0.9/24") && addresses.contains("eth1    inet 10.2.0.2/24"));
    assert_eq!(addresses.matches("default via").count(), 1, "{addresses}");
    host.detached("first", &["--network", "one"], "sleep 100");
    host.detached("second", &["--network", "two"], "sleep 100");
    assert!(host.does("both", "ping -c1 -W2 first") && host.does("both", "ping -c1 -W2 second"));
    assert!(host.does("first", "ping -c1 -W2 both") && host.does("second", "ping -c1 -W2 both"));
    let second = host.inspect("second", ".NetworkSettings.Networks.two.IPAddress");
    assert!(!host.does("first", &format!("ping -c1 -W1 {second}")), "networks are isolated");
    host.run(&["rm", "-f", "both", "first", "second"]).ok();
    host.is_clean();
}

/// As in a pod: programs of several containers that share one network, and are found under one address.
#[test]
fn containers_with_one_network() {
    let host = Host::new("pod");
    host.detached("pod", &["--ipc", "shareable", "--hostname", "pod"], "sleep 100");
    host.web("web", &["--network", "container:pod", "--ipc", "container:pod", "--pid", "container:pod"]);
    let address = host.address("pod");
    until("it answers", || host.net.does(&format!("curl -sf -m 2 http://{address}/ | grep -qx web")));
    assert_eq!(host.exec("pod", "wget -qO- http://127.0.0.1/"), "web\n");
    assert_eq!(host.exec("web", "cat /etc/hosts"), host.exec("pod", "cat /etc/hosts"));
    assert!(host.exec("web", "ps").contains("sleep 100"));
    host.run(&["run", "--network", "container:pod", "-p", "80", "it", "true"]).fails(125, "give it there");
    host.run(&["run", "--network", "container:none-such", "it", "true"]).fails(125, "none-such");
    host.run(&["network", "connect", "bridge", "web"]).fails(1, "container:pod");
    host.run(&["rm", "-f", "web", "pod"]).ok();
    host.run(&["ps", "-aq"]).ok();
    let left: Vec<String> = host.run(&["ps", "-aq"]).ok().out.lines().map(str::to_owned).collect();
    for id in left {
        host.run(&["rm", "-f", &id]).ok();
    }
    host.is_clean();
}

#[test]
fn a_namespace_that_somebody_else_has_made() {
    let host = Host::new("path");
    let other = Namespace::new();
    other.sh("ip link add theirs type bridge");
    let path = format!("ns:/proc/{}/ns/net", other.keeper());
    let links = host.run(&["run", "--rm", "--network", &path, "it", "ip", "link"]).ok().out;
    assert!(links.contains("theirs"), "{links}");
    host.run(&["run", "--rm", "--network", "ns:/etc/passwd", "it", "true"]).fails(125, "ns:/etc/passwd");
    host.run(&["run", "--rm", "--network", "ns:/none/such", "it", "true"]).fails(125, "ns:/none/such");
    host.is_clean();
}

/// The kernel lets only who owns a network namespace change it: it must be of the container's own user namespace.
#[test]
fn a_container_with_users_of_its_own_owns_its_network() {
    let host = Host::new("users");
    let words = ["run", "-d", "--name", "own", "--userns", "auto", "--cap-add", "NET_ADMIN", "it", "sleep", "100"];
    host.run(&words).ok();
    assert!(host.exec("own", "ip -4 addr show eth0").contains("inet 10.80.0.2/16"));
    assert!(host.does("own", "ping -c1 -W2 10.80.0.1"));
    assert!(host.does("own", "ip link add dummy0 type bridge"));
    assert_eq!(host.exec("own", "ls /sys/class/net | grep eth0"), "eth0\n");
    // A new run has a new namespace, and the same address.
    host.run(&["restart", "-t", "0", "own"]).ok();
    assert!(host.exec("own", "ip -4 addr show eth0").contains("inet 10.80.0.2/16"));
    host.run(&["rm", "-f", "own"]).ok();
    host.is_clean();
}

#[test]
fn other_runtimes_get_the_same() {
    let host = Host::new("runtimes");
    for runtime in ["runc", "crun"] {
        for users in [&[][..], &["--userns", "auto"]] {
            let words =
                [&["--runtime", runtime, "run", "--rm"], users, &["it", "ping", "-c1", "-W2", "10.80.0.1"]].concat();
            let mut command = host.command(&words);
            // crun 1.8 takes a cgroup2 without controllers for its only one.
            let line = "mount -t tmpfs none /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
            let program = command.get_program().to_owned();
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let mut inner = std::process::Command::new("unshare");
            inner.args(["-m", "sh", "-c", line, "sh"]).arg(program).args(arguments);
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => inner.env(name, value),
                    None => inner.env_remove(name),
                };
            }
            command = inner;
            crate::bed::Done::of(&mut command, &words).ok();
        }
    }
    host.is_clean();
}

#[test]
fn a_restart_keeps_address_and_a_policy_too() {
    let host = Host::new("restart");
    host.detached("again", &["--restart", "always"], "ip -o -4 addr show eth0; sleep 0.3");
    until("it ran twice", || host.run(&["logs", "again"]).out.lines().count() >= 2);
    let logs = host.run(&["logs", "again"]).ok().out;
    assert!(logs.lines().all(|it| it.contains("inet 10.80.0.2/16")), "{logs}");
    host.run(&["stop", "-t", "0", "again"]).ok();
    host.run(&["run", "--rm", "it", "true"]).ok();
    host.run(&["start", "again"]).ok();
    assert_eq!(host.address("again"), "10.80.0.2", "who has stopped keeps it");
    host.run(&["rm", "-f", "again"]).ok();
    host.is_clean();
}

/// Plugins of the Container Network Interface make the network in our place.
#[test]
fn a_network_of_plugins() {
    let host = Host::new("cni");
    let dir = host.bed.0.text("net.d");
    std::fs::create_dir(&dir).unwrap();
    let data = host.bed.0.text("leases");
    let config = format!(
        r#"{{"cniVersion": "0.4.0", "name": "plug", "plugins": [
            {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
              "ipam": {{"type": "host-local", "dataDir": "{data}", "ranges": [[{{"subnet": "10.9.0.0/24"}}]],
                        "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
            {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
    );
    std::fs::write(format!("{dir}/10-plug.conflist"), config).unwrap();
    let run = |words: &[&str]| {
        let mut command = host.command(words);
        command.env("NETCONFPATH", &dir);
        crate::bed::Done::of(command.stdin(std::process::Stdio::null()), words)
    };
    let script = "mkdir /www; echo web >/www/index.html; exec httpd -f -p 80 -h /www";
    run(&["run", "-d", "--name", "web", "--network", "cni:plug", "-p", "8080:80", "it", "sh", "-c", script]).ok();
    assert!(host.exec("web", "ip -o -4 addr show eth0; cat /etc/hosts").contains("10.9.0.2"));
    until("by the plugin's port", || host.net.does("curl -sf -m 2 http://10.9.0.1:8080/ | grep -qx web"));
    assert!(std::path::Path::new(&format!("{data}/plug/10.9.0.2")).exists());
    run(&["run", "--rm", "--network", "cni:none-such", "it", "true"]).fails(125, "there are: plug");
    run(&["run", "--rm", "--network", "cni:plug", "--userns", "auto", "it", "true"]).fails(125, "--userns");
    host.run(&["rm", "-f", "web"]).ok();
    until("the plugins have taken it back", || !std::path::Path::new(&format!("{data}/plug/10.9.0.2")).exists());
    until("and its rules", || !host.net.does("iptables-save -t nat | grep -q 8080"));
    host.net.sh("ip link del cni0");
    // The kernel's tables of the plugins stay with the namespace.
    host.net.sh("nft flush ruleset");
    host.is_clean();
}

/// Containers that runtimes have of themselves, by hooks.
#[test]
fn guests_of_other_runtimes() {
    let host = Host::new("guests");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "front"]).ok();
    host.detached("ours", &["--network", "front"], "sleep 1000");
    let bundle = crate::harness::bundle().display().to_string();
    for runtime in [crate::harness::rt().display().to_string(), "runc".to_owned()] {
        let dir = host.bed.0.text("guest");
        let words = [
            "export-bundle",
            "it",
            &dir,
            "--",
            "sh",
            "-c",
            "mkdir /www; echo guest >/www/index.html; exec httpd -f -p 80 -h /www",
        ];
        host.run(&words).ok();
        let script = "import json, sys; path = sys.argv[1] + '/config.json'; it = json.load(open(path)); \
            hook = lambda *more: [{'path': sys.argv[2], 'env': ['BUNDLE_ROOT=' + sys.argv[3], 'PATH=/usr/bin:/bin'], \
                'args': ['bundle', 'network', 'hook', *more, 'front']}]; \
            it['hooks'] = {'createRuntime': hook('-p', '8080:80', '--alias', 'visitor'), 'poststop': hook()}; \
            json.dump(it, open(path, 'w'))";
        crate::bed::sh(&format!("python3 -c \"{script}\" {dir} {bundle} {}", host.bed.0.text("store")));
        let root = host.bed.0.text("guests");
        let guest = |line: &str| host.net.sh(&format!("{runtime} --root {root} {line}"));
        guest(&format!("run --detach --bundle {dir} some-guest </dev/null >/dev/null 2>&1"));
        until("by its name", || host.does("ours", "timeout 3 wget -qO- http://some-guest/ | grep -qx guest"));
        assert!(host.does("ours", "timeout 3 wget -qO- http://visitor/ | grep -qx guest"));
        assert!(host.net.does("curl -sf -m 2 http://127.0.0.1:8080/ | grep -qx guest"));
        let shown = host.run(&["network", "inspect", "front"]).ok().out;
        assert!(shown.contains("\"some-guest\""), "{shown}");
        host.run(&["network", "rm", "front"]).fails(1, "in use by ours, some-guest");
        guest("delete --force some-guest");
        assert!(!host.run(&["network", "inspect", "front"]).ok().out.contains("some-guest"));
        assert!(!host.net.does("curl -sf -m 1 http://127.0.0.1:8080/"));
        // Nobody calls a hook for it.
        guest(&format!("run --detach --bundle {dir} some-guest </dev/null >/dev/null 2>&1"));
        crate::bed::sh(&format!(
            "python3 -c \"import json; path = '{dir}/config.json'; it = json.load(open(path)); del it['hooks']; json.dump(it, open(path, 'w'))\""
        ));
        let pid = guest("state some-guest | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"pid\"])'");
        crate::bed::kill("KILL", pid.trim().parse().unwrap());
        until("it is dead", || !std::path::Path::new(&format!("/proc/{}/root/bin", pid.trim())).exists());
        // Who dies has lost its root before the kernel calls it dead.
        until("the next command has taken it away", || {
            host.run(&["ps"]).ok();
            !host.run(&["network", "inspect", "front"]).ok().out.contains("some-guest")
        });
        guest("delete --force some-guest");
        crate::bed::sh(&format!("rm -rf {dir}"));
    }
    host.run(&["rm", "-f", "ours"]).ok();
    host.is_clean();
}

#[test]
fn bad_words_change_nothing() {
    let host = Host::new("bad");
    for (words, said) in [
        (&["--network", "none-such"][..], "no such network: none-such"),
        (&["--network", "a/b"], "--network"),
        (&["--network", "host", "--ip", "10.0.0.1"], "--ip"),
        (&["--network", "none", "--link", "xx"], "--link"),
        (&["--ip", "10.80.0.300"], "not an IPv4 address"),
        (&["--ip", "10.99.0.1"], "no subnet"),
        (&["--ip", "10.80.0.1"], "gateway"),
        (&["--ip", "10.80.255.255"], "first or last"),
        (&["--ip6", "fd00::1"], "no subnet"),
        (&["--mac-address", "01:00:00:00:00:01"], "--mac-address"),
        (&["--link", "none-such"], "none-such"),
        (&["--network-alias", "a b"], "host's name"),
        (&["--network", "container:"], "--network"),
        (&["--dns", "x"], "--dns"),
    ] {
        let words = [&["run", "--name", "bad"], words, &["it", "true"]].concat();
        host.run(&words).fails(125, said);
        assert_eq!(host.run(&["ps", "-aq"]).ok().out, "", "{words:?}");
    }
    assert!(!host.net.sh("ip link").contains("bundle0"));
    host.is_clean();
}
