//! The commands besides `up` and `down`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::Value;

use crate::bed::{Done, Project, kill, until};

const THREE: &str = "
services:
  a: {image: it, command: sh -c 'echo one; echo two >&2; exec sleep 1000', stop_grace_period: 0s, ports: ['8092:80/udp']}
  b: {image: it, command: sh -c 'trap \"exit 5\" TERM; while :; do sleep 0.05; done', depends_on: {a: {condition: service_started, restart: true}}}
  c: {image: it, command: sleep 1000, stop_grace_period: 0s, profiles: [extra], stdin_open: true}
";

#[test]
fn files_of_a_project_are_told_with_their_whole_paths() {
    let it = Project::new("whole-paths", "services: {a: {image: it, command: sleep 1000, stop_grace_period: 0s}}\n");
    it.write("sub/more.yaml", "services: {a: {labels: {x: y}}}\n");
    let listed = || {
        let mut command = it.command(&["ls", "--format", "{{.ConfigFiles}}"]);
        Done::of(command.current_dir("/"), &["ls"]).ok().out
    };
    let dir = it.dir.display();
    it.run(&["-f", "./compose.yaml", "-f", "sub/../sub/more.yaml", "up", "-d"]).ok();
    assert_eq!(listed(), format!("{dir}/compose.yaml,{dir}/sub/more.yaml\n"));
    it.run(&["down"]).ok();
    it.with(&[("COMPOSE_FILE", "./compose.yaml")], &["up", "-d"]).ok();
    assert_eq!(listed(), format!("{dir}/compose.yaml\n"));
    it.run(&["down"]).ok();
    let mut command = it.command(&["-f", "-", "up", "-d"]);
    let file = std::fs::File::open(it.dir.join("compose.yaml")).unwrap();
    Done::of(command.stdin(file), &["up"]).ok();
    assert_eq!(listed(), "-\n");
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn containers_are_looked_at_and_looked_after() {
    let it = Project::new("commands", THREE);
    it.run(&["up", "-d"]).ok();
    assert_eq!(it.run(&["ps", "--services"]).ok().out, "a\nb\n");
    assert_eq!(it.run(&["ps", "-q", "a"]).ok().out.trim(), it.ids()[0].1);
    assert_eq!(it.run(&["ps", "--format", "{{.Service}} {{.State}}"]).ok().out, "a running\nb running\n");
    it.run(&["ps", "nobody"]).fails(1, "no such service: nobody");
    until("it has written", || it.run(&["logs", "a"]).ok().err.contains("two"));
    let logs = it.run(&["logs", "a"]).ok();
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("a-1  | one\n", "a-1  | two\n"));
    let logs = it.run(&["logs", "--no-log-prefix", "--tail", "1", "a"]).ok();
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("", "two\n"));
    assert!(it.run(&["--ansi", "always", "logs", "a"]).ok().out.starts_with("\x1b[36ma-1  | \x1b[0mone"));
    assert!(it.run(&["logs", "-t", "a"]).ok().out.contains("Z one\n"));
    assert_eq!(
        it.run(&["exec", "-T", "-e", "X=1", "-w", "/srv", "-u", "web", "a", "sh", "-c", "echo $X; pwd; id -u"])
            .ok()
            .out,
        "1\n/srv\n33\n"
    );
    assert_eq!(it.run(&["exec", "-T", "a", "sh", "-c", "exit 9"]).status, 9);
    it.run(&["exec", "-T", "--index", "2", "a", "true"]).fails(125, "service a has no container 2");
    assert_eq!(it.run(&["port", "--protocol", "udp", "a", "80"]).ok().out, "0.0.0.0:8092\n");
    it.run(&["port", "a", "80"]).fails(1, "no port 80/tcp");
    assert!(it.run(&["top", "a"]).ok().out.contains("sleep 1000"));
    let images = it.run(&["images", "--format", "json"]).ok().out;
    assert!(images.contains("\"Repository\":\"it\""), "{images}");
    assert_eq!(it.run(&["images", "-q"]).ok().out.lines().count(), 1);
    let projects = it.run(&["ls", "--format", "json"]).ok().json();
    assert_eq!((&projects["Name"], &projects["Status"]), (&"p".into(), &"running(2)".into()));

    it.run(&["pause", "a"]).ok();
    assert_eq!(it.ps()[0]["State"], "paused");
    it.run(&["pause", "a"]).ok();
    it.run(&["unpause"]).ok();
    assert_eq!(it.ps()[0]["State"], "running");
    let started = |name: &str| it.host.inspect(name, ".State.StartedAt");
    let (a, b) = (started("p-a-1"), started("p-b-1"));
    it.run(&["restart", "b"]).ok();
    assert_eq!(started("p-a-1"), a);
    assert_ne!(started("p-b-1"), b);
    let b = started("p-b-1");
    it.run(&["restart", "--no-deps", "a"]).ok();
    assert_eq!(started("p-b-1"), b);
    it.run(&["restart", "a"]).ok();
    assert_ne!(started("p-b-1"), b, "it asks to be restarted with a");
    it.run(&["stop", "b"]).ok();
    assert_eq!(it.ps()[1]["ExitCode"], 5);
    it.run(&["start", "b"]).ok();
    it.run(&["kill", "-s", "TERM", "b"]).ok();
    assert_eq!(it.run(&["wait", "b"]).status, 5);
    it.run(&["kill", "b"]).fails(1, "no container to kill");
    it.run(&["kill", "-s", "NONE"]).fails(1, "--signal");
    it.run(&["rm", "-f"]).ok();
    assert_eq!(it.ps().len(), 1);
    it.run(&["rm", "-s", "-f"]).ok();
    assert!(it.ps().is_empty());
    it.run(&["start"]).fails(1, "project p has no containers");
    it.run(&["up", "-d", "c"]).ok();
    assert_eq!(it.ps().len(), 1, "its profile is active when it is named");
    it.run(&["--profile", "extra", "down", "c"]).ok();
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn what_a_command_needs_is_made_for_it_alone() {
    let text = "services:\n  a: {image: it, volumes: ['v:/v'], networks: [n]}\nnetworks: {n: }\nvolumes: {v: }\n";
    let it = Project::new("run-first", text);
    assert_eq!(it.run(&["run", "--rm", "a", "sh", "-c", "ls -d /v"]).ok().out, "/v\n");
    it.run(&["down", "-v"]).ok();
    it.is_clean();
}

