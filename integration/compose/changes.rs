//! `up` and `down`: what is made, what is left alone, what is made anew.

use crate::bed::{Project, until};

const TWO: &str = "
services:
  db:
    image: it
    command: sh -c 'echo $$A >/data/a; exec sleep 1000'
    environment: {A: \"${B:-five}\"}
    volumes: ['data:/data', /anonymous]
    stop_grace_period: 0s
    healthcheck: {test: test -e /data/a, interval: 50ms}
  web:
    image: it
    command: sh -c 'mkdir /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www'
    ports: ['8099:80']
    stop_grace_period: 0s
    depends_on: {db: {condition: service_healthy}}
volumes: {data: {labels: [team=a]}}
";

#[test]
fn a_project_goes_up_stays_and_goes_down() {
    let it = Project::new("up", TWO);
    let said = it.run(&["up", "-d"]).ok().err;
    let line = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} in {said}"));
    assert!(line("Container p-db-1  Healthy") < line("Container p-web-1  Starting"), "{said}");
    assert!(line("Network p_default  Created") < line("Volume p_data  Created"), "{said}");
    let rows = it.ps();
    let column = |name: &str| rows.iter().map(|it| it[name].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(column("Name"), ["p-db-1", "p-web-1"]);
    assert_eq!(column("State"), ["running", "running"]);
    assert_eq!(column("Health"), ["healthy", ""]);
    assert_eq!(column("Ports"), ["", "0.0.0.0:8099->80/tcp"]);
    assert!(it.host.net.does("curl -sf -m 2 http://127.0.0.1:8099/"));
    let seen = it.exec("web", "wget -qO- http://web/; nslookup db | grep -c Address; hostname");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines.len(), 3, "{seen}");
    assert_eq!(lines[0], lines[2]);
    assert_eq!(it.exec("db", "cat /data/a"), "five\n");

    // Nothing has changed, so nothing is done.
    let before = it.ids();
    let started = |name: &str| it.host.inspect(name, ".State.StartedAt");
    let times = ["p-db-1", "p-web-1"].map(started);
    let said = it.run(&["up", "-d"]).ok().err;
    assert_eq!(said, " Container p-db-1  Running\n Container p-web-1  Running\n");
    assert_eq!((it.ids(), ["p-db-1", "p-web-1"].map(started)), (before.clone(), times));

    // One service has changed: it alone is made anew, and keeps what it has written on volumes.
    it.exec("db", "echo mine >/anonymous/b");
    it.with(&[("B", "six")], &["up", "-d"]).ok();
    let after = it.ids();
    assert_ne!(before[0].1, after[0].1);
    assert_eq!(before[1], after[1]);
    assert_eq!(it.exec("db", "cat /data/a /anonymous/b"), "six\nmine\n");
    it.with(&[("B", "six")], &["up", "-d", "--force-recreate", "-V", "db"]).ok();
    assert_eq!(it.exec("db", "ls -A /anonymous"), "");
    assert_eq!(it.host.run(&["volume", "ls", "-q"]).ok().out.lines().count(), 3, "the former anonymous one stays");

    it.run(&["down"]).ok();
    assert!(it.ps().is_empty());
    assert_eq!(it.host.run(&["network", "ls", "-q"]).ok().out, "");
    assert!(it.host.run(&["volume", "ls", "-q"]).ok().out.contains("p_data"));
    it.run(&["up", "-d", "db"]).ok();
    it.run(&["down", "-v"]).ok();
    it.host.run(&["volume", "prune", "-f"]).ok();
    it.is_clean();
    it.run(&["down", "-v"]).ok();
}

#[test]
fn an_image_that_has_changed_makes_its_containers_anew() {
    let it = Project::new(
        "image",
        "services: {a: {image: other, command: sleep 1000, stop_grace_period: 0s}, b: {image: it, command: sleep 1000, stop_grace_period: 0s}}",
    );
    it.host.run(&["tag", "it", "other"]).ok();
    it.run(&["up", "-d"]).ok();
    let before = it.ids();
    it.host.run(&["run", "--network", "none", "--name", "change", "it", "touch", "/new"]).ok();
    it.host.run(&["commit", "change", "other"]).ok();
    it.host.run(&["rm", "change"]).ok();
    it.run(&["up", "-d", "--no-recreate"]).ok();
    assert_eq!(before, it.ids());
    it.run(&["up", "-d"]).ok();
    let after = it.ids();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1]);
    assert_eq!(it.exec("a", "ls /new"), "/new\n");
    it.run(&["down", "-v"]).ok();
    it.is_clean();
}

