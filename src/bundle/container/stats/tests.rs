//! Recorded files of machines with version 1, version 2, and both.

use std::collections::HashMap;

use super::{Block, Pids, Sample};

const ID: &str = "0123456789abcdef";

fn sample(files: &[(&str, &str)], own_network: bool) -> Option<Sample> {
    let common = [
        ("/proc/meminfo", "MemTotal:       16384000 kB\nMemFree:         1000 kB\n"),
        ("/sys/devices/system/cpu/online", "0-2,5\n"),
        (
            "/proc/7/net/dev",
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:     500       5    0    0    0     0          0         0      500       5    0    0    0     0       0          0\n  \
             eth0: 1296000     1000    1    2    0     0          0         0   648000     500    3    4    0     0       0          0\n  \
             eth1:4000 4 0 0 0 0 0 0 2000 2 0 0 0 0 0 0\n",
        ),
    ];
    let files: HashMap<&str, &str> = common.into_iter().chain(files.iter().copied()).collect();
    Sample::read(&|path| files.get(path).map(|it| (*it).to_owned()), 7, ID, own_network)
}

#[test]
fn version_2() {
    let base = "/sys/fs/cgroup/bundle-0123456789abcdef";
    let files: Vec<(String, &str)> = [
        ("cpu.stat", "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 100\nnr_throttled 40\nthrottled_usec 1500\n"),
        ("memory.current", "104857600\n"),
        ("memory.stat", "anon 50000000\nfile 40000000\ninactive_file 4857600\nactive_file 1\n"),
        ("memory.max", "268435456\n"),
        ("memory.swap.current", "4096\n"),
        ("memory.peak", "200000000\n"),
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n"),
        ("pids.current", "3\n"),
        ("pids.max", "max\n"),
        ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n253:0 rbytes=1000 wbytes=0 rios=1 wios=0\n"),
        ("cpu.pressure", "some avg10=1.50 avg60=0.10 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=77\n"),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=8\n"),
    ]
    .into_iter()
    .map(|(name, text)| (format!("{base}/{name}"), text))
    .collect();
    let mut all = vec![
        (
            "/proc/self/mountinfo",
            "24 23 0:22 / /proc rw - proc proc rw\n25 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
        ),
        // The container has moved its first process further down.
        ("/proc/7/cgroup", "0::/bundle-0123456789abcdef/init\n"),
    ];
    all.extend(files.iter().map(|(path, text)| (path.as_str(), *text)));
    let it = sample(&all, true).unwrap();
    assert_eq!((it.cpu.total, it.cpu.user, it.cpu.system), (5_000_000_000, 3_000_000_000, 2_000_000_000));
    assert_eq!((it.cpu.periods, it.cpu.throttled_periods, it.cpu.throttled), (100, 40, 1_500_000));
    assert_eq!((it.cpu.online, it.cpu.each.len()), (4, 0));
    assert_eq!((it.memory.usage, it.memory.inactive_file), (100_000_000, 4_857_600));
    assert_eq!((it.memory.limit, it.memory.swap, it.memory.peak), (256 << 20, Some(4096), Some(200_000_000)));
    assert_eq!((it.memory.failures, it.memory.oom_kills), (12, 1));
    assert_eq!(it.pids, Pids { current: 3, limit: None });
    assert_eq!(it.block, Block { read: 5096, written: 8192 });
    assert_eq!(it.network_total(), (1_300_000, 650_000));
    assert_eq!((it.network[0].received_packets, it.network[0].sent_packets), ([1000, 1, 2], [500, 3, 4]));
    assert_eq!(it.pressure.len(), 2);
    assert_eq!((it.pressure[0].resource, it.pressure[0].some, it.pressure[0].full), ("cpu", 123_456, 77));
    let mut before = it.clone();
    before.cpu.total -= 750_000_000;
    assert!((it.cpu_percent(&before, 500_000_000) - 150.0).abs() < 1e-9);
    assert!(it.cpu_percent(&it, 0).abs() < 1e-9);
    assert!((it.memory_percent() - 100_000_000.0 * 100.0 / 268_435_456.0).abs() < 1e-9);
}

#[test]
fn version_1_and_both() {
    let it = sample(
        &[
            (
                "/proc/self/mountinfo",
                "30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                 31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 32 30 0:28 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                 34 30 0:30 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
                 35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            (
                "/proc/7/cgroup",
                "5:memory:/outer/x/bundle-0123456789abcdef\n4:pids:/x/bundle-0123456789abcdef\n\
                 3:blkio:/x/bundle-0123456789abcdef\n2:cpu,cpuacct:/x/bundle-0123456789abcdef\n0::/\n",
            ),
            ("/sys/fs/cgroup/cpu,cpuacct/x/bundle-0123456789abcdef/cpuacct.usage", "123456789\n"),
            ("/sys/fs/cgroup/cpu,cpuacct/x/bundle-0123456789abcdef/cpuacct.usage_percpu", "100 200 0 0 \n"),
            ("/sys/fs/cgroup/cpu,cpuacct/x/bundle-0123456789abcdef/cpuacct.stat", "user 3\nsystem 9\n"),
            (
                "/sys/fs/cgroup/cpu,cpuacct/x/bundle-0123456789abcdef/cpu.stat",
                "nr_periods 7\nnr_throttled 2\nthrottled_time 99\n",
            ),
            ("/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.usage_in_bytes", "5000\n"),
            (
                "/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.stat",
                "inactive_file 1\ntotal_inactive_file 6000\n",
            ),
            ("/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.memsw.usage_in_bytes", "5600\n"),
            ("/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.max_usage_in_bytes", "7000\n"),
            ("/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.failcnt", "4\n"),
            (
                "/sys/fs/cgroup/memory/x/bundle-0123456789abcdef/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
            ),
            ("/sys/fs/cgroup/pids/x/bundle-0123456789abcdef/pids.current", "2\n"),
            ("/sys/fs/cgroup/pids/x/bundle-0123456789abcdef/pids.max", "64\n"),
            (
                "/sys/fs/cgroup/blkio/x/bundle-0123456789abcdef/blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\nTotal 31\n",
            ),
        ],
        false,
    )
    .unwrap();
    assert_eq!((it.cpu.total, it.cpu.user, it.cpu.system), (123_456_789, 30_000_000, 90_000_000));
    assert_eq!((it.cpu.each, it.cpu.periods, it.cpu.throttled), (vec![100, 200, 0, 0], 7, 99));
    // Less than nothing is nothing; no limit is what the machine has.
    assert_eq!((it.memory.usage, it.memory.limit), (0, 16_384_000 * 1024));
    assert_eq!(
        (it.memory.swap, it.memory.peak, it.memory.failures, it.memory.oom_kills),
        (Some(600), Some(7000), 4, 2)
    );
    assert_eq!(it.pids, Pids { current: 2, limit: Some(64) });
    assert_eq!(it.block, Block { read: 11, written: 20 });
    assert!(it.network.is_empty() && it.pressure.is_empty());
    assert!(sample(&[("/proc/self/mountinfo", "")], true).is_none());
}

#[test]
fn of_ourselves() {
    // We are no container with cgroups of its own: our processes are counted one by one.
    let it = Sample::take(std::process::id() as i32, ID).unwrap();
    assert!(it.cpu.online > 0 && it.memory.limit > 0 && it.memory.usage > 0 && it.pids.current > 0);
    assert!(it.network.is_empty() && it.pressure.is_empty());
    assert_eq!(Sample::take(i32::MAX, ID), None);
}
