//! What a kill leaves, and what several at once do.

use std::process::Stdio;
use std::time::Duration;

use crate::bed::{Project, until};

const SIX: &str = "
services:
  a: {image: it, command: sleep 1000, stop_grace_period: 0s, environment: ['N=${N:-0}'], volumes: ['data:/data', /anonymous]}
  b: {image: it, command: sleep 1000, stop_grace_period: 0s, environment: ['N=${N:-0}'], depends_on: [a], scale: 3}
  c: {image: it, command: sleep 1000, stop_grace_period: 0s, environment: ['N=${N:-0}'], configs: [c], depends_on: [a], networks: {n: {ipv4_address: 10.51.0.77}}, healthcheck: {test: 'true', interval: 20ms}}
  d: {image: it, command: sleep 1000, stop_grace_period: 0s, networks: [n, default]}
configs: {c: {content: text}}
networks: {n: {ipam: {config: [{subnet: 10.51.0.0/24}]}}}
volumes: {data: }
";

/// Killed at moments all over an `up`, a next one finishes, and a `down` leaves nothing; every other time the kill
/// comes while all is made anew.
#[test]
fn killed_in_the_middle_of_an_up() {
    let it = Project::new("killed", SIX);
    let began = std::time::Instant::now();
    it.run(&["up", "-d"]).ok();
    let whole = began.elapsed();
    it.run(&["down", "-v"]).ok();
    for round in 0..8_u32 {
        let anew = round % 2 == 1;
        if anew {
            it.with(&[("N", "1")], &["up", "-d"]).ok();
            it.exec("a", "echo kept >/anonymous/x");
        }
        let mut command = it.command(&["up", "-d"]);
        let mut child = command.env("N", "2").stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * (round + 1) / 9);
        let _ = child.kill();
        child.wait().unwrap();
        it.with(&[("N", "2")], &["up", "-d"]).ok();
        assert_eq!(it.ids().len(), 6, "round {round}");
        // What the killed one had begun to start may still be at it.
        until(&format!("all run, round {round}"), || it.ps().iter().all(|it| it["State"] == "running"));
        for service in ["a", "b", "c"] {
            assert_eq!(it.exec(service, "echo $N"), "2\n", "round {round}");
        }
        if anew {
            assert_eq!(it.exec("a", "cat /anonymous/x"), "kept\n", "round {round}");
        }
        let ids = it.ids();
        it.with(&[("N", "2")], &["up", "-d"]).ok();
        assert_eq!(it.ids(), ids, "round {round}");
        it.run(&["down", "-v"]).ok();
        it.is_clean();
    }
}

#[test]
fn killed_in_the_middle_of_a_down() {
    let it = Project::new("halfdown", SIX);
    for round in 0..5_u64 {
        it.run(&["up", "-d"]).ok();
        let mut child = it.command(&["down", "-v"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + round * 60));
        let _ = child.kill();
        child.wait().unwrap();
        it.run(&["down", "-v"]).ok();
        it.is_clean();
    }
}

#[test]
fn several_at_once_make_one_project() {
    let it =
        Project::new("atonce", "services: {a: {image: it, command: sleep 1000, stop_grace_period: 0s, scale: 3}}\n");
    let children: Vec<_> = (0..4)
        .map(|_| it.command(&["up", "-d"]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        // Who comes second may find a name taken; nobody breaks anything.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("is taken") || said.contains("already"), "{said}");
    }
    it.run(&["up", "-d"]).ok();
    assert_eq!(it.ps().len(), 3);
    until("all run", || it.ps().iter().all(|it| it["State"] == "running"));
    it.run(&["down"]).ok();
    it.is_clean();
}