#[test]
fn services_are_scaled_and_orphans_go() {
    let it = Project::new(
        "scale",
        "services:\n  a: {image: it, command: sleep 1000, stop_grace_period: 0s, scale: 2}\n  b: {image: it, command: sleep 1000, stop_grace_period: 0s}\n",
    );
    it.run(&["up", "-d"]).ok();
    let names = || it.ids().into_iter().map(|it| it.0).collect::<Vec<_>>();
    let first = it.ids();
    assert_eq!(names(), ["p-a-1", "p-a-2", "p-b-1"]);
    it.run(&["up", "-d", "--scale", "a=3"]).ok();
    assert_eq!(names(), ["p-a-1", "p-a-2", "p-a-3", "p-b-1"]);
    // A hole is filled, and what is too much goes from the end.
    it.host.run(&["rm", "-f", "p-a-1"]).ok();
    it.run(&["up", "-d", "--scale", "a=2"]).ok();
    assert_eq!(names(), ["p-a-2", "p-a-3", "p-b-1"]);
    it.run(&["up", "-d"]).ok();
    assert_eq!(names(), ["p-a-2", "p-a-3", "p-b-1"]);
    assert_eq!(it.ids().last(), first.last());
    for (words, why) in [("c=1", "no such service"), ("a=x", "SERVICE=NUMBER"), ("a", "SERVICE=NUMBER")] {
        it.run(&["up", "-d", "--scale", words]).fails(1, why);
    }
    it.write("compose.yaml", "services: {b: {image: it, command: sleep 1000, stop_grace_period: 0s}}");
    let said = it.run(&["up", "-d"]).ok().err;
    assert!(said.contains("not in the files any more: p-a-2, p-a-3"), "{said}");
    it.run(&["up", "-d", "--remove-orphans"]).ok();
    assert_eq!(names(), ["p-b-1"]);
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn what_waits_is_told_why_in_vain() {
    let it = Project::new(
        "waits",
        "
services:
  bad: {image: it, command: sh -c 'exit 3', stop_grace_period: 0s}
  good: {image: it, command: 'true', stop_grace_period: 0s}
  sick: {image: it, command: sleep 1000, stop_grace_period: 0s, healthcheck: {test: exit 1, interval: 20ms, retries: 2}}
  a: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: {good: {condition: service_completed_successfully}}}
  b: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: {bad: {condition: service_completed_successfully}}}
  c: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: [b]}
  d: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: {sick: {condition: service_healthy}}}
  e: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: {sick: {condition: service_healthy, required: false}}}
  f: {image: it, command: sleep 1000, stop_grace_period: 0s, depends_on: {a: {condition: service_healthy}}}
",
    );
    it.run(&["up", "-d", "a"]).ok();
    it.run(&["up", "-d", "b"]).fails(1, "service b waits for bad: container p-bad-1 has ended with status 3");
    it.run(&["up", "-d", "c"]).fails(1, "container p-bad-1 has ended with status 3");
    it.run(&["up", "-d", "d"]).fails(1, "service d waits for sick: container p-sick-1 is unhealthy");
    let said = it.run(&["up", "-d", "e"]).ok().err;
    assert!(said.contains("goes on without sick"), "{said}");
    it.run(&["up", "-d", "f"]).fails(1, "p-a-1 has no health check");
    let state =
        |name: &str| it.ps().iter().find(|it| it["Name"] == name).map(|it| it["State"].as_str().unwrap().to_owned());
    assert_eq!(state("p-b-1").unwrap(), "created");
    assert_eq!(state("p-e-1").unwrap(), "running");
    it.run(&["up", "-d", "--no-deps", "b"]).ok();
    assert_eq!(state("p-b-1").unwrap(), "running");
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn what_is_asked_for_waits_until_it_is_well() {
    let it = Project::new(
        "wait",
        "services:\n  a: {image: it, command: sh -c 'sleep 0.5; touch /ok; sleep 1000', stop_grace_period: 0s, healthcheck: {test: test -e /ok, interval: 50ms, retries: 100}}\n  b: {image: it, command: sleep 1000, stop_grace_period: 0s}\n",
    );
    it.run(&["up", "--wait"]).ok();
    assert_eq!(it.ps()[0]["Health"], "healthy");
    it.run(&["down"]).ok();
    it.run(&["up", "--wait", "--wait-timeout", "0", "a"]).fails(1, "is not healthy yet");
    it.run(&["create"]).ok();
    it.run(&["down"]).ok();
    it.run(&["create"]).ok();
    assert_eq!(it.ps()[0]["State"], "created");
    it.run(&["start", "b"]).ok();
    until("one runs", || it.run(&["ps", "-q"]).ok().out.lines().count() == 1);
    it.run(&["down"]).ok();
    it.is_clean();
}
