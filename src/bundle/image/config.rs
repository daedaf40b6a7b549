//! An image's configuration: OCI's (image-spec 1.1, config.md) and what Docker adds to it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Digest;

/// The whole document. What is not named here is kept in `rest`, so that a change of one field loses
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Go's name of it.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of it runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: Execution,
    /// The layers' digests before compression.
    pub rootfs: RootFs,
    /// How it was made, a line a step.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Other fields, as they were.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// How a container runs, if its flags do not say otherwise. Absent and `null` are the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    /// `user`, `uid`, `user:group`, `uid:gid`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    /// `KEY=value`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What always runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what runs without an entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that are volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    /// An absolute path.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `SIGTERM`, `15`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's: what a build from this image does first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Docker's: the shell of RUN and of shell forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Other fields (Docker's Healthcheck, Hostname, ...), as they were.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}

/// The layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of the making of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// What was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step has no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// The name of a layer together with all below it (image-spec, config.md, "Layer ChainID").
pub fn chain_id(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        None => diff_id.clone(),
    }
}

impl ImageConfig {
    /// Parses a configuration that belongs to a manifest with `layers` layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(bytes).context("the image's configuration is not what was expected")?;
        if config.rootfs.kind != "layers" {
            bail!("the image's configuration: /rootfs/type is {:?}, not \"layers\"", config.rootfs.kind);
        }
        if config.rootfs.diff_ids.len() != layers {
            bail!(
                "the image's manifest has {layers} layers, its configuration {}: /rootfs/diff_ids",
                config.rootfs.diff_ids.len()
            );
        }
        Ok(config)
    }

    /// The chain id of each layer.
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::new();
        for diff_id in &self.rootfs.diff_ids {
            chain.push(chain_id(chain.last(), diff_id));
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_what_it_does_not_know() {
        let id = Digest::of(b"x");
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","docker_version":"20","config":{{"Env":["A=1"],"Cmd":null,"Healthcheck":{{"Test":["NONE"]}}}},"rootfs":{{"type":"layers","diff_ids":["{id}","{id}"]}},"history":null}}"#
        );
        let config = ImageConfig::parse(text.as_bytes(), 2).unwrap();
        assert_eq!(config.config.cmd, None);
        let again = serde_json::to_value(&config).unwrap();
        assert_eq!(again["docker_version"], "20");
        assert_eq!(again["config"]["Healthcheck"]["Test"][0], "NONE");
        assert_eq!(config.chain_ids()[0], id);
        assert_eq!(config.chain_ids()[1], Digest::of(format!("{id} {id}").as_bytes()));
        assert!(format!("{:#}", ImageConfig::parse(text.as_bytes(), 1).unwrap_err()).contains("/rootfs/diff_ids"));
        assert!(ImageConfig::parse(b"{}", 0).is_err());
    }
}
