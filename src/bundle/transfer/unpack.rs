//! From a layer's stream to its directory, in one pass: the bytes are counted, kept, hashed, decompressed, hashed
//! again and unpacked as they come. What has been unpacked is trusted only when both digests are right.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::digest::Hasher;
use crate::image::manifest::{Descriptor, Manifest};
use crate::layer::overlay::Overlay;
use crate::layer::unpack::{Limits, Options, Unpacked};
use crate::layer::{compress, settle};
use crate::output::progress::{Progress, Step};
use crate::store::{Image, Ingest, Layer, NewImage, NewLayer, Store};
use crate::tool::Tool;

/// The most that a layer may be, unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit(pub Option<u64>);

/// Whatever is smaller is no bomb.
const HARMLESS: u64 = 1 << 30;
/// Layers of programs are compressed to a half or a tenth; only a bomb to less than a hundredth.
const HIGHEST_RATIO: u64 = 100;
const MOST_ENTRIES: u64 = 10_000_000;

impl Limit {
    /// In bytes, for something of a compressed size.
    pub fn bytes(self, compressed: u64) -> u64 {
        self.0.unwrap_or_else(|| HARMLESS.max(compressed.saturating_mul(HIGHEST_RATIO)))
    }

    fn of(self, compressed: u64) -> Limits {
        Limits {
            bytes: self.bytes(compressed),
            entries: MOST_ENTRIES,
            remedy: "if you trust the image, raise it by --max-layer-size",
        }
    }
}

/// A stream on its way into the store: every byte is hashed, and kept where it is not yet.
pub struct Incoming<'a> {
    source: Box<dyn Read + 'a>,
    hasher: Hasher,
    at: u64,
    /// Where it is kept, and from which byte on.
    keep: Option<&'a mut Ingest>,
    from: u64,
    each: &'a mut dyn FnMut(u64) -> Result<()>,
}

impl<'a> Incoming<'a> {
    /// What comes from `source` shall have the descriptor's digest. `each` hears of each piece's size and may end it.
    pub fn new(
        wanted: &Descriptor,
        source: Box<dyn Read + 'a>,
        keep: Option<&'a mut Ingest>,
        each: &'a mut dyn FnMut(u64) -> Result<()>,
    ) -> Self {
        let from = keep.as_ref().map_or(0, |it| it.offset);
        Self { source, hasher: wanted.digest.hasher(), at: 0, keep, from, each }
    }

    /// Reads what is left, and compares.
    pub fn finish(mut self, wanted: &Descriptor) -> Result<()> {
        std::io::copy(&mut self, &mut std::io::sink())?;
        let found = self.hasher.finish();
        if self.at != wanted.size || found != wanted.digest {
            bail!(Damaged(format!(
                "what came for blob {} has {} bytes and the digest {found}",
                wanted.digest, self.at
            )));
        }
        Ok(())
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.source.read(buffer)?;
        let bytes = &buffer[..count];
        self.hasher.update(bytes);
        let behind = self.from.saturating_sub(self.at).min(count as u64) as usize;
        if let Some(keep) = &mut self.keep {
            keep.write_all(&bytes[behind..])?;
        }
        self.at += count as u64;
        (self.each)(count as u64).map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        Ok(count)
    }
}

