//! `features`: what this runtime can do, and only where this host can do it (features.md,
//! features-linux.md).

use anyhow::Result;
use serde_json::{Value, json};

use crate::cgroup::layout::Layout;
use crate::plan::host;
use crate::sys;

pub(super) fn features() -> Result<()> {
    super::print(&format!("{}\n", serde_json::to_string_pretty(&document()?)?))
}

/// The namespaces that this kernel has.
fn namespaces() -> Vec<&'static str> {
    [
        ("cgroup", "cgroup"),
        ("ipc", "ipc"),
        ("mnt", "mount"),
        ("net", "network"),
        ("pid", "pid"),
        ("time", "time"),
        ("user", "user"),
        ("uts", "uts"),
    ]
    .into_iter()
    .filter(|(file, _)| std::path::Path::new("/proc/self/ns").join(file).exists())
    .map(|(_, kind)| kind)
    .collect()
}

/// The capabilities that this kernel knows.
fn capabilities() -> Vec<String> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    let last: u8 = last.and_then(|text| text.trim().parse().ok()).unwrap_or(40);
    let mut known: Vec<(u8, String)> =
        caps::all().into_iter().map(|capability| (capability.index(), capability.to_string())).collect();
    known.sort();
    known.into_iter().filter(|(index, _)| *index <= last).map(|(_, name)| name).collect()
}

fn seccomp() -> Value {
    let actions: Vec<&str> = [
        ("SCMP_ACT_ALLOW", libc::SECCOMP_RET_ALLOW),
        ("SCMP_ACT_ERRNO", libc::SECCOMP_RET_ERRNO),
        ("SCMP_ACT_KILL", libc::SECCOMP_RET_KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", libc::SECCOMP_RET_KILL_PROCESS),
        ("SCMP_ACT_KILL_THREAD", libc::SECCOMP_RET_KILL_THREAD),
        ("SCMP_ACT_LOG", libc::SECCOMP_RET_LOG),
        ("SCMP_ACT_NOTIFY", libc::SECCOMP_RET_USER_NOTIF),
        ("SCMP_ACT_TRACE", libc::SECCOMP_RET_TRACE),
        ("SCMP_ACT_TRAP", libc::SECCOMP_RET_TRAP),
    ]
    .into_iter()
    .filter(|(_, action)| sys::seccomp_action_available(*action))
    .map(|(name, _)| name)
    .collect();
    let architectures = if cfg!(target_arch = "aarch64") {
        json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])
    } else {
        json!(["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"])
    };
    let flags = json!([
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ]);
    json!({
        "enabled": !actions.is_empty(),
        "actions": actions,
        "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
        "archs": architectures,
        "knownFlags": flags,
        "supportedFlags": flags,
    })
}

fn document() -> Result<Value> {
    let mut layout = Layout::read()?;
    layout.read_controllers()?;
    let v1 = !layout.v1.is_empty();
    let rdma = layout.find("rdma").is_some() || layout.controllers.iter().any(|name| name == "rdma");
    let policies = [
        "MPOL_DEFAULT",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY",
        "MPOL_LOCAL",
    ];
    let mount_options = "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime noexec \
        noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec \
        ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared \
        rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable";
    Ok(json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": crate::state::SPEC_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": mount_options.split_whitespace().collect::<Vec<_>>(),
        "linux": {
            "namespaces": namespaces(),
            "capabilities": capabilities(),
            "cgroup": {"v1": v1, "v2": layout.v2.is_some(), "systemd": true, "systemdUser": true, "rdma": rdma},
            "seccomp": seccomp(),
            "apparmor": {"enabled": host::apparmor()},
            "selinux": {"enabled": host::selinux()},
            "intelRdt": {"enabled": host::resctrl().is_some(), "schemata": host::resctrl().is_some(), "monitoring": host::resctrl().is_some()},
            "memoryPolicy": {
                "modes": policies,
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": true},
        },
        "annotations": {"rt.version": env!("CARGO_PKG_VERSION"), "rt.checkpoint.enabled": "true"},
        // Those that change what we do; with a dot at the end, all that begin so.
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property."],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::names;

    #[test]
    fn the_document_has_the_libraries_form() {
        let document = document().unwrap();
        serde_json::from_value::<oci_spec::runtime::Features>(document.clone()).unwrap();
        assert!(
            document["linux"]["namespaces"]
                .as_array()
                .unwrap()
                .iter()
                .all(|kind| names::namespace(kind.as_str().unwrap()).is_some())
        );
    }
}
