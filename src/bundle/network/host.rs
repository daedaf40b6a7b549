//! What a network has on the host: its bridge, its rules, the directory that its name server looks into. Made when its
//! first container starts, also after the machine's start, and completed by each one after it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::attach::networks_dir;
use super::firewall::{self, Firewall};
use super::link::Links;
use super::mac::Mac;
use super::record::{self, run_dir_of};
use super::rows::Network;
use super::settings::Driver;
use super::wide;
use crate::tool::Tool;

/// The kernel's own greatest packet of an Ethernet device.
const ETHERNET: u32 = 1500;

/// Makes what is missing.
pub fn ensure(links: &mut Links, firewall: &mut Firewall, tool: &Tool, network: &Network) -> Result<()> {
    let told = || format!("network {}", network.name);
    let macvlan = network.settings.driver == Driver::Macvlan;
    if !macvlan && links.find(&network.device)?.is_none() {
        super::make::is_still_free(tool, &network.settings).with_context(told)?;
    }
    // First the file: it tells whoever comes after a kill what there may be.
    let dir = run_dir_of(&networks_dir(tool), &network.id);
    if !dir.join(CONFIG).exists() {
        config(tool, network)?.write(&dir)?;
    }
    if !macvlan {
        // Before the bridge: not a moment without them.
        let rules = rules(network);
        if !firewall.knows(&rules) && firewall.ensure(&[rules]).with_context(told)? {
            // Somebody had taken the table away, and with it the ports of those that run.
            let records = record::all(tool)?;
            let published: Vec<_> = records.iter().flat_map(|it| it.0.published.iter().cloned()).collect();
            firewall.publish(&published)?;
        }
    }
    devices(links, tool, network)
}

/// The bridge and what hangs on it, without the rules.
pub fn devices(links: &mut Links, tool: &Tool, network: &Network) -> Result<()> {
    let settings = &network.settings;
    if settings.driver == Driver::Macvlan {
        return Ok(());
    }
    let mut make = || -> Result<()> {
        let addresses: Vec<_> = settings.subnets.iter().map(|it| (it.gateway, it.net.prefix_len())).collect();
        let mac = settings.subnets.first().map_or(Mac([2, 0, 0, 0, 0, 1]), |it| Mac::of(it.gateway));
        let made = links.bridge(&network.device, settings.mtu.unwrap_or(ETHERNET), mac.0, &addresses)?;
        if made {
            firewall::prepare_bridge(&network.device, !settings.internal, settings.has_v6())?;
        }
        if settings.vxlan.is_some() {
            let bridge = links.find(&network.device)?.with_context(|| format!("{} is gone", network.device))?;
            wide::ensure(tool, links, network, bridge.index, &run_dir_of(&networks_dir(tool), &network.id))?;
        }
        if !settings.internal {
            let v4 = settings.subnets.iter().any(|it| it.net.addr().is_ipv4());
            // The whole machine's: its administrator hears of it.
            for changed in firewall::forward(v4, settings.has_v6())? {
                eprintln!("bundle: network {}: packets are forwarded for it: {changed}", network.name);
            }
        }
        Ok(())
    };
    make().with_context(|| format!("network {}", network.name))
}

fn config(tool: &Tool, network: &Network) -> Result<Config> {
    Ok(Config {
        id: network.id.clone(),
        name: network.name.clone(),
        store: tool.store()?.root().to_owned(),
        bridge: network.device.clone(),
        listen: network.settings.subnets.iter().map(|it| it.gateway).collect(),
        internal: network.settings.internal,
        subnets: network.settings.subnets.iter().map(|it| it.net).collect(),
    })
}

/// What the rules say of a network.
pub fn rules(network: &Network) -> firewall::Network {
    let settings = &network.settings;
    firewall::Network {
        bridge: network.device.clone(),
        subnets: settings.subnets.iter().map(|it| (it.net.addr(), it.net.prefix_len())).collect(),
        internal: settings.internal,
        isolated: settings.isolate,
        masquerade: !settings.internal,
    }
}

/// What the name server reads, and whoever finds it after us.
#[derive(Debug, Serialize, Deserialize)]
pub struct Config {
    /// The network's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The store that has its row.
    pub store: PathBuf,
    /// Its bridge.
    pub bridge: String,
    /// Where names are answered.
    pub listen: Vec<IpAddr>,
    /// Whether nothing is asked of the outside.
    pub internal: bool,
    /// Its addresses: nobody outside is asked about them.
    pub subnets: Vec<IpNet>,
}

const CONFIG: &str = "network";

impl Config {
    /// Reads the one in a network's directory.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(CONFIG);
        match std::fs::read(&path) {
            Ok(bytes) => {
                Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn write(&self, dir: &Path) -> Result<()> {
        // Another command may be at the same.
        let new = dir.join(format!(".{CONFIG}-{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(dir.join("containers"))?;
            std::fs::write(&new, serde_json::to_vec(self)?)?;
            std::fs::rename(&new, dir.join(CONFIG))
        };
        write().with_context(|| format!("writing below {}", dir.display()))
    }
}

/// Removes what a network without containers has on the host.
pub fn remove(links: &mut Links, firewall: &mut Firewall, networks: &Path, id: &str, bridge: &str) -> Result<()> {
    // A macvlan has none.
    match links.find(bridge)? {
        Some(link) if link.kind != "bridge" => bail!("the device {bridge} is no bridge of ours: left alone"),
        Some(_) => links.remove(bridge)?,
        None => {}
    }
    links.remove(&wide::device(id))?;
    firewall.forget(bridge)?;
    match std::fs::remove_dir_all(run_dir_of(networks, id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing its run-time files"),
        _ => {
            let _ = std::fs::remove_dir(networks);
            Ok(())
        }
    }
}
