//! What an upper layer changes of those below it, as a list of paths.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::fs::FileType;

use super::diff::is_empty;
use super::overlay::Overlay;
use super::view::{Found, View};
use super::{fs, join, shown};

/// The paths that were added (`A`), changed (`C`) and deleted (`D`), sorted. `layers` lie below `upper`, the lowest
/// first. Of `stubs` those are left out that are empty and in no layer.
pub fn changes(
    upper: BorrowedFd,
    layers: &[BorrowedFd],
    overlay: Overlay,
    stubs: &[&str],
) -> Result<Vec<(char, String)>> {
    // The view has the top one first.
    let lower = View { layers: layers.iter().rev().copied().collect(), overlay };
    let root = if layers.is_empty() { None } else { Some(lower.root()?) };
    let mut walk = Walk { upper, lower, stubs, changes: Vec::new() };
    walk.directory(b"", root.as_ref())?;
    let mut changes = walk.changes;
    changes.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(changes)
}

struct Walk<'a> {
    upper: BorrowedFd<'a>,
    lower: View<'a>,
    stubs: &'a [&'a str],
    changes: Vec<(char, String)>,
}

impl Walk<'_> {
    /// All in one directory of the upper layer, `below`: what the layers below show at its path.
    fn directory(&mut self, path: &[u8], below: Option<&Found>) -> Result<()> {
        let base = fs::base(self.upper, path).with_context(|| format!("opening {}", shown(path)))?;
        for name in fs::names(&base)? {
            let stat = fs::stat(&base, &name)?;
            let here = join(path, &name);
            let old = match below {
                Some(below) => self.lower.find(path, below, &name)?,
                None => None,
            };
            if fs::is_whiteout(&stat) {
                if old.is_some() {
                    self.add('D', &here);
                }
                continue;
            }
            let stub = old.is_none() && self.stubs.iter().any(|it| it.as_bytes() == here);
            if stub && is_empty(self.upper, &here, &stat)? {
                continue;
            }
            let before = self.changes.len();
            let kind = if old.is_some() { 'C' } else { 'A' };
            self.add(kind, &here);
            if fs::kind(&stat) != FileType::Directory {
                continue;
            }
            let opaque = fs::is_opaque(base.as_fd(), &name, self.lower.overlay)?;
            let old = old.filter(|it| it.kind() == FileType::Directory);
            if let (true, Some(old)) = (opaque, &old) {
                self.deleted_in(&here, old)?;
            }
            self.directory(&here, old.as_ref().filter(|_| !opaque))?;
            // Copied up for a stub alone.
            let alone = self.changes.len() == before + 1;
            if let (true, Some(old)) = (alone, &old)
                && self.stubs.iter().any(|it| it.as_bytes().starts_with(&[&here[..], b"/"].concat()))
                && (stat.st_mode, stat.st_uid, stat.st_gid) == (old.stat.st_mode, old.stat.st_uid, old.stat.st_gid)
            {
                self.changes.pop();
            }
        }
        Ok(())
    }

    /// A directory was removed and made anew: what was in it and is not any more.
    fn deleted_in(&mut self, path: &[u8], old: &Found) -> Result<()> {
        let base = fs::base(self.upper, path)?;
        for (name, _) in self.lower.list(path, old)? {
            if fs::find(&base, &name)?.is_none() {
                self.add('D', &join(path, &name));
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: char, path: &[u8]) {
        self.changes.push((kind, format!("/{}", String::from_utf8_lossy(path))));
    }
}
