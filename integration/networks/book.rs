//! What the teaching project's chapters on networks show, done here.
//!
//! | chapter | shown by |
//! |---|---|
//! | 6.3 addresses | [`a_whole_subnet_is_handed_out_and_comes_back`], [`killed_in_the_middle_of_a_lease`]; a /16 in `network/leases.rs` |
//! | 6.4, 6.5 bridges, ports | `networks.rs`, `ports.rs` |
//! | 6.6 across hosts | `wide.rs` |
//! | 7.1 nginx | [`nginx_behind_a_port_is_asked_committed_and_run_again`] |
//! | 7.2 Flask and Redis | [`a_counter_of_two_containers`] |

use std::process::Stdio;
use std::time::Duration;

use crate::bed::{Host, archive, until};

#[test]
fn a_whole_subnet_is_handed_out_and_comes_back() {
    let host = Host::new("leases");
    host.run(&["network", "create", "--subnet", "10.1.0.0/24", "one"]).ok();
    let mut all = std::collections::BTreeSet::new();
    // An address is leased when the container is made: it need not run.
    for number in 0..253 {
        host.run(&["create", "--name", &format!("c{number}"), "--network", "one", "it"]).ok();
    }
    let shown = host.run(&["network", "inspect", "one"]).ok().json();
    for container in shown[0]["Containers"].as_object().unwrap().values() {
        let address = container["IPv4Address"].as_str().unwrap().trim_end_matches("/24").to_owned();
        assert!(all.insert(address.parse::<std::net::Ipv4Addr>().unwrap()), "{address} is there twice");
    }
    assert_eq!(all.len(), 253);
    assert_eq!((all.first().unwrap().octets()[3], all.last().unwrap().octets()[3]), (2, 254));
    let full = host.run(&["create", "--name", "more", "--network", "one", "it"]);
    full.fails(1, "network one has no free address left in 10.1.0.0/24: 253 are held");
    assert_eq!(host.run(&["ps", "-aq", "--filter", "name=more"]).ok().out, "");
    host.run(&["rm", "c77", "c5"]).ok();
    for (name, address) in [("more", "10.1.0.79"), ("again", "10.1.0.7")] {
        host.run(&["create", "--name", name, "--network", "one", "it"]).ok();
        assert_eq!(host.address(name), address, "the one that has rested longest");
    }
    let ids = host.run(&["ps", "-aq"]).ok().out;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    host.run(&[&["rm"], &ids[..]].concat()).ok();
    host.is_clean();
}

