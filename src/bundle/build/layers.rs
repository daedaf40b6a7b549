//! Layers that steps make: each is the upper directory of the overlay that the step has worked in. When the step is
//! over its tar is hashed, so that the next one has a name for what is below it; the blob is compressed by a thread
//! beside, while the next steps are at work.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Timespec};

use super::cache::{self, Claim, Made, NewLayer};
use crate::image::Digest;
use crate::image::config::chain_id;
use crate::image::digest::Hasher;
use crate::image::manifest::{Descriptor, oci};
use crate::layer::compress::{Compression, encoder};
use crate::layer::diff::{DiffOptions, diff};
use crate::layer::overlay::Overlay;
use crate::layer::{fs, join};
use crate::store::Store;

/// How well blobs are compressed: a third of the time of gzip's usual 6, a tenth more bytes.
const LEVEL: u32 = 3;

/// One layer of a stage.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name together with all below it.
    pub chain: Digest,
    /// The digest of its tar.
    pub diff_id: Digest,
    /// Its directory's name below `layers/`.
    pub dir: String,
    /// Its blob, if it is there already: see [`Layers::blob`].
    pub blob: Option<Descriptor>,
}

/// The layers of a stage, the lowest first.
#[derive(Clone, Debug, Default)]
pub struct Stack(pub Vec<Entry>);

impl Stack {
    /// The topmost layer with all below it.
    pub fn top(&self) -> Option<&Digest> {
        self.0.last().map(|it| &it.chain)
    }

    /// The directories, as overlay wants them.
    pub fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        self.0.iter().map(|it| Path::new("layers").join(&it.dir))
    }
}

/// A layer that a step works on.
pub struct Fresh {
    /// Its directory's name.
    pub name: String,
    dir: OwnedFd,
}

/// What becomes of a step's result in the cache.
pub struct Purpose<'a> {
    /// Under which keys it is found.
    pub keys: Vec<Digest>,
    /// For people.
    pub what: &'a str,
    /// Nobody else makes it meanwhile.
    pub claim: Option<Claim>,
}

struct Job {
    entry: Entry,
    parent: Option<Digest>,
    size: u64,
    tar_size: u64,
    keys: Vec<Digest>,
    what: String,
    created: i64,
    claim: Option<Claim>,
}

/// All layers that a build makes.
pub struct Layers {
    root: PathBuf,
    overlay: Overlay,
    epoch: Option<i64>,
    jobs: Mutex<Option<Sender<Job>>>,
    done: Mutex<Done>,
    news: Condvar,
}

#[derive(Default)]
struct Done {
    blobs: HashMap<Digest, Descriptor>,
    /// Directories of layers that were there already.
    twice: Vec<String>,
    error: Option<String>,
    over: bool,
}

impl Layers {
    /// For a store; and what [`Self::work`] is to read.
    pub fn new(store: &Store, overlay: Overlay, epoch: Option<i64>) -> (Self, Work) {
        let (sender, receiver) = channel();
        let layers = Self {
            root: store.root().to_owned(),
            overlay,
            epoch,
            jobs: Mutex::new(Some(sender)),
            done: Mutex::default(),
            news: Condvar::new(),
        };
        (layers, Work(receiver))
    }

    fn options(&self) -> DiffOptions {
        DiffOptions { overlay: self.overlay, source_date_epoch: self.epoch, stubs: &[] }
    }

    /// An empty layer for a step on top of a stack.
    pub fn begin(store: &Store, below: &Stack) -> Result<Fresh> {
        let (name, dir) = store.make_layer()?;
        // The root of the tree is the upper directory's: as it was below.
        if let Some(top) = below.0.last() {
            let lower = store.open_layer(&top.dir)?;
            let stat = rustix::fs::fstat(&lower)?;
            fs::copy_metadata((lower.as_fd(), b"."), &stat, (dir.as_fd(), b"."))?;
        }
        Ok(Fresh { name, dir })
    }

    /// The step has failed.
    pub fn discard(store: &Store, fresh: Fresh) {
        drop(fresh.dir);
        store.discard_layer(&fresh.name);
    }

    /// The step is over: hashes the layer, and has it compressed and written down by the thread beside.
    pub fn finish(
        &self,
        store: &Store,
        fresh: Fresh,
        below: &Stack,
        purpose: Purpose<'_>,
        created: i64,
    ) -> Result<Entry> {
        let measured = self.measure(&fresh);
        let (diff_id, tar_size, size) = match measured {
            Ok(it) => it,
            Err(error) => {
                Self::discard(store, fresh);
                return Err(error).context("reading what the step has made");
            }
        };
        let chain = chain_id(below.top(), &diff_id);
        let entry = Entry { chain, diff_id, dir: fresh.name, blob: None };
        let job = Job {
            entry: entry.clone(),
            parent: below.top().cloned(),
            size,
            tar_size,
            keys: purpose.keys,
            what: purpose.what.to_owned(),
            created,
            claim: purpose.claim,
        };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.as_ref().is_none_or(|it| it.send(job).is_err()) {
            let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            bail!("{}", done.error.as_deref().unwrap_or("the thread that compresses layers has ended"));
        }
        Ok(entry)
    }

