//! Images from an archive or a directory: an OCI layout (also as Docker, Podman, skopeo and buildx write it), or
//! what `docker save` writes.

use std::io::Read;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::source::Source;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Document, Index, Manifest, Platform, docker, oci};
use crate::image::{Digest, Reference};
use crate::output::progress::Progress;
use crate::store::{NewImage, Store};
use crate::tool::Tool;
use crate::transfer::{Limit, Pipeline, from_blobs};

/// An image that has been loaded.
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The names that it got.
    pub names: Vec<Reference>,
}

/// One entry of Docker's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// How an image is found in an archive.
struct Found {
    manifest: Descriptor,
    bytes: Vec<u8>,
    document: Manifest,
    names: Vec<Reference>,
    /// What its name pointed to: the manifest or an index.
    target: Digest,
}

/// Loads all images of an archive (`None`: from the standard input).
pub fn load(
    tool: &Tool,
    path: Option<&std::path::Path>,
    platform: &Platform,
    limit: Limit,
    progress: &Progress,
) -> Result<Vec<Loaded>> {
    let store = tool.store()?;
    let making = store.making()?;
    let mut source = match path {
        Some(path) if path.is_dir() => Source::directory(store, path)?,
        _ => Source::archive(store),
    };
    let mut load = || {
        match path {
            Some(path) if !path.is_dir() => {
                let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
                source.read(file, limit).with_context(|| path.display().to_string())?;
            }
            Some(_) => {}
            None => source.read(std::io::stdin().lock(), limit).context("the archive on the standard input")?,
        }
        let pipeline = Pipeline { overlay: tool.overlay(), limit };
        let found = images(&mut source, platform)
            .with_context(|| path.map_or("the standard input".to_owned(), |it| it.display().to_string()))?;
        found.iter().map(|image| add(tool, &pipeline, &mut source, image, progress)).collect()
    };
    let result = load();
    drop(making);
    source.discard();
    store.collect()?;
    result
}

fn images(source: &mut Source<'_>, platform: &Platform) -> Result<Vec<Found>> {
    let docker = source.document("manifest.json")?;
    let entries: Vec<DockerEntry> = match &docker {
        Some(bytes) => serde_json::from_slice(bytes).context("manifest.json is not what was expected")?,
        None => Vec::new(),
    };
    if let Some(bytes) = source.document("index.json")? {
        let (_, Document::Index(index)) = Document::parse(Some(oci::INDEX), &bytes).context("index.json")? else {
            bail!("index.json is no index");
        };
        return layout(source, &index, &entries, platform);
    }
    if docker.is_some() {
        if entries.is_empty() {
            bail!("manifest.json names no image");
        }
        return entries.iter().map(|entry| docker_image(source, entry)).collect();
    }
    if source.document("repositories")?.is_some() {
        bail!("the archive is of Docker 1.9 or older: save the image again with a tool of today");
    }
    bail!(
        "neither an OCI layout (index.json) nor an archive of `docker save` (manifest.json); a tar of a root file system is for `bundle import`"
    );
}

/// The images of an OCI layout; those of the same manifest are one image with several names.
fn layout(source: &mut Source<'_>, index: &Index, entries: &[DockerEntry], platform: &Platform) -> Result<Vec<Found>> {
    let mut images: Vec<Found> = Vec::new();
    for descriptor in &index.manifests {
        let Some(mut found) = from_layout(source, descriptor, platform, 3)? else { continue };
        found.target = descriptor.digest.clone();
        found.names.extend(name_of(descriptor)?);
        match images.iter_mut().find(|it| it.manifest.digest == found.manifest.digest) {
            Some(same) => {
                let new: Vec<Reference> = found.names.into_iter().filter(|it| !same.names.contains(it)).collect();
                same.names.extend(new);
            }
            None => images.push(found),
        }
    }
    // Docker's list tells images by their configurations, which several may share: where the index has a name, it
    // knows better.
    let mut given: Vec<Reference> = images.iter().flat_map(|it| it.names.clone()).collect();
    for image in &mut images {
        for entry in entries.iter().filter(|it| it.config.ends_with(image.document.config.digest.hex())) {
            for tag in entry.repo_tags.iter().flatten() {
                let name: Reference = tag.parse().context("manifest.json: RepoTags")?;
                if !given.contains(&name) {
                    given.push(name.clone());
                    image.names.push(name);
                }
            }
        }
    }
    if images.is_empty() {
        bail!("the layout has no image for {platform}");
    }
    Ok(images)
}

/// The name that Docker and containerd write, else the one that skopeo and Podman write. A tag alone, as umoci
/// writes it, is no name.
fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    let annotation = |key: &str| descriptor.annotations.as_ref().and_then(|it| it.get(key));
    if let Some(name) = annotation("io.containerd.image.name") {
        return Ok(Some(name.parse()?));
    }
    match annotation("org.opencontainers.image.ref.name") {
        Some(name) if name.contains([':', '/']) => Ok(Some(name.parse()?)),
        _ => Ok(None),
    }
}