#[test]
fn a_command_runs_in_a_container_of_its_own() {
    let it = Project::new("run", THREE);
    let done = it
        .run(&[
            "run",
            "--rm",
            "-e",
            "X=1",
            "-u",
            "web",
            "-w",
            "/srv",
            "-v",
            "/tmp:/mine",
            "b",
            "sh",
            "-c",
            "echo $X; pwd; id -u; ls -d /mine",
        ])
        .ok();
    assert_eq!(done.out, "1\n/srv\n33\n/mine\n");
    assert_eq!(it.run(&["ps", "--services"]).ok().out, "a\n", "what it waits for runs");
    assert_eq!(it.run(&["run", "--rm", "--no-deps", "b", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(it.run(&["run", "--rm", "--entrypoint", "echo", "a", "word"]).ok().out, "word\n");
    let name = it.run(&["run", "-d", "--name", "mine", "c"]).ok().out;
    assert_eq!(name, "mine\n");
    assert!(it.host.inspect("mine", "json .Config.Labels").contains("\"com.docker.compose.oneoff\":\"True\""));
    // The service's own is told from it.
    it.run(&["up", "-d", "c"]).ok();
    assert_eq!(it.ps().len(), 3);
    let mut child =
        it.command(&["run", "--rm", "c", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"through\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through\n");
    it.run(&["run", "--rm", "-p", "8093:80/udp", "--service-ports", "c", "true"]).ok();
    it.run(&["run", "nobody"]).fails(125, "no such service: nobody");
    it.run(&["--profile", "extra", "down"]).ok();
    it.is_clean();
}

#[test]
fn in_the_foreground_lines_come_and_an_interrupt_ends_all() {
    let it = Project::new("foreground", THREE);
    let start = || {
        let mut command = it.command(&["up"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "a-1  | one\n");
        until("all run", || it.run(&["ps", "-q"]).ok().out.lines().count() == 2);
        (child, lines)
    };
    let (mut child, mut lines) = start();
    kill("INT", child.id() as i32);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("b-1  | exited with code 5\n"), "{rest}");
    let states: Vec<Value> = it.ps().iter().map(|it| it["State"].clone()).collect();
    assert_eq!(states, ["exited", "exited"]);
    // A second one does not wait.
    it.write("compose.yaml", &THREE.replace("trap \"exit 5\" TERM", "trap \"\" TERM"));
    let (mut child, _lines) = start();
    kill("INT", child.id() as i32);
    until("it has begun to stop", || it.run(&["ps", "-q", "a"]).ok().out.lines().count() <= 1);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let begun = std::time::Instant::now();
    kill("INT", child.id() as i32);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn one_that_ends_ends_all() {
    let it = Project::new(
        "abort",
        "services:\n  a: {image: it, command: sh -c 'sleep 0.3; exit 4', stop_grace_period: 0s}\n  b: {image: it, command: sleep 1000, stop_grace_period: 0s}\n",
    );
    let done = it.run(&["up", "--abort-on-container-exit"]);
    assert_eq!(done.status, 4, "{}", done.err);
    assert_eq!(it.run(&["up", "--abort-on-container-failure"]).status, 4);
    assert_eq!(it.run(&["up", "--exit-code-from", "b"]).status, 137);
    assert_eq!(it.run(&["up", "--exit-code-from", "a", "--attach", "a"]).status, 4);
    assert_eq!(it.run(&["up", "--no-deps", "a"]).ok().out, "a-1  | exited with code 4\n");
    it.run(&["up", "--attach", "nobody"]).fails(1, "no such service: nobody");
    it.run(&["down"]).ok();
    it.is_clean();
}

#[test]
fn events_are_told_by_service() {
    let it = Project::new("events", THREE);
    it.run(&["up", "-d", "a"]).ok();
    it.run(&["down"]).ok();
    let text = it.run(&["events", "--json", "--since", "1h", "--until", "0s"]).ok().out;
    let actions: Vec<String> = text
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap())
        .inspect(|it| assert_eq!(it["service"], "a"))
        .map(|it| it["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions.first().map(String::as_str), Some("create"));
    assert_eq!(actions.last().map(String::as_str), Some("destroy"));
    assert!(actions.iter().any(|it| it == "start"), "{actions:?}");
    it.is_clean();
}