/// The bytes were not those of the digest: to be told from all other errors.
#[derive(Debug)]
pub struct Damaged(pub String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

/// A layer's directory that has not been settled on those below it.
pub struct Unsettled {
    name: String,
    dir: OwnedFd,
    unpacked: Unpacked,
    diff_id: Digest,
    tar_size: u64,
}

/// How layers are unpacked.
#[derive(Clone, Copy)]
pub struct Pipeline {
    /// Whose extended attributes overlay reads.
    pub overlay: Overlay,
    /// Their size limit.
    pub limit: Limit,
}

impl Pipeline {
    /// Unpacks one layer from its stream, which shall hold a tar of the digest `diff_id`. On an error nothing of it is
    /// left, and the stream has been read as far as it goes: damage is told before what it led to.
    pub fn unpack(
        &self,
        store: &Store,
        mut incoming: Incoming<'_>,
        wanted: &Descriptor,
        diff_id: Option<&Digest>,
    ) -> Result<Unsettled> {
        let (name, dir) = store.make_layer()?;
        let result = self.stream(&mut incoming, &dir, wanted, diff_id);
        let whole = incoming.finish(wanted);
        let result = match (result, whole) {
            (_, Err(error)) => Err(error),
            (Err(error), Ok(())) if is_full(&error) => {
                Err(anyhow::anyhow!("layer {}: {error:#}; make room, for example by `bundle prune`", wanted.digest))
            }
            (Err(error), Ok(())) => Err(error).with_context(|| format!("layer {}", wanted.digest)),
            (Ok(result), Ok(())) => Ok(result),
        };
        match result {
            Ok((unpacked, diff_id, tar_size)) => Ok(Unsettled { name, dir, unpacked, diff_id, tar_size }),
            Err(error) => {
                drop(dir);
                store.discard_layer(&name);
                Err(error)
            }
        }
    }

    fn stream(
        &self,
        incoming: &mut Incoming<'_>,
        dir: &OwnedFd,
        wanted: &Descriptor,
        diff_id: Option<&Digest>,
    ) -> Result<(Unpacked, Digest, u64)> {
        let (_, plain) = compress::decoder(incoming)?;
        let mut counted = Counted { plain, hasher: diff_id.map_or_else(Hasher::default, Digest::hasher), size: 0 };
        let options = Options {
            overlay: self.overlay,
            limits: self.limit.of(wanted.size),
            // A user namespace has no right to make them.
            devices: self.overlay == Overlay::Trusted,
        };
        let unpacked = crate::layer::unpack::unpack(&mut counted, dir.as_fd(), &options)?;
        std::io::copy(&mut counted, &mut std::io::sink())?;
        let found = counted.hasher.finish();
        if let Some(diff_id) = diff_id.filter(|it| **it != found) {
            bail!("what it holds has the digest {found}, and the image's configuration says {diff_id}");
        }
        Ok((unpacked, found, counted.size))
    }

    /// Settles new layers on those below them, the lowest first. `known` are those that were there. On an error
    /// nothing of the new ones is left.
    pub fn settle(
        &self,
        store: &Store,
        known: &[Option<Layer>],
        new: Vec<Option<Unsettled>>,
    ) -> Result<Vec<Option<NewLayer>>> {
        let dirs: Vec<String> = new.iter().flatten().map(|it| it.name.clone()).collect();
        let settled = self.settle_each(store, known, new);
        if settled.is_err() {
            for dir in &dirs {
                store.discard_layer(dir);
            }
        }
        settled
    }

    fn settle_each(
        &self,
        store: &Store,
        known: &[Option<Layer>],
        new: Vec<Option<Unsettled>>,
    ) -> Result<Vec<Option<NewLayer>>> {
        let mut settled = Vec::new();
        let mut below: Vec<OwnedFd> = Vec::new();
        for (known, new) in known.iter().zip(new) {
            match (known, new) {
                (Some(layer), new) => {
                    if let Some(new) = new {
                        new.discard(store);
                    }
                    below.push(store.open_layer(&layer.dir)?);
                    settled.push(None);
                }
                (None, Some(new)) => {
                    let parents: Vec<_> = below.iter().rev().map(AsFd::as_fd).collect();
                    settle::settle(new.dir.as_fd(), &parents, &new.unpacked, self.overlay)
                        .context("fitting a layer to those below it")?;
                    let size = crate::store::check::tree_size(new.dir.as_fd())?;
                    settled.push(Some(NewLayer { dir: new.name, size, tar_size: new.tar_size }));
                    below.push(new.dir);
                }
                (None, None) => bail!("a layer was neither there nor unpacked"),
            }
        }
        Ok(settled)
    }
}

impl Unsettled {
    /// The digest of its tar.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// Removes it again.
    pub fn discard(self, store: &Store) {
        drop(self.dir);
        store.discard_layer(&self.name);
    }
}

/// The plain bytes of a layer, hashed and counted.
struct Counted<'a> {
    plain: Box<dyn Read + 'a>,
    hasher: Hasher,
    size: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.plain.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}