    fn measure(&self, fresh: &Fresh) -> Result<(Digest, u64, u64)> {
        if let Some(epoch) = self.epoch {
            clamp(fresh.dir.as_fd(), epoch)?;
        }
        let mut counted = Counted::default();
        diff(fresh.dir.as_fd(), &mut counted, &self.options())?;
        let size = crate::store::check::tree_size(fresh.dir.as_fd())?;
        Ok((counted.hasher.finish(), counted.size, size))
    }

    /// The thread beside: until [`Self::close`] was called and all is done.
    pub fn work(&self, work: Work) {
        let result = Store::open(&self.root).and_then(|store| {
            while let Ok(job) = work.0.recv() {
                self.compress(&store, job)?;
                self.news.notify_all();
            }
            Ok(())
        });
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.over = true;
        done.error = result.err().map(|it| format!("{it:#}"));
        self.news.notify_all();
        // Those that were not looked at have nobody to wait for.
        drop(work);
    }

    fn compress(&self, store: &Store, job: Job) -> Result<()> {
        let dir = store.open_layer(&job.entry.dir)?;
        let mut spool = store.spool()?;
        let mut encoder = encoder(Compression::Gzip, Some(LEVEL), &mut spool)?;
        diff(dir.as_fd(), &mut encoder, &self.options()).context("compressing a layer")?;
        encoder.flush()?;
        encoder.finish()?;
        let (digest, size) = spool.keep()?;
        let blob = Descriptor::new(oci::LAYER_GZIP, digest, size);
        let Entry { chain, diff_id, dir, .. } = job.entry;
        let made = Made { chain: Some(chain.clone()), layer: Some((diff_id, blob.clone())), created: job.created };
        let new =
            NewLayer { chain: &chain, parent: job.parent.as_ref(), dir: &dir, size: job.size, tar_size: job.tar_size };
        let in_use = cache::keep(store, &job.keys, &job.what, &made, Some(&new))?;
        drop(job.claim);
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if !in_use {
            done.twice.push(dir);
        }
        done.blobs.insert(chain, blob);
        Ok(())
    }

    /// No more layers come.
    pub fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// A layer's blob; waits until it is there.
    pub fn blob(&self, entry: &Entry) -> Result<Descriptor> {
        if let Some(blob) = &entry.blob {
            return Ok(blob.clone());
        }
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(blob) = done.blobs.get(&entry.chain) {
                return Ok(blob.clone());
            }
            if let Some(error) = &done.error {
                bail!("{error}");
            }
            if done.over {
                bail!("a layer was not compressed");
            }
            done = self.news.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes what was made and is there a second time; nothing may be mounted any more.
    pub fn clean(&self, store: &Store) {
        let twice = std::mem::take(&mut self.done.lock().unwrap_or_else(PoisonError::into_inner).twice);
        for dir in &twice {
            store.discard_layer(dir);
        }
    }
}

/// What the thread beside reads.
pub struct Work(Receiver<Job>);

#[derive(Default)]
struct Counted {
    hasher: Hasher,
    size: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// No time in a tree is later than this, in seconds since 1970: as the layer's tar has it.
fn clamp(root: std::os::fd::BorrowedFd<'_>, epoch: i64) -> Result<()> {
    let latest = Timespec { tv_sec: epoch, tv_nsec: 0 };
    let set = |dir: &OwnedFd, name: &[u8], stat: &rustix::fs::Stat| -> Result<()> {
        if stat.st_mtime >= epoch && !fs::is_whiteout(stat) {
            let times = rustix::fs::Timestamps { last_access: latest, last_modification: latest };
            rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    };
    let mut ahead = vec![Vec::new()];
    while let Some(path) = ahead.pop() {
        let dir = fs::base(root, &path)?;
        for name in fs::names(&dir)? {
            let stat = fs::stat(&dir, &name)?;
            set(&dir, &name, &stat)?;
            if fs::kind(&stat) == FileType::Directory {
                ahead.push(join(&path, &name));
            }
        }
    }
    let top = fs::base(root, b"")?;
    let stat = rustix::fs::fstat(&top)?;
    set(&top, b".", &stat)
}
