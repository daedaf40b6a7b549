//! Manifests and indexes, OCI's (image-spec 1.1) and Docker's (schema 2), which differ in media types only.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Digest;

/// OCI's media types.
pub mod oci {
    /// A manifest of one platform.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// A list of manifests.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image's configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer, not compressed.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer, compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer, compressed with zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// Docker's media types.
pub mod docker {
    /// A manifest of one platform, schema 2.
    pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A list of manifests.
    pub const INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// An image's configuration.
    pub const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A layer, compressed with gzip.
    pub const LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// A layer, not compressed.
    pub const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// A manifest of schema 1, which is refused.
    pub const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
    /// The same, signed.
    pub const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
}

/// The largest manifest or configuration that is read (distribution-spec: registries take 4 MiB).
pub const LARGEST_DOCUMENT: u64 = 4 << 20;

/// What points to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it may be fetched (foreign layers).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// For what machine the image is, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor of bytes in memory.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// A descriptor without the optional parts.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// Whether it points to an index.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), oci::INDEX | docker::INDEX)
    }

    /// Whether it points to a manifest of one platform.
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), oci::MANIFEST | docker::MANIFEST)
    }
}

/// The machine that an image is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, ...: Go's names.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: variant.map(str::to_owned),
            os_version: None,
        }
    }

    /// Reads `linux/arm64/v8`, `arm64`, `linux/x86_64`.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => bail!("platform {text:?}: not of the form OS/ARCHITECTURE[/VARIANT]"),
        };
        if parts
            .iter()
            .any(|part| part.is_empty() || !part.bytes().all(|it| it.is_ascii_alphanumeric() || b"_-.".contains(&it)))
        {
            bail!("platform {text:?}: not of the form OS/ARCHITECTURE[/VARIANT]");
        }
        let (architecture, implied) = match architecture {
            "x86_64" | "x86-64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "i386" | "i686" => ("386", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            other => (other, None),
        };
        let variant = variant.or(implied).map(str::to_owned);
        Ok(Self { architecture: architecture.to_owned(), os: os.to_owned(), variant, os_version: None })
    }

    /// How well an image for `self` runs where `wanted` is asked for: 0 not, else the higher the better.
    pub fn fits(&self, wanted: &Self) -> u32 {
        if self.os != wanted.os || self.architecture != wanted.architecture {
            return 0;
        }
        let number = |platform: &Self| {
            let default = match platform.architecture.as_str() {
                "arm64" => 8,
                "arm" => 7,
                _ => 1,
            };
            platform.variant.as_ref().and_then(|it| it.trim_start_matches('v').parse::<u32>().ok()).unwrap_or(default)
        };
        // A machine runs what is made for an older variant of it.
        if number(self) > number(wanted) { 0 } else { 1 + number(self) }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(to, "/{variant}"))
    }
}

/// An image of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    /// OCI's, of a configuration and layers, without the optional parts.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(oci::MANIFEST.to_owned());
        Self { schema_version: 2, media_type, artifact_type: None, config, layers, annotations: None }
    }
}