fn from_layout(
    source: &mut Source<'_>,
    descriptor: &Descriptor,
    platform: &Platform,
    depth: u32,
) -> Result<Option<Found>> {
    let path = format!("blobs/{}/{}", descriptor.digest.algorithm(), descriptor.digest.hex());
    // An index may name images that the archive does not hold.
    let Some(bytes) = source.document(&path)? else { return Ok(None) };
    let mut hasher = descriptor.digest.hasher();
    hasher.update(&bytes);
    if hasher.finish() != descriptor.digest || bytes.len() as u64 != descriptor.size {
        bail!("{path} is damaged: its bytes are not those of its name");
    }
    match Document::parse(Some(&descriptor.media_type), &bytes).with_context(|| path.clone())? {
        (media_type, Document::Manifest(document)) => {
            if !matches!(document.config.media_type.as_str(), oci::CONFIG | docker::CONFIG) {
                return Ok(None);
            }
            let manifest = Descriptor::new(&media_type, descriptor.digest.clone(), descriptor.size);
            Ok(Some(Found { target: descriptor.digest.clone(), manifest, bytes, document, names: Vec::new() }))
        }
        (_, Document::Index(_)) if depth == 0 => bail!("{path}: an index in an index in an index"),
        (_, Document::Index(mut index)) => {
            let mut there = Vec::new();
            for it in index.manifests {
                if source.document(&format!("blobs/{}/{}", it.digest.algorithm(), it.digest.hex()))?.is_some() {
                    there.push(it);
                }
            }
            index.manifests = there;
            let chosen = index.choose(platform).with_context(|| path.clone())?.clone();
            from_layout(source, &chosen, platform, depth - 1)
        }
    }
}

/// An image of `docker save`: it has no manifest, so one is made, always the same for the same archive.
fn docker_image(source: &mut Source<'_>, entry: &DockerEntry) -> Result<Found> {
    let missing = |path: &str| format!("manifest.json names {path:?}, which the archive does not have");
    let (config, size) = source.blob(&entry.config)?.with_context(|| missing(&entry.config))?;
    let mut layers = Vec::new();
    for path in entry.layers.iter().flatten() {
        let (digest, size) = source.blob(path)?.with_context(|| missing(path))?;
        let mut start = Vec::new();
        source.open(&digest)?.take(4).read_to_end(&mut start)?;
        let media_type = match start[..] {
            [0x1f, 0x8b, ..] => oci::LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => oci::LAYER_ZSTD,
            _ => oci::LAYER,
        };
        layers.push(Descriptor::new(media_type, digest, size));
    }
    let document = Manifest::new(Descriptor::new(oci::CONFIG, config, size), layers);
    let bytes = serde_json::to_vec(&document)?;
    let manifest = Descriptor::of(oci::MANIFEST, &bytes);
    let names = entry
        .repo_tags
        .iter()
        .flatten()
        .map(|it| it.parse())
        .collect::<Result<_>>()
        .context("manifest.json: RepoTags")?;
    Ok(Found { target: manifest.digest.clone(), manifest, bytes, document, names })
}

/// Takes the image's blobs over and unpacks its layers.
fn add(
    tool: &Tool,
    pipeline: &Pipeline,
    source: &mut Source<'_>,
    image: &Found,
    progress: &Progress,
) -> Result<Loaded> {
    let store: &Store = tool.store()?;
    for wanted in std::iter::once(&image.document.config).chain(&image.document.layers) {
        if store.has_blob(wanted)? {
            continue;
        }
        let path = format!("blobs/{}/{}", wanted.digest.algorithm(), wanted.digest.hex());
        match source.blob(&path)? {
            None => bail!("{path} is missing in the archive"),
            Some((digest, size)) if digest != wanted.digest || size != wanted.size => {
                bail!("{path} is damaged: its bytes are not those of its name")
            }
            Some(_) => {}
        }
    }
    let id = &image.document.config.digest;
    let config =
        ImageConfig::parse(&store.document(id)?, image.document.layers.len()).with_context(|| format!("image {id}"))?;
    let known = config.chain_ids().iter().map(|chain| store.layer(chain)).collect::<Result<Vec<_>>>()?;
    let new = from_blobs(store, pipeline, &image.document, &config, &known, progress)?;
    let layers = pipeline.settle(store, &known, new)?;
    store.put(&image.bytes)?;
    let names: Vec<(String, Digest)> = image.names.iter().map(|it| (it.to_string(), image.target.clone())).collect();
    let new = NewImage {
        manifest: &image.manifest,
        document: &image.document,
        config: &config,
        layers: &layers,
        names: &names,
    };
    if !store.commit(&new)? {
        bail!("what the image is made of has been removed by another bundle meanwhile: load it again");
    }
    Ok(Loaded { id: image.document.config.digest.clone(), names: image.names.clone() })
}