#[test]
fn killed_in_the_middle_of_a_lease() {
    let host = Host::new("killed");
    host.run(&["network", "create", "--subnet", "10.1.0.0/25", "one"]).ok();
    // 64 at once, every other one killed at some moment: of the rest each has an address of its own.
    let mut children: Vec<_> = (0..64)
        .map(|number| {
            let name = format!("c{number}");
            let words = ["create", "--name", &name, "--network", "one", "it"];
            let child = host.command(&words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            (number, child.unwrap())
        })
        .collect();
    for (number, child) in &mut children {
        if *number % 2 == 1 {
            std::thread::sleep(Duration::from_micros(u64::from(*number as u32) * 137 % 3000));
            let _ = child.kill();
        }
    }
    for (number, child) in &mut children {
        let status = child.wait().unwrap();
        assert!(*number % 2 == 1 || status.success(), "{number}: {status}");
    }
    let shown = host.run(&["network", "inspect", "one"]).ok().json();
    let containers = shown[0]["Containers"].as_object().unwrap();
    let mut addresses: Vec<&str> = containers.values().map(|it| it["IPv4Address"].as_str().unwrap()).collect();
    addresses.sort_unstable();
    let count = addresses.len();
    addresses.dedup();
    assert_eq!(addresses.len(), count, "none twice");
    assert!(count >= 32 && !addresses.contains(&""), "{addresses:?}");
    // And none is lost: what the killed ones had is free, or a container's that is there.
    let ids = host.run(&["ps", "-aq"]).ok().out;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    host.run(&[&["rm"], &ids[..]].concat()).ok();
    for number in 0..125 {
        host.run(&["create", "--name", &format!("d{number}"), "--network", "one", "it"]).ok();
    }
    host.run(&["create", "--network", "one", "it"]).fails(1, "no free address");
    let ids = host.run(&["ps", "-aq"]).ok().out;
    let ids: Vec<&str> = ids.split_whitespace().collect();
    host.run(&[&["rm"], &ids[..]].concat()).ok();
    host.run(&["prune", "-f"]).ok();
    host.is_clean();
}

#[test]
fn nginx_behind_a_port_is_asked_committed_and_run_again() {
    let host = Host::new("nginx");
    let config = "user root; worker_processes 1; pid /run/nginx.pid; error_log stderr notice; events {} \
        http { access_log /dev/stdout; server { listen 80; root /var/www; } }";
    let more = format!(
        "mkdir -p etc/nginx var/log/nginx var/lib/nginx var/www; echo '{config}' >etc/nginx/nginx.conf; \
         echo 'the first page' >var/www/index.html"
    );
    let archive = archive(&host, "root", "/usr/sbin/nginx", &more);
    let changes = ["-c", r#"CMD ["nginx", "-g", "daemon off;"]"#, "-c", "ENV PATH=/usr/sbin", "-c", "EXPOSE 80"];
    host.run(&[&["import"], &changes[..], &[&archive, "web:1"]].concat()).ok();
    host.run(&["run", "-d", "--name", "web", "-p", "8888:80", "web:1"]).ok();
    let ask = |what: &str| host.net.does(&format!("curl -sf -m 2 http://127.0.0.1:8888/ | grep -qx '{what}'"));
    until("it answers", || ask("the first page"));
    assert_eq!(host.run(&["port", "web"]).ok().out, "80/tcp -> 0.0.0.0:8888\n");
    std::fs::write(host.bed.0.path("page"), "the second page\n").unwrap();
    host.run(&["cp", &host.bed.0.text("page"), "web:/var/www/index.html"]).ok();
    host.run(&["commit", "web", "web:2"]).ok();
    assert!(ask("the second page"));
    host.run(&["run", "-d", "--name", "again", "-p", "8888:80", "web:2"]).fails(125, "8888");
    host.run(&["rm", "-f", "web"]).ok();
    host.run(&["start", "again"]).ok();
    until("the committed one answers", || ask("the second page"));
    host.run(&["rm", "-f", "again"]).ok();
    host.run(&["rmi", "web:2", "web:1"]).ok();
    host.is_clean();
}

#[test]
fn a_counter_of_two_containers() {
    let host = Host::new("counter");
    let program = "import os, flask, redis\n\
        app = flask.Flask(__name__)\n\
        store = redis.Redis(host=\"redis\", port=6379)\n\
        @app.route(\"/\")\n\
        def count():\n    return \"seen %d times\\n\" % store.incr(\"hits\")\n\
        app.run(host=\"0.0.0.0\", port=5000)\n";
    std::fs::write(host.bed.0.path("app.py"), program).unwrap();
    // Python's own modules in C load libraries too.
    let python = "/usr/bin/python3.11 $(find /usr/lib/python3.11/lib-dynload /usr/lib/python3 -name '*.so')";
    let more = format!(
        "cp {} app.py; mkdir -p usr/lib; cp -r /usr/lib/python3.11 /usr/lib/python3 usr/lib/; rm -rf usr/lib/python3.11/test",
        host.bed.0.text("app.py")
    );
    let app = archive(&host, "app", python, &more);
    let redis = archive(&host, "redis", "/usr/bin/redis-server", "mkdir data");
    host.run(&["import", "-c", r#"CMD ["/usr/bin/python3.11", "/app.py"]"#, &app, "app"]).ok();
    let command = r#"CMD ["/usr/bin/redis-server", "--dir", "/data", "--appendonly", "yes", "--protected-mode", "no"]"#;
    host.run(&["import", "-c", command, &redis, "redis"]).ok();
    host.run(&["network", "create", "counter"]).ok();
    host.run(&["run", "-d", "--name", "redis", "--network", "counter", "-v", "hits:/data", "redis"]).ok();
    host.run(&["run", "-d", "--name", "app", "--network", "counter", "-p", "5000:5000", "app"]).ok();
    let ask = || host.net.sh("curl -s -m 5 http://127.0.0.1:5000/ || true");
    until("it counts", || ask().starts_with("seen "));
    let count = |text: &str| text.split(' ').nth(1).and_then(|it| it.parse::<u32>().ok()).unwrap_or(0);
    let before = count(&ask());
    assert_eq!(count(&ask()), before + 1);
    host.run(&["restart", "redis"]).ok();
    until("it counts again", || count(&ask()) > before);
    host.run(&["rm", "-f", "redis"]).ok();
    host.run(&["run", "-d", "--name", "redis", "--network", "counter", "-v", "hits:/data", "redis"]).ok();
    until("another container has the data", || count(&ask()) > before + 2);
    host.run(&["rm", "-f", "app", "redis"]).ok();
    host.run(&["volume", "rm", "hits"]).ok();
    host.run(&["rmi", "app", "redis"]).ok();
    host.is_clean();
}
