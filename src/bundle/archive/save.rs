//! Images to an archive. The same images give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::ArchiveFormat;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Index, Manifest, Platform, oci};
use crate::image::{Digest, Reference};
use crate::layer::compress;
use crate::store::{Image, Store};

/// What is saved of an image, opened before anything is written: it may be removed meanwhile.
struct Opened {
    image: Image,
    names: Vec<Reference>,
    manifest_size: u64,
    document: Manifest,
    config: ImageConfig,
}

/// Where files go.
enum Target<W: Write> {
    Tar(tar::Builder<W>),
    Dir(std::path::PathBuf),
}

/// Writes images to a stream, or for [`ArchiveFormat::OciDir`] into a directory. Each image with the names given.
pub fn save(
    store: &Store,
    images: &[(Image, Vec<Reference>)],
    format: ArchiveFormat,
    out: Option<&mut dyn Write>,
    dir: Option<&Path>,
) -> Result<()> {
    let mut opened = Vec::new();
    let mut files: BTreeMap<Digest, File> = BTreeMap::new();
    for (image, names) in images {
        let (document, config) = store.read(image)?;
        for blob in std::iter::once(&image.digest)
            .chain([&document.config.digest])
            .chain(document.layers.iter().map(|it| &it.digest))
        {
            if !files.contains_key(blob) {
                files.insert(blob.clone(), store.blob(blob)?);
            }
        }
        let manifest_size = files[&image.digest].metadata()?.len();
        opened.push(Opened { image: image.clone(), names: names.clone(), manifest_size, document, config });
    }
    let mut target = match (out, dir) {
        (Some(out), _) => Target::Tar(tar::Builder::new(out)),
        (None, Some(dir)) => {
            std::fs::create_dir_all(dir.join("blobs/sha256")).with_context(|| format!("making {}", dir.display()))?;
            Target::Dir(dir.to_owned())
        }
        (None, None) => anyhow::bail!("nowhere to write to"),
    };
    if format == ArchiveFormat::DockerArchive {
        docker_archive(&mut target, &opened, &files)?;
    } else {
        layout(&mut target, &opened, files, format == ArchiveFormat::Both)?;
    }
    if let Target::Tar(mut tar) = target {
        tar.finish()?;
        tar.into_inner()?.flush()?;
    }
    Ok(())
}

fn layout(
    target: &mut Target<impl Write>,
    images: &[Opened],
    files: BTreeMap<Digest, File>,
    docker: bool,
) -> Result<()> {
    let mut manifests = Vec::new();
    for it in images {
        let platform = Platform {
            architecture: it.config.architecture.clone(),
            os: it.config.os.clone(),
            variant: it.config.variant.clone(),
            os_version: None,
        };
        let descriptor = Descriptor {
            platform: Some(platform),
            ..Descriptor::new(&it.image.media_type, it.image.digest.clone(), it.manifest_size)
        };
        if it.names.is_empty() {
            manifests.push(descriptor.clone());
        }
        for name in &it.names {
            let mut annotations = BTreeMap::from([("io.containerd.image.name".to_owned(), name.to_string())]);
            if let Some(tag) = &name.tag {
                annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag.clone());
            }
            manifests.push(Descriptor { annotations: Some(annotations), ..descriptor.clone() });
        }
    }
    let index = Index { schema_version: 2, media_type: Some(oci::INDEX.to_owned()), manifests, annotations: None };
    target.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    target.file("index.json", &serde_json::to_vec(&index)?)?;
    if docker {
        let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        target.file(
            "manifest.json",
            &docker_manifest(
                images,
                |it| path(&it.document.config.digest),
                |it, index| path(&it.document.layers[index].digest),
            )?,
        )?;
    }
    for (digest, mut file) in files {
        let size = file.metadata()?.len();
        target.stream(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()), size, &mut file)?;
    }
    Ok(())
}

/// As `docker save` of old: layers are plain tars, the configuration a file named by its digest.
fn docker_archive(target: &mut Target<impl Write>, images: &[Opened], files: &BTreeMap<Digest, File>) -> Result<()> {
    let config_path = |it: &Opened| format!("{}.json", it.document.config.digest.hex());
    let layer_path = |it: &Opened, index: usize| format!("{}.tar", it.config.rootfs.diff_ids[index].hex());
    let mut written = std::collections::BTreeSet::new();
    for it in images {
        let open = |digest: &Digest| files[digest].try_clone();
        let path = config_path(it);
        if written.insert(path.clone()) {
            target.stream(&path, it.document.config.size, &mut open(&it.document.config.digest)?)?;
        }
        for (index, layer) in it.document.layers.iter().enumerate() {
            let path = layer_path(it, index);
            if !written.insert(path.clone()) {
                continue;
            }
            // A tar wants the size first: it takes one more pass to know it.
            let mut count = Count(0);
            std::io::copy(&mut compress::decoder(rewound(open(&layer.digest)?)?)?.1, &mut count)?;
            target.stream(&path, count.0, &mut compress::decoder(rewound(open(&layer.digest)?)?)?.1)?;
        }
    }
    target.file("manifest.json", &docker_manifest(images, config_path, layer_path)?)
}

fn docker_manifest(
    images: &[Opened],
    config: impl Fn(&Opened) -> String,
    layer: impl Fn(&Opened, usize) -> String,
) -> Result<Vec<u8>> {
    let entries: Vec<_> = images
        .iter()
        .map(|it| {
            let tags: Vec<String> =
                it.names.iter().filter(|name| name.tag.is_some()).map(Reference::familiar).collect();
            let layers: Vec<String> = (0..it.document.layers.len()).map(|index| layer(it, index)).collect();
            json!({"Config": config(it), "RepoTags": tags, "Layers": layers})
        })
        .collect();
    Ok(serde_json::to_vec(&entries)?)
}

fn rewound(mut file: File) -> Result<File> {
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

struct Count(u64);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Target<W> {
    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.stream(path, bytes.len() as u64, &mut &bytes[..])
    }

    fn stream(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        match self {
            Self::Tar(tar) => {
                let mut header = tar::Header::new_ustar();
                header.set_path(path)?;
                header.set_size(size);
                header.set_mode(0o644);
                header.set_mtime(0);
                header.set_cksum();
                tar.append(&header, content).with_context(|| format!("writing {path}"))
            }
            Self::Dir(dir) => {
                let path = dir.join(path);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                let mut file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
                std::io::copy(content, &mut file).with_context(|| format!("writing {}", path.display()))?;
                Ok(())
            }
        }
    }
}
