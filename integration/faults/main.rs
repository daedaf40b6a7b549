//! Faults: a runtime that is killed at any of its system calls, or one of them fails, and other things
//! that go wrong on a machine. After each, what is left can be deleted, and nothing is half done.
//!
//! `integration/faults/run` runs all of it by hand, with any runtime; in the test run it is a sample.

mod bed;
mod cases;
mod directory;
#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code)] // only the table is of use here
#[path = "../../src/rt/seccomp/names.rs"]
mod names;
mod points;
mod trace;
mod world;

/// One test a row, so that they run side by side.
macro_rules! rows {
    ($($test:ident: $case:literal, $kind:ident;)*) => {
        mod rows {
            $(#[test]
            fn $test() {
                crate::points::row(crate::cases::find($case), crate::points::Kind::$kind);
            })*
        }
    };
}

rows! {
    create_killed: "create", Killed;
    create_failing: "create", Failing;
    create_beside_others_killed: "create beside others", Killed;
    create_beside_others_failing: "create beside others", Failing;
    create_with_a_user_namespace_killed: "create with a user namespace", Killed;
    create_with_a_user_namespace_failing: "create with a user namespace", Failing;
    create_with_a_terminal_killed: "create with a terminal", Killed;
    create_with_a_terminal_failing: "create with a terminal", Failing;
    create_and_start_killed: "create and start", Killed;
    create_and_start_failing: "create and start", Failing;
    run_killed: "run", Killed;
    run_failing: "run", Failing;
    start_killed: "start", Killed;
    start_failing: "start", Failing;
    exec_killed: "exec", Killed;
    exec_failing: "exec", Failing;
    kill_killed: "kill", Killed;
    kill_failing: "kill", Failing;
    delete_killed: "delete", Killed;
    delete_failing: "delete", Failing;
    delete_force_killed: "delete --force", Killed;
    delete_force_failing: "delete --force", Failing;
    update_killed: "update", Killed;
    update_failing: "update", Failing;
    pause_killed: "pause", Killed;
    pause_failing: "pause", Failing;
    resume_killed: "resume", Killed;
    resume_failing: "resume", Failing;
}

/// A sample on cgroup v2, where init is born in its cgroup.
#[test]
fn on_v2() {
    let rows = ["rows::create_killed", "rows::run_killed", "rows::exec_killed", "rows::delete_force_killed"];
    harness::guest::run_filtered(&[], &["RT_TEST_IN=v2", "RT_FAULTS_POINTS=8"], &rows);
}
