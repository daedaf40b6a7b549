//! Images that a build begins with or takes files from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use super::layers::{Entry, Stack};
use crate::container::demo;
use crate::image::Reference;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Platform, docker, oci};
use crate::output::progress::Progress;
use crate::registry::Client;
use crate::store::Image;
use crate::tool::Tool;
use crate::transfer::{self, Limit};

/// An image that is here, unpacked.
pub struct Base {
    /// Its configuration.
    pub config: ImageConfig,
    /// Its layers.
    pub stack: Stack,
}

/// How images are found.
pub struct Images<'a> {
    /// The registries.
    pub client: &'a Client,
    /// `--pull`.
    pub always: bool,
    /// `--max-layer-size`.
    pub limit: Limit,
    /// Whether transfers are shown.
    pub quiet: bool,
    found: Mutex<HashMap<(String, String), Arc<Base>>>,
}

impl<'a> Images<'a> {
    /// None is known yet.
    pub fn new(client: &'a Client, always: bool, limit: Limit, quiet: bool) -> Self {
        Self { client, always, limit, quiet, found: Mutex::default() }
    }

    /// The image of a name for a platform; `given`: whether somebody has asked for the platform.
    pub fn find(&self, tool: &Tool, name: &str, platform: &Platform, given: bool) -> Result<Arc<Base>> {
        // One after the other: several stages of one image fetch it once.
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (name.to_owned(), platform.to_string());
        if let Some(base) = known.get(&key) {
            return Ok(base.clone());
        }
        let image = self.image(tool, name, platform, given)?;
        let layers = transfer::unpacked(tool, &image)?;
        let (document, config) = tool.store()?.read(&image)?;
        let chains = config.chain_ids();
        let mut stack = Stack::default();
        for (index, layer) in layers.into_iter().enumerate() {
            let (Some(chain), Some(blob)) = (chains.get(index), document.layers.get(index)) else {
                bail!("image {name}: its layers are not those of its configuration; see `bundle store check`");
            };
            stack.0.push(Entry {
                chain: chain.clone(),
                diff_id: config.rootfs.diff_ids[index].clone(),
                dir: layer.dir,
                blob: Some(as_oci(blob)),
            });
        }
        let base = Arc::new(Base { config, stack });
        known.insert(key, base.clone());
        Ok(base)
    }

    fn image(&self, tool: &Tool, name: &str, platform: &Platform, given: bool) -> Result<Image> {
        let store = tool.store()?;
        if name.parse::<Reference>().is_ok_and(|it| it.to_string() == demo::NAME)
            && let Some(image) = demo::ensure(store)?
        {
            return Ok(image);
        }
        if !self.always
            && let Some(image) = store.look_up(name)?
        {
            if !given {
                return Ok(image);
            }
            let (_, config) = store.read(&image)?;
            let has = Platform {
                architecture: config.architecture,
                os: config.os,
                variant: config.variant,
                os_version: None,
            };
            if has.fits(platform) > 0 {
                return Ok(image);
            }
        }
        let reference: Reference = name.parse().with_context(|| format!("{name} is no image's name"))?;
        transfer::pull(tool, self.client, &reference, platform, self.limit, &Progress::new(self.quiet))
            .with_context(|| format!("no image {name}"))
    }
}

/// A layer as an OCI manifest names it: the bytes are the same.
fn as_oci(blob: &Descriptor) -> Descriptor {
    let media_type = match blob.media_type.as_str() {
        docker::LAYER => oci::LAYER,
        docker::LAYER_GZIP => oci::LAYER_GZIP,
        other => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..blob.clone() }
}
