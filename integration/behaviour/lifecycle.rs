//! create, start, run, state, kill, delete, list: the rules of runtime.md, errors included.

#[path = "../harness/mod.rs"]
mod harness;

use harness::Place;

#[test]
fn create_start_kill_delete() {
    let place = Place::new();
    let bundle = place.bundle("echo started; exec sleep 100");
    let id = place.id("c");
    bundle.create("c", &[]).ok();
    assert_eq!(place.state(&id)["status"], "created");
    assert_eq!(bundle.output(), "");
    place.rt(&["start", &id]).ok();
    assert_eq!(place.state(&id)["status"], "running");
    place.rt(&["delete", &id]).fails_with("that is not stopped: running");
    place.rt(&["kill", &id, "KILL"]).ok();
    place.wait_for(&id, "stopped");
    assert_eq!(bundle.output(), "started\n");
    place.rt(&["kill", &id]).fails_with("container not running");
    place.rt(&["start", &id]).fails_with("has stopped");
    place.rt(&["delete", &id]).ok();
    place.rt(&["state", &id]).fails_with("does not exist");
}

#[test]
fn the_exit_status_is_the_programs() {
    let place = Place::new();
    assert_eq!(place.bundle("exit 7").run("seven").code, 7);
    assert_eq!(place.bundle("kill -9 $$").run("nine").code, 0, "the first process of a pid namespace cannot kill itself");
    let mut bundle = place.bundle("kill -TERM $$; sleep 1");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    assert_eq!(bundle.run("term").code, 128 + 15);
}
