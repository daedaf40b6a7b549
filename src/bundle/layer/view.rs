//! Layers seen as overlayfs shows them, without a mount.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::overlay::Overlay;
use super::tar::LONGEST_NAME;
use super::{fs, join, shown};

/// Layers, the top one first.
pub struct View<'a> {
    /// Their roots.
    pub layers: Vec<BorrowedFd<'a>>,
    /// Whose extended attributes count.
    pub overlay: Overlay,
}

/// What a name is in the view.
#[derive(Clone, Debug)]
pub struct Found {
    /// The uppermost layer that has it.
    pub stat: Stat,
    /// Of a directory all layers that it is merged of, of all else the one; indexes into `View::layers`, the
    /// top one first.
    pub layers: Vec<usize>,
}

impl Found {
    /// What it is.
    pub fn kind(&self) -> FileType {
        fs::kind(&self.stat)
    }
}

/// The view while layers are looked at, from the top down.
struct Merging {
    found: Option<Found>,
    /// No layer further down counts.
    closed: bool,
}

impl View<'_> {
    /// The root, which all layers have.
    pub fn root(&self) -> Result<Found> {
        let top = self.layers.first().context("there is no layer")?;
        Ok(Found { stat: rustix::fs::fstat(top)?, layers: (0..self.layers.len()).collect() })
    }

    /// The directory of one layer at a path, as a base for other calls.
    pub fn directory(&self, layer: usize, path: &[u8]) -> Result<OwnedFd> {
        if path.len() > LONGEST_NAME {
            bail!("{}: a path of {} bytes is longer than {LONGEST_NAME}", shown(path), path.len());
        }
        fs::base(self.layers[layer], path).with_context(|| format!("cannot open {}", shown(path)))
    }

    /// All that a directory shows, sorted by name.
    pub fn list(&self, path: &[u8], directory: &Found) -> Result<BTreeMap<Vec<u8>, Found>> {
        let mut names: BTreeMap<Vec<u8>, Merging> = BTreeMap::new();
        for &layer in &directory.layers {
            let base = self.directory(layer, path)?;
            for name in fs::names(&base)? {
                match names.entry(name) {
                    Entry::Occupied(old) if old.get().closed => {}
                    Entry::Occupied(mut old) => {
                        let name = old.key().clone();
                        self.merge(old.get_mut(), layer, base.as_fd(), &name)?;
                    }
                    Entry::Vacant(new) => {
                        let name = new.key().clone();
                        self.merge(new.insert(Merging { found: None, closed: false }), layer, base.as_fd(), &name)?;
                    }
                }
            }
        }
        Ok(names.into_iter().filter_map(|(name, it)| Some((name, it.found?))).collect())
    }

    /// One name in a directory.
    pub fn find(&self, path: &[u8], directory: &Found, name: &[u8]) -> Result<Option<Found>> {
        let mut merging = Merging { found: None, closed: false };
        for &layer in &directory.layers {
            if !merging.closed {
                self.merge(&mut merging, layer, self.directory(layer, path)?.as_fd(), name)?;
            }
        }
        Ok(merging.found)
    }

    /// Adds what a lower layer has of a name.
    fn merge(&self, merging: &mut Merging, layer: usize, base: BorrowedFd, name: &[u8]) -> Result<()> {
        let stat = match fs::stat(base, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot look at {}", shown(name))),
        };
        let is_directory = fs::kind(&stat) == FileType::Directory;
        match &mut merging.found {
            // Below a directory, whatever is no directory hides all that follows.
            Some(found) if is_directory => found.layers.push(layer),
            Some(_) => {}
            None if fs::is_whiteout(&stat) => {}
            None => merging.found = Some(Found { stat, layers: vec![layer] }),
        }
        merging.closed = !is_directory || fs::is_opaque(base, name, self.overlay)?;
        Ok(())
    }

    /// What is at a path that has no symbolic links in it; none also where there are some, or other things
    /// that are no directories.
    pub fn at(&self, path: &[u8]) -> Result<Option<Found>> {
        let mut found = self.root()?;
        let mut above = Vec::new();
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if found.kind() != FileType::Directory {
                return Ok(None);
            }
            match self.find(&above, &found, name)? {
                Some(next) => found = next,
                None => return Ok(None),
            }
            above = join(&above, name);
        }
        Ok(Some(found))
    }
}
