//! `bundle inspect`, of images.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::Inspect;
use crate::output;
use crate::store::{Image, Store};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Inspect) -> Result<()> {
    let store = tool.store()?;
    let documents =
        args.images.iter().map(|name| document(store, &super::find(tool, name)?)).collect::<Result<Vec<_>>>()?;
    output::documents(args.format.as_deref(), &documents)
}

/// Docker's names of all that is known.
fn document(store: &Store, image: &Image) -> Result<Value> {
    let (manifest, config) = store.read(image)?;
    let names = store.names(image)?;
    let tags: Vec<String> = names.iter().filter(|it| it.0.tag.is_some()).map(|it| it.0.familiar()).collect();
    let mut digests: Vec<String> =
        names.iter().map(|(name, target)| format!("{}@{target}", name.familiar_name())).collect();
    digests.sort();
    digests.dedup();
    let layers = image.chain.as_ref().and_then(|top| store.layers(top).ok()).unwrap_or_default();
    let dirs: Vec<String> =
        layers.iter().map(|it| store.root().join("layers").join(&it.dir).display().to_string()).collect();
    Ok(json!({
        "Id": image.id,
        "Digest": image.digest,
        "MediaType": image.media_type,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": config.created,
        "Pulled": output::time(image.created),
        "Author": config.author.clone().unwrap_or_default(),
        "Comment": config.history.last().and_then(|it| it.comment.clone()).unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": layers.iter().map(|it| it.size).sum::<u64>(),
        "CompressedSize": image.size,
        "Config": config.config,
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Layers": manifest.layers,
        "LayerDirectories": dirs,
    }))
}
