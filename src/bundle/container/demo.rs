//! The image of the demonstration: its only file is this program, so it is there without a network.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, Timespec, Timestamps};

use crate::image::config::{Execution, History, ImageConfig, RootFs};
use crate::image::manifest::{Descriptor, Manifest, Platform, oci};
use crate::store::{Image, NewImage, NewLayer, Store};

/// The name that it has.
pub const NAME: &str = "docker.io/library/demo:latest";
/// The program's path in it.
const PROGRAM: &str = "bundle";
/// Key of the fact: which file it was made of, and the image.
const FACT: &str = "demo";

/// Makes the image where it is missing, or where it was made of another program file. An image that somebody
/// else has given the name is left alone.
pub fn ensure(store: &Store) -> Result<Option<Image>> {
    let file = File::open("/proc/self/exe").context("opening this program's own file")?;
    let about = file.metadata()?;
    let made_of = format!("{}:{}:{}:{}.{}", about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec());
    let there = store.named(&NAME.parse()?)?;
    let fact = store.fact(FACT)?;
    let (was_made_of, was) = fact.as_deref().and_then(|it| it.split_once(' ')).unwrap_or_default();
    match &there {
        Some(image) if image.digest.as_str() != was || was_made_of == made_of => return Ok(there),
        _ => {}
    }
    make(store, file, &made_of).context("making the image of the demonstration")?;
    store.named(&NAME.parse()?)
}

fn make(store: &Store, mut file: File, made_of: &str) -> Result<()> {
    let making = store.making()?;
    let size = file.metadata()?.len();
    let mut header = tar::Header::new_ustar();
    header.set_path(PROGRAM)?;
    header.set_size(size);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_cksum();
    let mut spool = store.spool()?;
    let mut tar = tar::Builder::new(&mut spool);
    tar.append(&header, &mut file)?;
    tar.finish()?;
    drop(tar);
    let (diff_id, tar_size) = spool.keep()?;

    let (dir, layer) = store.make_layer()?;
    file.rewind()?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut copy = File::from(rustix::fs::openat(&layer, PROGRAM, flags, Mode::from_raw_mode(0o755))?);
    std::io::copy(&mut file, &mut copy)?;
    copy.flush()?;
    rustix::fs::fchmod(&copy, Mode::from_raw_mode(0o755))?;
    let then = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::fs::futimens(&copy, &Timestamps { last_access: then, last_modification: then })?;

    let platform = Platform::host();
    let config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: Execution { entrypoint: Some(vec![format!("/{PROGRAM}"), "probe".to_owned()]), ..Execution::default() },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id.clone()] },
        history: vec![History { created_by: Some("bundle: its own program file".to_owned()), ..History::default() }],
        ..ImageConfig::default()
    };
    let bytes = serde_json::to_vec(&config)?;
    store.put(&bytes)?;
    let document =
        Manifest::new(Descriptor::of(oci::CONFIG, &bytes), vec![Descriptor::new(oci::LAYER, diff_id, tar_size)]);
    let bytes = serde_json::to_vec(&document)?;
    store.put(&bytes)?;
    let manifest = Descriptor::of(oci::MANIFEST, &bytes);
    store.commit(&NewImage {
        manifest: &manifest,
        document: &document,
        config: &config,
        layers: &[Some(NewLayer { dir, size, tar_size })],
        names: &[(NAME.to_owned(), manifest.digest.clone())],
    })?;
    store.write(|db| {
        db.execute("INSERT OR REPLACE INTO facts VALUES (?1, ?2)", [FACT, &format!("{made_of} {}", manifest.digest)])?;
        Ok(())
    })?;
    drop(making);
    Ok(())
}
