//! Needs root and iproute2. The "host" is a network namespace too: a thread that has left for one
//! of its own, with everything in it, ends without a trace.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs `ip` in the network namespace of the calling thread.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `work` in a new network namespace, given a file of it.
fn in_new_namespace<T: Send>(work: impl FnOnce(File) -> T + Send) -> T {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        work(File::open("/proc/thread-self/ns/net").unwrap())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn ip_in(netns: &File, arguments: &str) -> String {
    let run = || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        ip(arguments)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn devices_move_with_their_addresses() {
    if !is_root() {
        return;
    }
    let ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
    let container = in_new_namespace(|netns| netns);
    in_new_namespace(|_| {
        ip("link add rt0 type veth peer name peer");
        ip("link set rt0 mtu 1400 address 02:00:00:00:00:01 up");
        ip("link set peer up");
        ip("addr add 192.0.2.1/24 brd + dev rt0");
        ip("addr add 192.0.2.2/24 dev rt0");
        ip("addr add 198.51.100.1 peer 198.51.100.2/32 dev rt0");
        ip("addr add 203.0.113.1/24 scope link dev rt0");
        ip("addr add 198.18.0.1/24 valid_lft 1000 preferred_lft 1000 dev rt0");
        if ipv6 {
            ip("addr add 2001:db8::1/64 nodad dev rt0");
        }
        move_device("rt0", "eth0", container.as_fd()).unwrap();

        assert!(!ip("link").contains("rt0:"), "it is no longer on the host");
        let link = ip_in(&container, "-d link show eth0");
        assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:00:01"), "{link}");
        assert!(link.contains(",UP"), "{link}");
        let addresses = ip_in(&container, "addr show eth0");
        for expected in [
            "inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0",
            "inet 192.0.2.2/24 scope global secondary eth0",
            "inet 198.51.100.1 peer 198.51.100.2/32 scope global eth0",
        ] {
            assert!(addresses.contains(expected), "{addresses}");
        }
        assert!(!addresses.contains("203.0.113"), "only valid on the link: {addresses}");
        assert!(!addresses.contains("198.18"), "only valid for a time: {addresses}");
        assert_eq!(addresses.contains("2001:db8::1/64 scope global"), ipv6, "{addresses}");
    });
}

#[test]
fn a_name_in_use_stops_the_move_and_a_template_finds_another() {
    if !is_root() {
        return;
    }
    let container = in_new_namespace(|netns| netns);
    ip_in(&container, "link add eth0 type veth peer name eth1");
    in_new_namespace(|_| {
        ip("link add rt0 type veth peer name rt1");
        ip("addr add 192.0.2.1/24 dev rt0");
        ip("link set rt0 up");
        let before = ip("addr show rt0");
        let error = move_device("rt0", "eth1", container.as_fd()).unwrap_err().to_string();
        let expected = "netDevices: moving rt0: there is a device named eth1 in the container: file exists";
        assert_eq!(error, expected);
        assert_eq!(ip("addr show rt0"), before);

        move_device("rt0", "eth%d", container.as_fd()).unwrap();
        assert!(ip_in(&container, "addr show eth2").contains("192.0.2.1/24"));
        for wrong in ["eth%s", "eth%d%d", "", "a-name-that-is-too-long"] {
            let error = move_device("rt1", wrong, container.as_fd()).unwrap_err().to_string();
            assert!(error.starts_with("netDevices: moving rt1: "), "{error}");
        }
        // The name of a device that stays behind, and one the container has under the old name.
        ip("link set rt1 name eth0");
        move_device("eth0", "eth9", container.as_fd()).unwrap();
        assert!(ip_in(&container, "link show eth9").contains("eth9"));
    });
}

#[test]
fn what_cannot_be_moved_stays() {
    if !is_root() {
        return;
    }
    let container = in_new_namespace(|netns| netns);
    in_new_namespace(|_| {
        let error = move_device("eth9", "eth9", container.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "netDevices: moving eth9: no such device");
        ip("link set lo up");
        let error = move_device("lo", "lo9", container.as_fd()).unwrap_err();
        assert_eq!(error.to_string(), "netDevices: moving lo: invalid argument");
        assert!(ip("link show lo").contains("UP"));
    });
    let file = File::open("/dev/null").unwrap();
    let error = move_device("lo", "lo9", file.as_fd()).unwrap_err().to_string();
    assert!(error.contains("opening a netlink socket in the container: "), "{error}");
}

#[test]
fn addresses_are_read_and_written() {
    let address = Address {
        family: libc::AF_INET as u8,
        prefix: 24,
        flags: libc::IFA_F_PERMANENT | libc::IFA_F_SECONDARY | libc::IFA_F_NOPREFIXROUTE,
        attributes: vec![(libc::IFA_LOCAL, vec![192, 0, 2, 1])],
    };
    assert_eq!(address.to_string(), "192.0.2.1/24");
    // The request that adds an address has the layout of the reply that tells of one.
    let reply = netlink::Reply::of(address.message(7));
    assert_eq!(reply.i32_at(4), Some(7));
    assert_eq!(Address::parse(&reply, 7), None, "it does not claim to be permanent");
    assert_eq!(Address::parse(&reply, 8), None);
    let attributes = reply.attributes(8);
    assert_eq!(attributes[0], (libc::IFA_LOCAL, &[192, 0, 2, 1][..]));
    assert_eq!(attributes[1].1, libc::IFA_F_NOPREFIXROUTE.to_ne_bytes());
}