/// Images of several platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images.
    pub manifests: Vec<Descriptor>,
    /// Anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Index {
    /// The image that fits a platform best; attestations (platform `unknown`) never do.
    pub fn choose(&self, wanted: &Platform) -> Result<&Descriptor> {
        let best = self
            .manifests
            .iter()
            .filter(|it| it.is_manifest() || it.is_index())
            .map(|it| (it.platform.as_ref().map_or(0, |platform| platform.fits(wanted)), it))
            .filter(|(fits, _)| *fits > 0)
            // The first of equals, as the specification has it.
            .rev()
            .max_by_key(|(fits, _)| *fits);
        if let Some((_, found)) = best {
            return Ok(found);
        }
        if let [only] = &self.manifests[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let known: Vec<String> = self
            .manifests
            .iter()
            .filter_map(|it| it.platform.as_ref())
            .map(ToString::to_string)
            .filter(|it| !it.contains("unknown"))
            .collect();
        bail!(
            "no image for {wanted} in the index; there is: {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )
    }
}

/// What a document called a manifest turns out to be.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // taken apart at once
pub enum Document {
    /// One platform.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

impl Document {
    /// Parses bytes by the media type that came with them, or that they name themselves.
    pub fn parse(media_type: Option<&str>, bytes: &[u8]) -> Result<(String, Self)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            schema_version: Option<u32>,
            media_type: Option<String>,
            #[serde(default)]
            manifests: Option<serde::de::IgnoredAny>,
            #[serde(default)]
            layers: Option<serde::de::IgnoredAny>,
        }
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            bail!("a manifest of {} bytes: {LARGEST_DOCUMENT} are the most", bytes.len());
        }
        let kind: Kind = serde_json::from_slice(bytes).context("the manifest is no JSON that was expected")?;
        if kind.schema_version == Some(1) || matches!(media_type, Some(docker::SCHEMA1 | docker::SCHEMA1_SIGNED)) {
            bail!(
                "the manifest is of Docker's schema 1, which has been out of use since 2017: push the image again with a tool of today"
            );
        }
        if kind.schema_version != Some(2) {
            bail!("the manifest's schemaVersion is {:?}, not 2", kind.schema_version);
        }
        // A document that is both could mean one image to one reader and another to the next.
        if kind.manifests.is_some() && kind.layers.is_some() {
            bail!("the manifest has both /manifests and /layers");
        }
        let known = |it: &&str| matches!(*it, oci::MANIFEST | oci::INDEX | docker::MANIFEST | docker::INDEX);
        let named = kind.media_type.as_deref();
        let given = media_type.map(|it| it.split(';').next().unwrap_or(it).trim());
        if let (Some(given), Some(named)) = (given.filter(known), named)
            && given != named
        {
            bail!("the manifest came as {given} and calls itself {named}");
        }
        let media_type = match named.or(given.filter(known)) {
            Some(named) => named,
            None if kind.manifests.is_some() => oci::INDEX,
            None => oci::MANIFEST,
        };
        let document = match media_type {
            oci::MANIFEST | docker::MANIFEST => {
                Self::Manifest(serde_json::from_slice(bytes).context("the manifest is not whole")?)
            }
            oci::INDEX | docker::INDEX => Self::Index(serde_json::from_slice(bytes).context("the index is not whole")?),
            other => bail!("media type {other:?}: neither a manifest nor an index"),
        };
        Ok((media_type.to_owned(), document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>) -> Descriptor {
        let platform = Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
            os_version: None,
        };
        Descriptor {
            platform: Some(platform),
            ..Descriptor::of(oci::MANIFEST, format!("{os}{architecture}{variant:?}").as_bytes())
        }
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let manifests = vec![
            entry("unknown", "unknown", None),
            entry("windows", "amd64", None),
            entry("linux", "arm", Some("v6")),
            entry("linux", "arm", Some("v7")),
            entry("linux", "amd64", None),
            entry("linux", "arm64", Some("v8")),
        ];
        let index = Index { schema_version: 2, media_type: None, manifests, annotations: None };
        let chosen = |text: &str| {
            index.choose(&Platform::parse(text).unwrap()).map(|it| it.platform.clone().unwrap().to_string()).ok()
        };
        assert_eq!(chosen("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen("x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(chosen("linux/arm").as_deref(), Some("linux/arm/v7"));
        assert_eq!(chosen("linux/arm/v6").as_deref(), Some("linux/arm/v6"));
        assert_eq!(chosen("aarch64").as_deref(), Some("linux/arm64/v8"));
        assert_eq!(chosen("linux/arm/v5"), None);
        assert_eq!(chosen("linux/s390x"), None);
        for bad in ["", "a/b/c/d", "linux/", "/amd64", "linux/a b"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn documents_are_what_they_say() {
        let manifest = |more: &str| {
            let empty = Digest::of(b"");
            format!(
                r#"{{"schemaVersion":2{more},"config":{{"mediaType":"x","digest":"{empty}","size":0}},"layers":[]}}"#
            )
        };
        let kind =
            |media_type: Option<&str>, text: &str| Document::parse(media_type, text.as_bytes()).map(|(it, _)| it);
        assert_eq!(kind(None, &manifest("")).unwrap(), oci::MANIFEST);
        assert_eq!(kind(Some("application/json"), &manifest("")).unwrap(), oci::MANIFEST);
        assert_eq!(kind(Some(docker::MANIFEST), &manifest("")).unwrap(), docker::MANIFEST);
        assert_eq!(kind(None, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap(), oci::INDEX);
        for (media_type, text, words) in [
            (None, r#"{"schemaVersion":1,"name":"x"}"#.to_owned(), "schema 1"),
            (Some(docker::SCHEMA1_SIGNED), manifest(""), "schema 1"),
            (None, "{}".to_owned(), "schemaVersion"),
            (None, "[]".to_owned(), "no JSON that was expected"),
            (None, manifest(r#","manifests":[]"#), "both"),
            (
                Some(docker::MANIFEST),
                manifest(r#","mediaType":"application/vnd.oci.image.manifest.v1+json""#),
                "calls itself",
            ),
            (None, manifest(r#","mediaType":"text/html""#), "neither"),
            (None, manifest("").replace("\"size\":0", "\"size\":-1"), "not whole"),
            (None, manifest("").replace("sha256:", "sha256:../"), "not whole"),
        ] {
            let error = format!("{:#}", kind(media_type, &text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
