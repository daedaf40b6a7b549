//! Projects as people have them: the counter of Flask and Redis, and a site of five containers.

use crate::bed::{Project, until};
use crate::hosts::archive;

const APP: &str = r#"
import os, sys, flask, redis
store = redis.Redis(host=os.environ.get("STORE", "redis"), port=6379)
if sys.argv[1:] == ["migrate"]:
    if store.get("version"):
        sys.exit(0)
    store.set("version", os.environ["VERSION"])
    sys.exit(0)
app = flask.Flask(__name__)
@app.route("/")
def count():
    version = (store.get("version") or b"none").decode()
    return "seen %d times, version %s, by %s\n" % (store.incr("hits"), version, os.uname().nodename)
app.run(host="0.0.0.0", port=5000)
"#;

/// The images `python` (with Flask and Redis's client) and `redis`, of this machine's programs.
fn images(it: &Project) {
    let python = "/usr/bin/python3.11 $(find /usr/lib/python3.11/lib-dynload /usr/lib/python3 -name '*.so')";
    let more = "mkdir -p usr/lib; cp -r /usr/lib/python3.11 /usr/lib/python3 usr/lib/; rm -rf usr/lib/python3.11/test";
    it.host.run(&["import", &archive(&it.host, "python", python, more), "python"]).ok();
    let redis = archive(&it.host, "redis", "/usr/bin/redis-server /usr/bin/redis-cli", "mkdir data");
    let command = r#"CMD ["/usr/bin/redis-server", "--dir", "/data", "--appendonly", "yes", "--protected-mode", "no"]"#;
    it.host.run(&["import", "-c", command, &redis, "redis"]).ok();
    it.write("app.py", APP);
    it.write("Dockerfile", "FROM python\nCOPY app.py /app.py\nENTRYPOINT [\"/usr/bin/python3.11\", \"/app.py\"]\n");
}

fn ask(it: &Project, port: u16) -> String {
    it.host.net.sh(&format!("curl -s -m 5 http://127.0.0.1:{port}/ || true"))
}

fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}