/// The unpacked layers of an image, the lowest first. What is missing is unpacked from its blob.
pub fn unpacked(tool: &Tool, image: &Image) -> Result<Vec<Layer>> {
    let store = tool.store()?;
    let Some(top) = &image.chain else { return Ok(Vec::new()) };
    if store.layer(top)?.is_some() {
        return store.layers(top);
    }
    let making = store.making()?;
    let (document, config) = store.read(image)?;
    let pipeline = Pipeline { overlay: tool.overlay(), limit: Limit(None) };
    let known = config.chain_ids().iter().map(|chain| store.layer(chain)).collect::<Result<Vec<_>>>()?;
    let new = from_blobs(store, &pipeline, &document, &config, &known, &Progress::new(true))?;
    let layers = pipeline.settle(store, &known, new)?;
    let manifest =
        Descriptor::new(&image.media_type, image.digest.clone(), store.document(&image.digest)?.len() as u64);
    store.commit(&NewImage {
        manifest: &manifest,
        document: &document,
        config: &config,
        layers: &layers,
        names: &[],
    })?;
    drop(making);
    store.layers(top)
}

/// Whether the disk, or the user's share of it, is full.
fn is_full(error: &anyhow::Error) -> bool {
    use rustix::io::Errno;
    let code = |it: &(dyn std::error::Error + 'static)| {
        it.downcast_ref::<Errno>()
            .copied()
            .or_else(|| it.downcast_ref::<std::io::Error>().and_then(Errno::from_io_error))
    };
    error.chain().filter_map(code).any(|it| matches!(it, Errno::NOSPC | Errno::DQUOT))
}

/// Unpacks a layer whose blob is in the store.
pub fn from_blob(
    pipeline: &Pipeline,
    store: &Store,
    wanted: &Descriptor,
    diff_id: &Digest,
    step: &Step,
) -> Result<Unsettled> {
    let file = store.blob(&wanted.digest)?;
    let mut each = |count| {
        step.advance(count);
        Ok(())
    };
    let incoming = Incoming::new(wanted, Box::new(file), None, &mut each);
    pipeline.unpack(store, incoming, wanted, Some(diff_id))
}

/// Unpacks all layers that are not known, several at a time, from blobs in the store.
pub fn from_blobs(
    store: &Store,
    pipeline: &Pipeline,
    document: &Manifest,
    config: &ImageConfig,
    known: &[Option<Layer>],
    progress: &Progress,
) -> Result<Vec<Option<Unsettled>>> {
    each_layer(store, document, |store, index, wanted, _| {
        if known[index].is_some() {
            return Ok(None);
        }
        let step = progress.step(wanted.digest.short(), "Unpacking", wanted.size);
        let new = from_blob(pipeline, store, wanted, &config.rootfs.diff_ids[index], &step)?;
        step.finish("Unpacked");
        Ok(Some(new))
    })
}

/// Layers that are worked on at the same time.
const AT_ONCE: usize = 4;

/// Does something with each layer of a manifest, several at a time, each thread with the store in its own hands. The
/// first error is the error of all, and sets the flag that each of them gets; layers that were done by then are
/// discarded.
pub fn each_layer(
    store: &Store,
    document: &Manifest,
    work: impl Fn(&Store, usize, &Descriptor, &AtomicBool) -> Result<Option<Unsettled>> + Sync,
) -> Result<Vec<Option<Unsettled>>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Unsettled>>> = Mutex::new(document.layers.iter().map(|_| None).collect());
    let error: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let root = store.root();
    let thread = || -> Result<()> {
        let store = Store::open(root)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(wanted) = document.layers.get(index) else { return Ok(()) };
            let new = work(&store, index, wanted, &stop)?;
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = new;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..document.layers.len().min(AT_ONCE) {
            scope.spawn(|| {
                if let Err(found) = thread() {
                    next.store(document.layers.len(), Ordering::Relaxed);
                    error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(found);
                    // Only now: whoever is stopped by it fails, too, and must not be the first.
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => Ok(results),
        Some(error) => {
            results.into_iter().flatten().for_each(|it| it.discard(store));
            Err(error)
        }
    }
}
