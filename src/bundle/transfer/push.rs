//! An image to a registry: what the registry has not got of the layers, all at the same time, then the
//! configuration, and the manifest last, so that no manifest points to what is not there.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use super::unpack::each_layer;
use crate::image::manifest::{Descriptor, Manifest, docker, oci};
use crate::image::{Digest, Reference};
use crate::layer::compress::{Compression, encoder};
use crate::output::progress::Progress;
use crate::registry::Client;
use crate::store::{Image, Store};
use crate::tool::Tool;

/// Pushes an image under a name; the digest that the registry has it by. Layers that are not compressed are, as
/// with Docker; then the manifest, and the digest, are others than here.
pub fn push(tool: &Tool, client: &Client, image: &Image, reference: &Reference, progress: &Progress) -> Result<Digest> {
    let store = tool.store()?;
    let making = store.making()?;
    let (document, _) = store.read(image)?;
    let mut made = Vec::new();
    let result = compressed(store, image, document, &mut made, progress)
        .and_then(|(document, bytes)| send_image(store, client, image, reference, &document, &bytes, progress));
    drop(making);
    store.discard_blobs(&made);
    result
}

fn send_image(
    store: &Store,
    client: &Client,
    image: &Image,
    reference: &Reference,
    document: &Manifest,
    bytes: &[u8],
    progress: &Progress,
) -> Result<Digest> {
    let sources: Vec<String> = repositories(store, image, reference)?;
    each_layer(store, document, |store, _, layer, _| {
        send(store, client, reference, layer, &sources, progress).map(|()| None)
    })?;
    send(store, client, reference, &document.config, &sources, progress)?;
    let media_type = document.media_type.as_deref().unwrap_or(&image.media_type);
    client.put_manifest(reference, media_type, bytes)
}

/// The image's manifest with compressed layers, and its bytes: as they are here where nothing had to be done. What
/// is compressed for this alone is noted in `made`.
fn compressed(
    store: &Store,
    image: &Image,
    mut document: Manifest,
    made: &mut Vec<Digest>,
    progress: &Progress,
) -> Result<(Manifest, Vec<u8>)> {
    let mut changed = false;
    for layer in &mut document.layers {
        let media_type = match layer.media_type.as_str() {
            oci::LAYER => oci::LAYER_GZIP,
            docker::LAYER => docker::LAYER_GZIP,
            _ => continue,
        };
        let step = progress.step(layer.digest.short(), "Compressing", layer.size);
        let mut spool = store.spool()?;
        let mut encoder = encoder(Compression::Gzip, None, &mut spool)?;
        std::io::copy(&mut store.blob(&layer.digest)?, &mut encoder).context("compressing a layer")?;
        encoder.finish()?;
        let (digest, size) = spool.keep()?;
        made.push(digest.clone());
        step.finish("Compressed");
        *layer = Descriptor { annotations: layer.annotations.take(), ..Descriptor::new(media_type, digest, size) };
        changed = true;
    }
    let bytes = if changed { serde_json::to_vec(&document)? } else { store.document(&image.digest)? };
    Ok((document, bytes))
}

/// Other repositories of the same registry that have the image: blobs need not be sent from here.
fn repositories(store: &Store, image: &Image, reference: &Reference) -> Result<Vec<String>> {
    let mut found: Vec<String> = store
        .names(image)?
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.registry == reference.registry && name.repository != reference.repository)
        .map(|name| name.repository)
        .collect();
    found.dedup();
    Ok(found)
}

fn send(
    store: &Store,
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    sources: &[String],
    progress: &Progress,
) -> Result<()> {
    let step = progress.step(blob.digest.short(), "Preparing", blob.size);
    if client.has_blob(reference, blob)? {
        step.finish("Already exists");
        return Ok(());
    }
    for source in sources {
        if client.mount_blob(reference, blob, source)? {
            step.finish(&format!("Mounted from {source}"));
            return Ok(());
        }
    }
    step.say("Pushing");
    let open = |offset| -> Result<Box<dyn Read>> {
        let mut file = store.blob(&blob.digest)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    };
    client.upload_blob(reference, blob, open, &|sent| step.set(sent))?;
    step.finish("Pushed");
    Ok(())
}
