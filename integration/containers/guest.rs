//! The most important of these tests again on cgroup v2 and on an older kernel, in the guest (integration/guest).

use crate::harness::bundle;
use crate::in_guest;

/// What lives there: a container's life and its monitor.
const LIVES: &[&str] = &[
    "lifecycle::",
    "monitor::a_killed_monitor",
    "monitor::a_monitor_and_its_container",
    "monitor::health",
    "monitor::it_is_small",
    "monitor::policies",
    "monitor::the_kernel_ends",
];

/// What depends most on the version of cgroups and on the kernel.
const MACHINE: &[&str] = &[
    "flags::limits_",
    "flags::the_cgroup_is_in_its_parent",
    "flags::devices",
    "flags::a_container_has_users",
    "flags::an_init",
    "logs::a_follower",
    "logs::any_bytes",
    "rootless::",
    "volumes::a_new_volume",
    "volumes::another_containers",
    "volumes::directories",
    "volumes::volumes_are_made",
    "watch::events",
    "watch::the_first_process",
    "watch::top",
    "watch::what_a_container_uses",
];

#[test]
fn on_cgroup_v2() {
    if in_guest::is_inside() || crate::bed::runtime().is_some() {
        return;
    }
    let binaries = bundle().parent().unwrap().display().to_string();
    // On its root, which is ext4: the guest's tmpfs knows neither idmapped mounts nor attributes of users.
    let run = |words| in_guest::run_filtered(&["--share", &binaries], &["RT_TEST_IN=v2", "TMPDIR=/var/tmp"], words);
    // A guest has one processor.
    std::thread::scope(|scope| {
        let lives = scope.spawn(|| run(LIVES));
        run(MACHINE);
        lives.join().unwrap();
    });
}
