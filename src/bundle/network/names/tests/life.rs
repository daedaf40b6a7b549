//! Servers as processes: started once by whoever comes first, gone with the last container.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::network::HERE;
use super::super::start::{Starting, ensure_with, port, restart_if_dead_with, run};
use super::super::{place, resolv};
use super::world::{SERVER, World, ask, found};

const WEB: &str = "10.88.0.2";
/// What a server that is started by a test finds in its environment.
const CHILD: &str = "BUNDLE_TEST_NAMES";

/// This program as a server: by the harness, which hands its words to the test below.
fn program(dir: &Path, server: &File) -> Command {
    use std::os::fd::AsRawFd;
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "network::names::tests::life::a_wrong_call_is_refused", "--nocapture"]);
    command.env(CHILD, format!("{}\n{}", dir.display(), server.as_raw_fd()));
    command
}

#[test]
fn a_wrong_call_is_refused() {
    if let Ok(words) = std::env::var(CHILD) {
        let words: Vec<String> = words.lines().map(Into::into).collect();
        if let Err(error) = run(&words) {
            eprintln!("{error:#}");
        }
        std::process::exit(0);
    }
    for words in [&[][..], &["/nowhere"], &["/nowhere", "x"], &["/nowhere", "0"], &["/nowhere", "3", "4"]] {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        assert!(run(&words).is_err());
    }
}

fn ensure(dir: &Path) -> Starting {
    ensure_with(dir, &program).unwrap()
}

/// The processes whose environment has this directory.
fn servers(dir: &Path) -> Vec<i32> {
    let wanted = format!("{CHILD}={}\n", dir.display());
    let of = |it: std::fs::DirEntry| {
        let pid = it.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        environment.split(|it| *it == 0).any(|it| it.starts_with(wanted.as_bytes())).then_some(pid)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(of).collect()
}

fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_free(dir: &Path) -> bool {
    place::locked(place::open(dir, "server").unwrap()).unwrap().is_some()
}

fn kill(pid: i32) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn it_lives_from_the_first_container_to_the_last() {
    let world = World::new("life");
    let dir = world.dir("web");
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    let began = Instant::now();
    let starting = ensure(&dir);
    let spawned = began.elapsed();
    starting.wait().unwrap();
    println!("ensure {spawned:?}, until it answers {:?}", began.elapsed());
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
    let first = servers(&dir);
    assert_eq!(first.len(), 1);
    // Its own session, nothing of ours open but its log.
    let link = |fd: i32| std::fs::read_link(format!("/proc/{}/fd/{fd}", first[0])).unwrap();
    assert_eq!((link(0), link(1), link(2)), ("/dev/null".into(), "/dev/null".into(), dir.join("names.log")));
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", first[0])).unwrap();
    assert_eq!(stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap(), first[0].to_string());
    // Whoever comes next finds it.
    world.container("web", "b1", &["10.88.0.3"], &["db"], &json!({}));
    ensure(&dir).wait().unwrap();
    assert_eq!((servers(&dir), port(&dir)), (first.clone(), None));
    world.leave("web", "a1");
    assert_eq!(ask("10.88.0.3", "db"), found(&["10.88.0.3"]));
    world.leave("web", "b1");
    until("it ends", || is_free(&dir));
    assert_eq!(std::fs::read(dir.join("server")).unwrap(), b"");
    assert_eq!(std::fs::read(dir.join("names.log")).unwrap(), b"");
    // And again.
    assert!(!restart_if_dead_with(&dir, &program).unwrap());
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    ensure(&dir).wait().unwrap();
    assert_eq!(ask(WEB, "web"), found(&[WEB]));
    // It ends with its directory as well.
    std::fs::remove_dir_all(&dir).unwrap();
    let ended = || servers(&dir).is_empty();
    until("it ends with its directory", ended);
}

#[test]
fn one_that_was_killed_is_replaced() {
    let world = World::new("killed");
    let dir = world.dir("web");
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    for _ in 0..20 {
        assert!(restart_if_dead_with(&dir, &program).unwrap());
        assert!(!restart_if_dead_with(&dir, &program).unwrap());
        assert_eq!(ask(WEB, "web"), found(&[WEB]));
        let [pid] = servers(&dir)[..] else { panic!() };
        kill(pid);
        until("it is gone", || is_free(&dir));
    }
    // Killed while somebody waits for it, or before.
    for pause in 0..20 {
        let starting = ensure(&dir);
        std::thread::sleep(Duration::from_micros(pause * 300));
        servers(&dir).into_iter().for_each(kill);
        let _ = starting.wait();
        until("it is gone", || is_free(&dir));
        restart_if_dead_with(&dir, &program).unwrap();
        assert_eq!(ask(WEB, "web"), found(&[WEB]));
        servers(&dir).into_iter().for_each(kill);
        until("it is gone", || is_free(&dir));
    }
    world.leave("web", "a1");
}

/// Containers come and go as fast as they can, from four commands at once: whoever has waited is answered.
#[test]
fn comings_and_goings() {
    let world = World::new("race");
    let dir = world.dir("web");
    for at in 2..6 {
        super::world::have(&format!("10.88.0.{at}"));
    }
    std::thread::scope(|scope| {
        for at in 2..6 {
            let (world, dir) = (&world, &dir);
            scope.spawn(move || {
                let (id, address) = (format!("c{at}"), format!("10.88.0.{at}"));
                for turn in 0..40 {
                    world.container("web", &id, &[&address], &[&id], &json!({}));
                    ensure(dir).wait().unwrap();
                    assert_eq!(ask(&address, &id), found(&[&address]), "turn {turn}");
                    world.leave("web", &id);
                    if turn % 3 == 0 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                }
            });
        }
    });
    until("the last one ends", || servers(&dir).is_empty());
    assert_eq!(std::fs::read_dir(dir.join(HERE)).unwrap().count(), 0);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let world = World::new("cannot");
    let dir = world.dir("web");
    world.network("web", &[], &json!({}));
    world.container("web", "a1", &[WEB], &["web"], &json!({}));
    let error = format!("{:#}", ensure(&dir).wait().unwrap_err());
    assert!(error.contains("network web") && error.contains("no address"), "{error}");
    std::fs::write(dir.join("network"), "{").unwrap();
    let error = format!("{:#}", ensure(&dir).wait().unwrap_err());
    assert!(error.contains("reading") && !error.contains('\n'), "{error}");
    let error = format!("{:#}", ensure_with(Path::new("/nowhere/web"), &program).err().unwrap());
    assert!(error.contains("/nowhere/web"), "{error}");
}

#[test]
fn a_resolver_of_the_host_has_the_port() {
    for wildcard in ["0.0.0.0", "[::]"] {
        let mut world = World::new("taken");
        let theirs = std::net::UdpSocket::bind(format!("{wildcard}:{}", resolv::PORT)).unwrap();
        world.container("web", "a1", &[WEB], &["web"], &json!({}));
        world.serve("web");
        let other = port(&world.dir("web")).unwrap();
        assert_ne!(other, resolv::PORT);
        let client = std::net::UdpSocket::bind((WEB, 0)).unwrap();
        client.connect((SERVER, other)).unwrap();
        let question = super::world::question(1, "web", domain::base::iana::Rtype::A, None);
        client.send(&question).unwrap();
        let mut said = [0; 600];
        let length = client.recv(&mut said).unwrap();
        assert_eq!(super::world::read(&said[..length]), found(&[WEB]));
        drop(theirs);
        world.leave("web", "a1");
        world.end("web").unwrap();
        assert_eq!(port(&world.dir("web")), None);
    }
}
