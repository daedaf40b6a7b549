//! What has to be there before containers are made: networks, volumes, directories of the host.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::board::Board;
use super::flags::{HASH, NETWORK, PROJECT, VOLUME};
use super::model::{Network, Project, Volume};
use crate::cli::network::Create;
use crate::events::{self, Kind};
use crate::network::{make, rows, wanted};
use crate::tool::Tool;
use crate::volume;

/// Looks at what the services use and makes what is missing. What is there and is another one's, or was made of other
/// words, is an error before anything is made.
pub fn ensure(tool: &Tool, project: &Project, services: &BTreeSet<String>, board: &Board) -> Result<()> {
    let chosen = || project.parts.services.iter().filter(|it| services.contains(it.0)).map(|it| it.1);
    let networks: BTreeSet<&String> = chosen().flat_map(|it| it.networks.keys()).collect();
    let named = |it: &&String| project.parts.volumes.contains_key(*it);
    let volumes: BTreeSet<&String> =
        chosen().flat_map(|it| &it.volumes).filter_map(|it| it.source.as_ref()).filter(named).collect();
    let mut missing_networks = Vec::new();
    for key in networks {
        let Some(network) = project.parts.networks.get(key) else { continue };
        let told = || format!("{}: networks.{key}", project.place(&["networks", key]));
        if !is_there(tool, project, network).with_context(told)? {
            missing_networks.push((key, network));
        }
    }
    let mut missing_volumes = Vec::new();
    for key in volumes {
        let Some(volume) = project.parts.volumes.get(key) else { continue };
        let told = || format!("{}: volumes.{key}", project.place(&["volumes", key]));
        if !has_volume(tool, project, volume).with_context(told)? {
            missing_volumes.push((key, volume));
        }
    }
    if tool.plain_user && !missing_networks.is_empty() {
        bail!("only root may make networks: give each service network_mode: none or host");
    }
    for (key, network) in missing_networks {
        let thing = format!("Network {}", network.name);
        board.begin(&thing, "Creating");
        let made = make::create(tool, &create(project, key, network))
            .with_context(|| format!("{}: networks.{key}", project.place(&["networks", key])))?;
        let attributes = [("name", made.name.as_str()), ("type", made.settings.driver.word())];
        events::append(tool.store()?.root(), Kind::Network, "create", &made.id, &attributes);
        board.done(&thing, "Created");
    }
    for (key, it) in missing_volumes {
        let thing = format!("Volume {}", it.name);
        board.begin(&thing, "Creating");
        let mut labels = pairs(&it.labels);
        labels.extend([(PROJECT.to_owned(), project.name.clone()), (VOLUME.to_owned(), key.clone())]);
        let new = volume::New { labels, options: it.driver_opts.clone() };
        volume::create(tool.store()?, Some(&it.name), &new)
            .with_context(|| format!("{}: volumes.{key}", project.place(&["volumes", key])))?;
        events::append(tool.store()?.root(), Kind::Volume, "create", &it.name, &[]);
        board.done(&thing, "Created");
    }
    for mount in chosen().flat_map(|it| &it.volumes).filter(|it| it.bind.create_host_path) {
        if let Some(path) = &mount.source {
            std::fs::create_dir_all(path)
                .or_else(|error| if std::path::Path::new(path).exists() { Ok(()) } else { Err(error) })
                .with_context(|| format!("making the directory {path}, which is mounted at {}", mount.target))?;
        }
    }
    Ok(())
}

fn pairs(pairs: &super::model::Pairs) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| (key.clone(), value.clone().unwrap_or_default())).collect()
}

/// Whether a network is there, and the one that is meant.
fn is_there(tool: &Tool, project: &Project, network: &Network) -> Result<bool> {
    let there = rows::look_up(tool.store()?.db(), &network.name)?.filter(|it| it.name == network.name);
    let Some(there) = there else {
        if network.external {
            bail!("it is external, but there is no network {0}: `bundle network create {0}`", network.name);
        }
        wanted::check_network_name(&network.name)?;
        return Ok(false);
    };
    if network.external {
        return Ok(true);
    }
    let labels = &there.settings.labels;
    if labels.get(PROJECT) != Some(&project.name) {
        bail!("there is a network {} that is not this project's: if it is meant, say external: true", network.name);
    }
    if labels.get(HASH).is_some_and(|it| *it != fingerprint(network)) {
        bail!("network {} was made of other words: `bundle compose down` and up make it anew", network.name);
    }
    Ok(true)
}

fn has_volume(tool: &Tool, project: &Project, it: &Volume) -> Result<bool> {
    let there = volume::find(tool.store()?.db(), &it.name)?;
    match there {
        None if it.external => {
            bail!("it is external, but there is no volume {0}: `bundle volume create {0}`", it.name)
        }
        None => Ok(false),
        Some(_) if it.external => Ok(true),
        Some(there) => {
            if there.labels.get(PROJECT) != Some(&project.name) {
                bail!("there is a volume {} that is not this project's: if it is meant, say external: true", it.name);
            }
            if there.options != it.driver_opts {
                bail!("volume {} has other options; what is in it would be lost if it were made anew", it.name);
            }
            Ok(true)
        }
    }
}

fn fingerprint(it: &Network) -> String {
    let words = format!("{:?}", (&it.driver, &it.driver_opts, it.enable_ipv6, it.internal, &it.ipam, &it.labels));
    Sha256::digest(words.as_bytes()).iter().map(|it| format!("{it:02x}")).collect()
}

/// What `network create` is asked for.
fn create(project: &Project, key: &str, it: &Network) -> Create {
    let config = &it.ipam.config;
    let all =
        |of: fn(&super::model::IpamConfig) -> &Option<String>| config.iter().filter_map(|it| of(it).clone()).collect();
    let mut labels = pairs(&it.labels);
    labels.extend([
        (PROJECT.to_owned(), project.name.clone()),
        (NETWORK.to_owned(), key.to_owned()),
        (HASH.to_owned(), fingerprint(it)),
    ]);
    Create {
        driver: it.driver.clone().filter(|it| it != "default").unwrap_or_else(|| "bridge".to_owned()),
        subnet: all(|it| &it.subnet),
        gateway: all(|it| &it.gateway),
        ip_range: all(|it| &it.ip_range),
        aux_address: config.iter().flat_map(|it| &it.aux_addresses).map(|(name, it)| format!("{name}={it}")).collect(),
        ipv6: it.enable_ipv6,
        internal: it.internal,
        disable_dns: false,
        opt: it.driver_opts.iter().map(|(key, value)| option(key, value)).collect(),
        peer: Vec::new(),
        label: labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
        name: it.name.clone(),
    }
}

/// Docker's names of options that we have too.
fn option(key: &str, value: &str) -> String {
    let key = if key == "com.docker.network.driver.mtu" { "mtu" } else { key };
    format!("{key}={value}")
}
