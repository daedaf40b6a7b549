//! The kernel's switches that routing to containers takes. Each is written only where it is not as needed, and told.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::network::link::Links;

/// A switch that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, as sysctl(8) has it.
    pub name: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} = {} (was {})", self.name, self.new, self.old)
    }
}

/// Has the host forward packets of these families. All links of it do so then.
///
/// With IPv6, a router listens to other routers no more (`accept_ra` of 1): links that do so now, and may have their
/// addresses and routes from there, go on doing so (`accept_ra` of 2).
pub fn forward(v4: bool, v6: bool) -> Result<Vec<Setting>> {
    let mut changed = Vec::new();
    if v4 {
        changed.extend(set("net/ipv4/ip_forward", "1")?);
    }
    if v6 && read("net/ipv6/conf/all/forwarding").is_some_and(|it| it != "1") {
        let names = Links::here()?.list()?.into_iter().map(|it| it.name).filter(|it| it != "lo");
        // Links to come have the defaults.
        for name in names.chain(["default".into()]) {
            let path = format!("net/ipv6/conf/{name}/accept_ra");
            if read(&path).as_deref() == Some("1")
                && read(&format!("net/ipv6/conf/{name}/forwarding")).as_deref() == Some("0")
            {
                changed.extend(set(&path, "2")?);
            }
        }
        changed.extend(set("net/ipv6/conf/all/forwarding", "1")?);
    }
    Ok(changed)
}

/// A bridge's own: connections from the host's loopback address go out by it (`local`, for published ports); its IPv6
/// addresses can be used at once, and without any (`v6`) it speaks no IPv6. In no case a container's router
/// advertisement gives the host an address or a way. To be called before it is
/// given addresses: where IPv6 is off for new links it could have none.
pub fn prepare_bridge(bridge: &str, local: bool, v6: bool) -> Result<Vec<Setting>> {
    let mut changed = Vec::new();
    if local {
        changed.extend(set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?);
    }
    let of_v6: &[(&str, &str)] =
        if v6 { &[("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")] } else { &[("disable_ipv6", "1")] };
    for (name, value) in of_v6 {
        let path = format!("net/ipv6/conf/{bridge}/{name}");
        // A kernel without IPv6.
        if v6 || read(&path).is_some() {
            changed.extend(set(&path, value)?);
        }
    }
    Ok(changed)
}

/// Not /proc/sys of another thread's namespace: the kernel shows each thread its own.
fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name)
}

fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(path(name)).ok().map(|it| it.trim().to_owned())
}

fn set(name: &str, new: &str) -> Result<Option<Setting>> {
    let what = || format!("setting {} to {new}", path(name).display());
    let old = std::fs::read_to_string(path(name)).with_context(what)?.trim().to_owned();
    if old == new {
        return Ok(None);
    }
    std::fs::write(path(name), new).with_context(what)?;
    Ok(Some(Setting { name: name.replace('/', "."), old, new: new.into() }))
}
