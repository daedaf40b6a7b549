//! An image of a container: its own image and one more layer with what was changed.

use std::io::Write;

use anyhow::{Context, Result, bail};

use super::import::source_date_epoch;
use crate::container::changes::{self, STUBS};
use crate::container::record::Container;
use crate::image::config::History;
use crate::image::manifest::{Descriptor, docker, oci};
use crate::image::{Digest, Reference, change};
use crate::layer::compress::{Compression, encoder};
use crate::layer::diff::{DiffOptions, diff};
use crate::output;
use crate::store::{NewImage, now};
use crate::tool::Tool;
use crate::transfer::{Incoming, Limit, Pipeline};

/// What is committed.
pub struct Commit<'a> {
    /// The container.
    pub container: &'a Container,
    /// Instructions for the configuration.
    pub changes: &'a [String],
    /// For the history.
    pub message: Option<&'a str>,
    /// For the configuration.
    pub author: Option<&'a str>,
    /// The image's name.
    pub name: Option<&'a Reference>,
}

/// Makes the image; its id. With `SOURCE_DATE_EPOCH` the same changes give the same image.
pub fn commit(tool: &Tool, commit: &Commit<'_>) -> Result<Digest> {
    let store = tool.store()?;
    let epoch = source_date_epoch()?;
    let base = store
        .look_up(&commit.container.image)?
        .with_context(|| format!("the image of container {} has been removed", commit.container.name))?;
    let (mut document, mut config) = store.read(&base)?;
    for line in commit.changes {
        change::apply(&mut config.config, line)?;
    }
    let making = store.making()?;

    // The layer: from what the container has written, compressed, hashed before and after.
    let upper = changes::upper(tool, commit.container)?;
    let mut spool = store.spool()?;
    let mut encoder = encoder(Compression::Gzip, None, &mut spool)?;
    let options = DiffOptions { overlay: tool.overlay(), source_date_epoch: epoch, stubs: &STUBS };
    diff(std::os::fd::AsFd::as_fd(&upper), &mut encoder, &options).context("reading what the container has changed")?;
    encoder.flush()?;
    encoder.finish()?;
    let (digest, size) = spool.keep()?;
    let media_type = if base.media_type == docker::MANIFEST { docker::LAYER_GZIP } else { oci::LAYER_GZIP };
    let layer = Descriptor::new(media_type, digest, size);
    let pipeline = Pipeline { overlay: tool.overlay(), limit: Limit(Some(u64::MAX)) };
    let mut ignore = |_| Ok(());
    let incoming = Incoming::new(&layer, Box::new(store.blob(&layer.digest)?), None, &mut ignore);
    let new = pipeline.unpack(store, incoming, &layer, None)?;

    let created = Some(output::time(epoch.unwrap_or_else(now)));
    config.rootfs.diff_ids.push(new.diff_id().clone());
    config.created.clone_from(&created);
    config.author = commit.author.map(str::to_owned).or(config.author);
    config.history.push(History {
        created,
        created_by: Some("bundle commit".to_owned()),
        author: commit.author.map(str::to_owned),
        comment: commit.message.map(str::to_owned),
        empty_layer: false,
    });
    let bytes = serde_json::to_vec(&config)?;
    store.put(&bytes)?;
    document.config = Descriptor::of(&document.config.media_type, &bytes);
    document.layers.push(layer);
    document.annotations = None;
    let bytes = serde_json::to_vec(&document)?;
    store.put(&bytes)?;
    let manifest = Descriptor::of(&base.media_type, &bytes);

    let known = config.chain_ids().iter().map(|chain| store.layer(chain)).collect::<Result<Vec<_>>>()?;
    let mut layers: Vec<_> = known.iter().map(|_| None).collect();
    if let Some(last) = layers.last_mut() {
        *last = Some(new);
    }
    let layers = pipeline.settle(store, &known, layers)?;
    let names: Vec<(String, Digest)> = commit.name.iter().map(|it| (it.to_string(), manifest.digest.clone())).collect();
    let image = NewImage { manifest: &manifest, document: &document, config: &config, layers: &layers, names: &names };
    if !store.commit(&image)? {
        bail!("the image of the container has been removed by another bundle meanwhile");
    }
    drop(making);
    Ok(document.config.digest)
}
