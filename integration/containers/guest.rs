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

/// The unit of contrib/systemd, with the systemd of the guest: what should run is started with the machine, and ends
/// well with it.
#[test]
fn the_systemd_unit_brings_back_what_should_run() {
    if in_guest::is_inside() || crate::bed::runtime().is_some() {
        return;
    }
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let script = r#"
        install "$1/bundle" "$1/rt" /usr/bin
        install -m 644 "$2/contrib/systemd/bundle-up-again.service" /etc/systemd/system
        systemctl daemon-reload
        export BUNDLE_ROOT=/var/lib/bundle BUNDLE_NETWORK=none
        bundle run -d --restart always --stop-timeout 1 --name web demo sleep 1000
        bundle run -d --name other demo sleep 1000
        # The machine goes down: nobody is told, and nothing of /run is left.
        kill -KILL $(bundle inspect --format '{{.State.MonitorPid}} {{.State.Pid}}' web other)
        sleep 0.5
        sed -i "s/$(cat /proc/sys/kernel/random/boot_id)/00000000-0000-0000-0000-000000000000/g" /var/lib/bundle/containers/*/state
        rm -rf /run/bundle
        systemctl start bundle-up-again
        bundle ps -a --format '{{.Names}} {{.State}}'
        cat /proc/$(bundle inspect --format '{{.State.MonitorPid}}' web)/cgroup
        systemctl stop bundle-up-again
        bundle ps -a --format '{{.Names}} {{.State}}'
        bundle up-again --dry-run
        bundle rm -f web other"#;
    let output = std::process::Command::new(top.join("integration/guest/run"))
        .args(["--systemd", "--share"])
        .arg(bundle().parent().unwrap())
        .args(["--", "bash", "-euc", script, "bash"])
        .arg(bundle().parent().unwrap())
        .arg(&top)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Vec<&str> = text.lines().skip(2).collect();
    assert!(output.status.success() && said.len() == 8, "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((said[0], said[1]), ("other exited", "web running"), "{text}");
    assert!(said[2].ends_with("/bundle-up-again.service"), "{text}");
    // Ended with the unit, and not by hand: it starts with the machine the next time.
    assert_eq!(&said[3..6], ["other exited", "web exited", "web"], "{text}");
}
