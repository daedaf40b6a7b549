//! `--network cni:NAME`: plugins of the Container Network Interface make the network, in the place of ours
//! (the specification, version 1.0; its configurations lie in /etc/cni/net.d, its programs in /usr/lib/cni and
//! /opt/cni/bin).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::ports::{HostPorts, Publish};
use crate::container::files::Site;

/// The largest configuration that is read, in bytes.
const MOST: u64 = 1 << 20;
/// The container's device.
const DEVICE: &str = "eth0";

/// What was asked of plugins, and has to be asked back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attached {
    /// The list of plugins, with a name and a version.
    config: Value,
    /// The ports that were asked for, as plugins read them.
    ports: Value,
    /// What the last plugin has said.
    pub result: Value,
}

fn dirs(variable: &str, usual: &[&str]) -> Vec<PathBuf> {
    match std::env::var_os(variable).filter(|it| !it.is_empty()) {
        Some(list) => std::env::split_paths(&list).collect(),
        None => usual.iter().map(PathBuf::from).collect(),
    }
}

/// Finds a network's configuration by its name, and reads it.
pub fn find(name: &str) -> Result<Attached> {
    let dirs = dirs("NETCONFPATH", &["/etc/cni/net.d"]);
    let mut known = Vec::new();
    for dir in &dirs {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|it| it.path()).collect();
        files.sort();
        for path in files {
            let kind = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
            if !["conflist", "conf", "json"].contains(&kind) || path.metadata().map_or(0, |it| it.len()) > MOST {
                continue;
            }
            let told = || format!("--network cni:{name}: reading {}", path.display());
            let text = std::fs::read(&path).with_context(told)?;
            let Ok(mut config) = serde_json::from_slice::<Value>(&text) else { continue };
            if config["name"] != name {
                known.extend(config["name"].as_str().map(str::to_owned));
                continue;
            }
            // One plugin alone.
            if config["plugins"].is_null() {
                config = json!({"name": name, "cniVersion": config["cniVersion"], "plugins": [config]});
            }
            if config["plugins"].as_array().is_none_or(Vec::is_empty) {
                bail!("--network cni:{name}: {} names no plugins", path.display());
            }
            return Ok(Attached { config, ports: Value::Null, result: Value::Null });
        }
    }
    let dirs: Vec<String> = dirs.iter().map(|it| it.display().to_string()).collect();
    bail!("--network cni:{name}: no such network in {}; there are: {}", dirs.join(", "), known.join(", "))
}

impl Attached {
    /// Has ports of the host lead to the container: what one of the plugins must know to do.
    pub fn publish(&mut self, wanted: &[Publish]) -> Result<()> {
        let mut list = Vec::new();
        for it in wanted {
            let HostPorts::Each(outside) = &it.ports else {
                bail!("--publish: with --network cni:NAME each port is named: HOST:PORT")
            };
            if it.proxy || !it.sources.is_empty() {
                bail!("--publish: via= and from= are not known to plugins");
            }
            for (outside, inside) in outside.clone().zip(it.container.clone()) {
                list.push(json!({
                    "hostPort": outside,
                    "containerPort": inside,
                    "protocol": it.protocol.to_string(),
                    "hostIP": it.host.map(|it| it.to_string()).unwrap_or_default(),
                }));
            }
        }
        let knows = |it: &Value| it["capabilities"]["portMappings"] == true;
        if !list.is_empty() && !self.plugins().iter().any(knows) {
            bail!("--publish: no plugin of this network has the capability portMappings");
        }
        self.ports = list.into();
        Ok(())
    }

    fn plugins(&self) -> &[Value] {
        self.config["plugins"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Calls all plugins for a namespace.
    pub fn add(&mut self, container: &str, namespace: &Path) -> Result<()> {
        for plugin in self.plugins().to_vec() {
            let said = self.call("ADD", &plugin, container, Some(namespace))?;
            self.result = serde_json::from_slice(&said)
                .with_context(|| format!("the CNI plugin {} says no JSON", plugin["type"]))?;
        }
        Ok(())
    }

    /// Calls them in the other order to undo it. All of them, whatever one says.
    pub fn delete(&self, container: &str) -> Result<()> {
        let mut failed = None;
        for plugin in self.plugins().iter().rev() {
            if let Err(error) = self.call("DEL", plugin, container, None) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn call(&self, what: &str, plugin: &Value, container: &str, namespace: Option<&Path>) -> Result<Vec<u8>> {
        let kind = plugin["type"].as_str().filter(|it| !it.contains('/')).context("a CNI plugin without a type")?;
        let dirs = dirs("CNI_PATH", &["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]);
        let program = dirs.iter().map(|it| it.join(kind)).find(|it| it.is_file());
        let program = program.with_context(|| {
            format!("the CNI plugin {kind} is not installed: see the package containernetworking-plugins")
        })?;
        let mut input = plugin.clone();
        input["name"] = self.config["name"].clone();
        input["cniVersion"] = self.config["cniVersion"].clone();
        if !self.result.is_null() {
            input["prevResult"] = self.result.clone();
        }
        if plugin["capabilities"]["portMappings"] == true && self.ports.as_array().is_some_and(|it| !it.is_empty()) {
            input["runtimeConfig"] = json!({"portMappings": self.ports});
        }
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", what)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", namespace.unwrap_or(Path::new("")))
            .env("CNI_IFNAME", DEVICE)
            .env("CNI_PATH", std::env::join_paths(dirs)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the CNI plugin {}", program.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            let _ = std::io::Write::write_all(&mut stdin, &serde_json::to_vec(&input)?);
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let (message, details) = (said["msg"].as_str().unwrap_or_default(), said["details"].as_str());
            let other = String::from_utf8_lossy(&output.stderr);
            let message = if message.is_empty() { other.trim() } else { message };
            bail!("the CNI plugin {kind} ({what}): {message} {}", details.unwrap_or_default());
        }
        Ok(output.stdout)
    }

    /// What the plugins have said of addresses and resolvers.
    pub fn site(&self) -> Site {
        let words = |list: &Value, key: &str| -> Vec<IpAddr> {
            let texts = list
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| if key.is_empty() { it.as_str() } else { it[key].as_str() });
            texts.filter_map(|it| it.split('/').next()?.parse().ok()).collect()
        };
        Site {
            addresses: words(&self.result["ips"], "address"),
            servers: words(&self.result["dns"]["nameservers"], ""),
            gateways: words(&self.result["ips"], "gateway"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ports::parse;

    #[test]
    fn addresses_of_a_result() {
        let result = json!({"ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "dns": {"nameservers": ["10.1.0.2"]}});
        let it = Attached { config: json!({}), ports: Value::Null, result };
        let site = it.site();
        assert_eq!(site.addresses, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
        assert_eq!(site.gateways, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(site.servers, ["10.1.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn ports_need_a_plugin_that_knows_them() {
        let plugins =
            json!({"plugins": [{"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        let mut it = Attached { config: plugins, ports: Value::Null, result: Value::Null };
        it.publish(&[parse("127.0.0.1:8080-8081:80-81").unwrap()]).unwrap();
        assert_eq!(it.ports[1]["hostPort"], 8081);
        assert!(it.publish(&[parse("80").unwrap()]).is_err());
        assert!(it.publish(&[parse("80:80,via=proxy").unwrap()]).is_err());
        it.config = json!({"plugins": [{"type": "bridge"}]});
        assert!(it.publish(&[parse("80:80").unwrap()]).is_err());
        it.publish(&[]).unwrap();
    }
}
