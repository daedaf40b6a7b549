//! An image of one layer, of a tar of a root file system.

use std::io::Read;

use anyhow::{Context, Result, bail};

use crate::image::config::{Execution, History, ImageConfig, RootFs};
use crate::image::manifest::{Descriptor, Manifest, Platform, oci};
use crate::image::{Digest, Reference, change};
use crate::layer::compress::{self, Compression};
use crate::output;
use crate::store::{NewImage, now};
use crate::tool::Tool;
use crate::transfer::{Incoming, Limit, Pipeline};

/// What is imported.
pub struct Import<'a> {
    /// The tar.
    pub stream: &'a mut dyn Read,
    /// Where it came from, for the history.
    pub from: &'a str,
    /// Instructions for the configuration.
    pub changes: &'a [String],
    /// For the history.
    pub message: Option<&'a str>,
    /// For the configuration.
    pub platform: Platform,
    /// Its size limit.
    pub limit: Limit,
    /// The image's name.
    pub name: Option<&'a Reference>,
}

/// The time that reproducible images have, if the caller wants one (reproducible-builds.org): seconds since 1970.
pub fn source_date_epoch() -> Result<Option<i64>> {
    let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("SOURCE_DATE_EPOCH {text:?}: no number of seconds"))?))
}

/// Makes the image; its id. `SOURCE_DATE_EPOCH` (seconds since 1970) is the time in it, if set.
pub fn import(tool: &Tool, import: Import<'_>) -> Result<Digest> {
    let mut execution = Execution::default();
    for line in import.changes {
        change::apply(&mut execution, line)?;
    }
    let created = source_date_epoch()?.unwrap_or_else(now);
    let store = tool.store()?;
    let making = store.making()?;
    let mut spool = store.spool()?;
    std::io::copy(import.stream, &mut spool).with_context(|| format!("reading {}", import.from))?;
    let compression = compress::decoder(spool.begin()?)?.0;
    let (digest, size) = spool.keep()?;
    let media_type = match compression {
        Compression::None => oci::LAYER,
        Compression::Gzip => oci::LAYER_GZIP,
        Compression::Zstd => oci::LAYER_ZSTD,
    };
    let layer = Descriptor::new(media_type, digest, size);
    let pipeline = Pipeline { overlay: tool.overlay(), limit: import.limit };
    let mut ignore = |_| Ok(());
    let incoming = Incoming::new(&layer, Box::new(store.blob(&layer.digest)?), None, &mut ignore);
    let mut made = vec![layer.digest.clone()];
    let make = || -> Result<Digest> {
        let new =
            pipeline.unpack(store, incoming, &layer, None).with_context(|| format!("importing {}", import.from))?;
        let diff_id = new.diff_id().clone();
        let config = ImageConfig {
            created: Some(output::time(created)),
            architecture: import.platform.architecture,
            os: import.platform.os,
            variant: import.platform.variant,
            config: execution,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
            history: vec![History {
                created: Some(output::time(created)),
                comment: Some(import.message.map_or_else(|| format!("Imported from {}", import.from), str::to_owned)),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let bytes = serde_json::to_vec(&config)?;
        made.push(Digest::of(&bytes));
        store.put(&bytes)?;
        let document = Manifest::new(Descriptor::of(oci::CONFIG, &bytes), vec![layer]);
        let bytes = serde_json::to_vec(&document)?;
        made.push(Digest::of(&bytes));
        store.put(&bytes)?;
        let manifest = Descriptor::of(oci::MANIFEST, &bytes);
        let known = [store.layer(&config.chain_ids()[0])?];
        let layers =
            pipeline.settle(store, &known, vec![Some(new)]).with_context(|| format!("importing {}", import.from))?;
        let names: Vec<(String, Digest)> =
            import.name.iter().map(|it| (it.to_string(), manifest.digest.clone())).collect();
        if !store.commit(&NewImage {
            manifest: &manifest,
            document: &document,
            config: &config,
            layers: &layers,
            names: &names,
        })? {
            bail!("what the image is made of has been removed by another bundle meanwhile: import it again");
        }
        Ok(document.config.digest)
    };
    let result = make();
    drop(making);
    // What was made for an image that never was is of no use.
    if result.is_err() {
        store.discard_blobs(&made);
    }
    result
}
