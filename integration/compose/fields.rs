//! What services ask for is what their containers have.

use serde_json::json;

use crate::bed::Project;

#[test]
fn a_container_has_what_its_service_says() {
    let it = Project::new(
        "fields",
        r#"
services:
  a:
    image: it
    container_name: named
    hostname: here
    domainname: example.org
    entrypoint: [sh, -c]
    command: ["exec sleep 1000"]
    environment: {A: 1, B: "two words", C: , D: $$x}
    env_file: [{path: more.env, required: false}, {path: none.env, required: false}, {path: raw.env, format: raw}]
    labels: {team: a, com.example.n: 5}
    label_file: labels
    annotations: {note: b}
    user: "33:34"
    group_add: [4]
    working_dir: /srv
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE, CHOWN]
    security_opt: ["no-new-privileges:true"]
    read_only: true
    tmpfs: /run:size=1m
    shm_size: 1m
    ulimits: {nofile: {soft: 100, hard: 200}, nproc: 300}
    sysctls: {net.ipv4.ip_unprivileged_port_start: 0}
    init: true
    extra_hosts: ["other:192.0.2.9", "host.docker.internal:host-gateway"]
    dns_search: example.org
    mem_limit: 64m
    memswap_limit: -1
    cpus: 0.5
    cpu_shares: 100
    pids_limit: 50
    oom_score_adj: 100
    devices: ["/dev/null:/dev/mine:r"]
    stop_signal: USR1
    stop_grace_period: 100ms
    restart: on-failure:3
    logging: {driver: json-file, options: {max-size: 1m, max-file: 2}}
    expose: [8080]
    ports: [{target: 80, published: "8091", host_ip: 127.0.0.1, protocol: udp, mode: host, name: x}]
    healthcheck: {test: [CMD, "true"], interval: 1h, timeout: 5s, retries: 2, start_period: 0s}
    platform: linux/amd64
    pull_policy: never
    x-mine: {a: b}
  b:
    image: it
    command: sleep 1000
    stop_grace_period: 0s
    deploy:
      resources: {limits: {cpus: "0.25", memory: 32m, pids: 20}, reservations: {memory: 16m}}
      restart_policy: {condition: on-failure, max_attempts: 2}
      labels: {not: there}
      placement: {constraints: [a]}
    healthcheck: {disable: true}
"#,
    );
    it.write("more.env", "# x\nE=${F:-6}\nA=file\n");
    it.write("raw.env", "G='$x'\n");
    it.write("labels", "from=file\nteam=z\n");
    it.with(&[("C", "caller's")], &["up", "-d"]).ok();
    let env = it.exec("a", "env | sort | grep '^[A-G]='");
    assert_eq!(env, "A=1\nB=two words\nC=caller's\nD=$x\nE=6\nG='$x'\n");
    let seen = it.exec(
        "a",
        "hostname; pwd; id; cat /proc/self/limits | grep -E 'open files|processes' | tr -s ' '; grep -E 'CapBnd|NoNewPrivs' /proc/self/status; \
         touch /x; stat -c %a:%t:%T /dev/mine; grep -E 'other|internal' /etc/hosts | wc -l; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         cat /proc/1/oom_score_adj; grep ' /run ' /proc/mounts | grep -c size=1024k; grep search /etc/resolv.conf",
    );
    for words in [
        "here\n/srv\n",
        "uid=33(web) gid=34(web) groups=4(log),34(web)",
        "Max processes 300 300",
        "Max open files 100 200",
        "CapBnd:\t0000000000000401",
        "NoNewPrivs:\t1",
        "1:3\n2\n0\n100\n1\nsearch example.org",
    ] {
        assert!(seen.contains(words), "{words} in {seen}");
    }
    let document = it.host.run(&["inspect", "named"]).ok().json();
    let document = &document[0];
    let labels = &document["Config"]["Labels"];
    for (key, value) in [
        ("team", "a"),
        ("from", "file"),
        ("com.example.n", "5"),
        ("com.docker.compose.project", "p"),
        ("com.docker.compose.service", "a"),
        ("com.docker.compose.container-number", "1"),
        ("com.docker.compose.oneoff", "False"),
        ("com.docker.compose.project.working_dir", it.dir.to_str().unwrap()),
    ] {
        assert_eq!(labels[key], value, "{key}: {labels}");
    }
    let hash = it.run(&["config", "--hash", "b"]).ok().out;
    let of_b = it.host.run(&["inspect", "p-b-1"]).ok().json();
    assert_eq!(
        format!("b {}\n", of_b[0]["Config"]["Labels"]["com.docker.compose.config-hash"].as_str().unwrap()),
        hash
    );
    assert_eq!(of_b[0]["Config"]["Labels"].get("not"), None);
    let limit = |name: &str, file: &str| {
        let pid = it.host.inspect(name, ".State.Pid");
        let (controller, file) = file.split_once(' ').unwrap();
        crate::harness::sh(&format!(
            "cat /sys/fs/cgroup/{controller}$(grep -E '[:,]{controller}[,:]' /proc/{pid}/cgroup | cut -d: -f3)/{file}"
        ))
    };
    assert_eq!(limit("named", "memory memory.limit_in_bytes").trim(), (64 << 20).to_string());
    assert_eq!(limit("p-b-1", "memory memory.limit_in_bytes").trim(), (32 << 20).to_string());
    assert_eq!(limit("p-b-1", "memory memory.soft_limit_in_bytes").trim(), (16 << 20).to_string());
    assert_eq!(limit("p-b-1", "pids pids.max").trim(), "20");
    assert_eq!(limit("named", "pids pids.max").trim(), "50");
    let rows = it.ps();
    assert_eq!(rows[1]["Health"], "");
    let config = it.config(&[]);
    assert_eq!(
        config["services"]["a"]["ports"][0],
        json!({"host_ip": "127.0.0.1", "target": 80, "published": "8091", "protocol": "udp", "mode": "host"})
    );
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn files_come_from_everywhere() {
    let it = Project::new(
        "contents",
        "
services:
  a:
    image: it
    command: sleep 1000
    stop_grace_period: 0s
    user: '33'
    secrets: [file, {source: variable, target: there, uid: '33', gid: '34', mode: 0400}, {source: file, target: /etc/mine, mode: 0440, gid: '34'}]
    configs: [text, {source: file, target: /srv/config}]
secrets:
  file: {file: ./secret}
  variable: {environment: SECRET}
configs:
  text: {content: \"a ${B}\\nb\\n\"}
  file: {file: ./secret}
",
    );
    it.write("secret", "in a file");
    it.with(&[("SECRET", "hidden"), ("B", "filled in")], &["up", "-d"]).ok();
    let seen = it.exec(
        "a",
        "cat /run/secrets/file; echo; cat /run/secrets/there; echo; stat -c '%a %u %g' /run/secrets/there /etc/mine; cat /etc/mine; echo; cat /text /srv/config; echo x >/text || echo no; stat -c %a /text",
    );
    assert_eq!(seen, "in a file\nhidden\n400 33 34\n440 0 34\nin a file\na filled in\nb\nin a fileno\n444\n");
    // What is hidden is not in the container's own files, its settings or its image.
    let all = it.host.run(&["inspect", "p-a-1"]).ok().out;
    assert!(!all.contains("hidden"), "{all}");
    it.host.run(&["commit", "p-a-1", "committed"]).ok();
    let found = it
        .host
        .run(&["run", "--rm", "--network", "none", "committed", "sh", "-c", "cat /run/secrets/there || true"])
        .ok();
    assert_eq!(found.out, "");
    // Another content is another container.
    let before = it.ids();
    it.with(&[("SECRET", "hidden"), ("B", "filled in")], &["up", "-d"]).ok();
    assert_eq!(it.ids(), before);
    it.with(&[("SECRET", "other"), ("B", "filled in")], &["up", "-d"]).ok();
    assert_ne!(it.ids(), before);
    assert_eq!(it.exec("a", "cat /run/secrets/there"), "other");
    it.run(&["up", "-d"]).fails(1, "secret variable: the variable SECRET is not set");
    it.with(&[("SECRET", "x"), ("B", "")], &["down"]).ok();
    it.is_clean();
}

#[test]
fn networks_are_as_the_files_say() {
    let it = Project::new(
        "networks",
        "
services:
  a:
    image: it
    command: sleep 1000
    stop_grace_period: 0s
    networks:
      front: {ipv4_address: 10.50.0.77, aliases: [alpha, beta], priority: 5}
      back: {mac_address: '02:00:00:00:00:77'}
  b: {image: it, command: sleep 1000, stop_grace_period: 0s, networks: [back], links: ['a:gamma']}
  c: {image: it, command: sleep 1000, stop_grace_period: 0s, network_mode: 'service:a', pid: 'service:a', volumes_from: ['a:ro']}
  d: {image: it, command: sleep 1000, stop_grace_period: 0s, network_mode: none}
  e: {image: it, command: sleep 1000, stop_grace_period: 0s, networks: [outside]}
networks:
  front: {ipam: {config: [{subnet: 10.50.0.0/24, gateway: 10.50.0.9}]}, labels: {team: a}}
  back: {internal: true, name: the-back, driver_opts: {com.docker.network.driver.mtu: 1400}}
  outside: {external: true, name: others}
",
    );
    it.run(&["up", "-d"]).fails(1, "networks.outside: it is external, but there is no network others");
    assert!(it.host.run(&["network", "ls", "-q"]).ok().out.is_empty());
    it.host.run(&["network", "create", "others"]).ok();
    it.run(&["up", "-d"]).ok();
    assert_eq!(it.exec("a", "ip -4 -o addr show eth0").split_whitespace().nth(3), Some("10.50.0.77/24"));
    assert!(it.exec("a", "ip link show eth1").contains("mtu 1400"));
    assert!(it.exec("a", "ip link show eth1").contains("02:00:00:00:00:77"));
    assert!(it.exec("b", "nslookup a && nslookup gamma").contains("Address"));
    for name in ["a", "alpha", "beta"] {
        assert!(it.exec("a", &format!("nslookup {name}")).contains("10.50.0.77"), "{name}");
    }
    assert_eq!(it.exec("c", "ip -o addr"), it.exec("a", "ip -o addr"));
    assert!(it.exec("c", "ps").lines().filter(|it| it.contains("sleep 1000")).count() >= 2);
    assert_eq!(it.exec("d", "ip -o link | wc -l"), "1\n");
    // Who is in another one's namespaces is made anew with it.
    let before = it.ids();
    let text = std::fs::read_to_string(it.dir.join("compose.yaml")).unwrap();
    it.write(
        "compose.yaml",
        &text.replace("    networks:\n      front", "    environment: [N=1]\n    networks:\n      front"),
    );
    it.run(&["up", "-d"]).ok();
    let after = it.ids();
    assert_ne!(before[0], after[0]);
    assert_ne!(before[2], after[2]);
    assert_eq!((&before[1], &before[3]), (&after[1], &after[3]));
    assert_eq!(it.exec("c", "ip -o addr"), it.exec("a", "ip -o addr"));
    it.write("compose.yaml", &text.replace("internal: true", "internal: false"));
    it.run(&["up", "-d"]).fails(1, "network the-back was made of other words");
    it.run(&["down"]).ok();
    assert_eq!(it.host.run(&["network", "ls", "-q"]).ok().out, "others\n");
    it.host.run(&["network", "rm", "others"]).ok();
    it.is_clean();
}

#[test]
fn volumes_are_as_the_files_say() {
    let it = Project::new(
        "volumes",
        "
services:
  a:
    image: it
    command: sleep 1000
    stop_grace_period: 0s
    volumes:
      - ./made/here:/short
      - {type: bind, source: ./there, target: /long, read_only: true}
      - {type: volume, source: data, target: /data, volume: {nocopy: true}}
      - {type: volume, source: full, target: /srv}
      - {type: tmpfs, target: /mem, tmpfs: {size: 1m, mode: 0700}}
      - shared:/shared:ro
  b: {image: it, command: sleep 1000, stop_grace_period: 0s, volumes: ['data:/data'], volumes_from: [a]}
volumes:
  data: {labels: {team: a}, name: my-data}
  full:
  shared: {external: true}
",
    );
    it.run(&["up", "-d"]).fails(1, "volumes.shared: it is external, but there is no volume shared");
    it.host.run(&["volume", "create", "shared"]).ok();
    it.run(&["up", "-d"]).fails(1, "there does not exist on this machine");
    it.write("there/file", "x");
    it.run(&["up", "-d"]).ok();
    assert!(it.dir.join("made/here").is_dir());
    let seen = it.exec("a", "cat /long/file; echo; touch /long/y || echo no; stat -c %a /mem; ls /srv; touch /shared/x || echo no; touch /data/a; ls /data");
    assert_eq!(seen, "x\nno\n700\nfile\nno\na\n");
    assert_eq!(it.exec("b", "ls /data /short"), "/data:\na\n\n/short:\n");
    let volume = it.host.run(&["volume", "inspect", "my-data"]).ok().json();
    assert_eq!(volume[0]["Labels"]["com.docker.compose.volume"], "data");
    it.run(&["down", "-v"]).ok();
    assert_eq!(it.host.run(&["volume", "ls", "-q"]).ok().out, "shared\n");
    it.host.run(&["volume", "rm", "shared"]).ok();
    it.is_clean();
}