fn count(text: &str) -> u32 {
    text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Both of them on one host: the images take longer than all the rest.
#[test]
fn a_counter_and_a_site() {
    let it = Project::new("examples", "");
    images(&it);
    a_counter_of_flask_and_redis(&it);
    a_site_of_nginx_two_apps_redis_and_a_migration(&it);
    it.is_clean();
}

fn a_counter_of_flask_and_redis(it: &Project) {
    it.write(
        "compose.yaml",
        "
version: '3'
services:
  web:
    build: .
    ports: ['5000:5000']
    stop_grace_period: 1s
  redis:
    image: redis
    volumes: ['hits:/data']
volumes:
  hits:
",
    );
    let said = it.run(&["up", "-d"]).ok().err;
    assert!(said.contains("compose.yaml:2:10: version says nothing any more"), "{said}");
    until("it counts", || ask(it, 5000).starts_with("seen "));
    let before = count(&ask(it, 5000));
    assert_eq!(count(&ask(it, 5000)), before + 1);
    it.run(&["restart", "redis"]).ok();
    until("it counts again", || count(&ask(it, 5000)) > before + 1);
    // What was counted is on a volume, which another container has next.
    let ids = it.ids();
    it.run(&["down"]).ok();
    it.run(&["up", "-d"]).ok();
    until("it counts on", || count(&ask(it, 5000)) > before + 2);
    assert_ne!(ids, it.ids());
    // The program has changed: it is built anew, and Redis is left alone.
    it.write("app.py", &APP.replace("seen %d times", "counted %d times"));
    let ids = it.ids();
    it.run(&["up", "-d", "--build"]).ok();
    until("the new one counts", || ask(it, 5000).starts_with("counted "));
    assert_eq!(ids[0], it.ids()[0]);
    assert_ne!(ids[1], it.ids()[1]);
    it.run(&["down", "-v", "--rmi", "local"]).ok();
}

fn a_site_of_nginx_two_apps_redis_and_a_migration(it: &Project) {
    it.write("app.py", APP);
    it.write(
        "compose.yaml",
        "
x-app: &app
  build: .
  image: site-app
  environment: {STORE: store, VERSION: '${VERSION:-7}'}
  stop_grace_period: 0s
services:
  front:
    image: nginx
    ports: ['127.0.0.1:8088:80']
    configs: [{source: nginx, target: /etc/nginx/nginx.conf}]
    depends_on: [app]
    stop_grace_period: 0s
  app:
    <<: *app
    deploy: {replicas: 2}
    networks: [default, back]
    depends_on:
      migration: {condition: service_completed_successfully}
      redis: {condition: service_healthy}
  migration:
    <<: *app
    command: migrate
    networks: [back]
    depends_on: {redis: {condition: service_healthy}}
  redis:
    image: redis
    networks: {back: {aliases: [store]}}
    volumes: ['data:/data']
    healthcheck: {test: [CMD, /usr/bin/redis-cli, ping], interval: 100ms, retries: 50}
    stop_grace_period: 1s
networks: {back: {internal: true}}
volumes: {data: }
configs:
  nginx:
    content: |
      user root; worker_processes 1; pid /run/nginx.pid; error_log stderr notice; daemon off;
      events {}
      http {
        access_log /dev/stdout;
        upstream apps { server app:5000; }
        server { listen 80; location / { proxy_pass http://apps; proxy_set_header Host $$host; } }
      }
",
    );
    let more = "mkdir -p etc/nginx var/log/nginx var/lib/nginx";
    let nginx = archive(&it.host, "nginx", "/usr/sbin/nginx", more);
    it.host.run(&["import", "-c", r#"CMD ["/usr/sbin/nginx"]"#, &nginx, "nginx"]).ok();
    let said = it.run(&["up", "-d"]).ok().err;
    let line = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} in {said}"));
    assert!(line("Container p-redis-1  Healthy") < line("Container p-migration-1  Starting"), "{said}");
    assert!(line("Container p-migration-1  Exited") < line("Container p-app-1  Starting"), "{said}");
    assert!(line("Container p-app-2  Started") < line("Container p-front-1  Starting"), "{said}");
    assert_eq!(it.ids().len(), 5);
    let answers = || {
        (0..100).any(|_| {
            ask(it, 8088).starts_with("seen ") || {
                pause();
                false
            }
        })
    };
    assert!(answers(), "{:?} {}", ask(it, 8088), it.run(&["logs"]).ok().err);
    let mut seen: Vec<String> = (0..20).map(|_| ask(it, 8088)).collect();
    assert!(seen.iter().all(|it| it.contains("version 7")), "{seen:?}");
    seen = seen.iter().filter_map(|it| it.trim().rsplit(' ').next().map(str::to_owned)).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2, "both answer: {seen:?}");
    // The store is in a network of its own: who is in front does not reach it.
    it.run(&[
        "exec",
        "-T",
        "app",
        "/usr/bin/python3.11",
        "-c",
        "import socket; socket.create_connection(('store', 6379), 2)",
    ])
    .ok();
    let front = it.run(&["exec", "-T", "front", "/usr/sbin/nginx", "-t"]).ok();
    assert!(front.err.contains("syntax is ok"), "{}", front.err);
    let ids = it.ids();
    it.run(&["up", "-d"]).ok();
    assert_eq!(it.ids(), ids);
    // A migration that fails keeps the apps from starting.
    it.run(&["down"]).ok();
    it.write("app.py", &APP.replace("sys.exit(0)", "sys.exit(1)"));
    it.run(&["up", "-d", "--build"])
        .fails(1, "service app waits for migration: container p-migration-1 has ended with status 1");
    let state = |name: &str| it.ps().iter().find(|it| it["Name"] == name).map(|it| it["State"].clone());
    assert_eq!(state("p-front-1").unwrap(), "created");
    it.run(&["down", "-v"]).ok();
}
