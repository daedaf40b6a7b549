//! Fits an unpacked layer to the layers below it, as if its archive had been unpacked on top of them.
//!
//! Three things could not be known when the layer was unpacked alone: what directories look like that its
//! archive does not name; that a directory it implies is a symbolic link below, so that its content belongs
//! where the link leads; and the files below that its hard links mean. Where content comes to a place through
//! a link and the layer has something there already, which came first in the archive is not known any more:
//! what came through the link wins.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, Timestamps};
use rustix::io::Errno;

use super::flatten::copy_node;
use super::overlay::Overlay;
use super::remove::remove;
use super::unpack::Unpacked;
use super::view::{Found, View};
use super::{fs, join, shown, split};

/// How many symbolic links may stand in one path.
const MOST_LINKS: u32 = 40;

/// Settles a layer onto its parents, which are settled themselves. The parents are not changed. It is to be
/// done once; on an error the layer is of no use.
pub fn settle(
    layer: BorrowedFd,
    parents_top_first: &[BorrowedFd],
    unpacked: &Unpacked,
    overlay: Overlay,
) -> Result<()> {
    let mut settler = Settler {
        parents: View { layers: parents_top_first.to_vec(), overlay },
        all: View { layers: [&[layer], parents_top_first].concat(), overlay },
        layer,
        implied: unpacked.implied.iter().map(|path| (path.clone(), ())).collect(),
        links: unpacked.links.iter().enumerate().map(|(at, it)| (it.path.clone(), (at, it.target.clone()))).collect(),
        times: BTreeMap::new(),
    };
    if unpacked.opaque_root {
        settler.hide_all()?;
    }
    settler.directories()?;
    settler.hard_links()?;
    // Copies of files brought directories with them.
    settler.directories()?;
    settler.restore_times()
}

struct Settler<'a> {
    layer: BorrowedFd<'a>,
    parents: View<'a>,
    /// The layer on its parents.
    all: View<'a>,
    /// Directories that still have to look as they do below.
    #[allow(clippy::zero_sized_map_values)] // Paths are taken out of it in the same way as out of the others.
    implied: BTreeMap<Vec<u8>, ()>,
    /// Where links are to be made: which comes when, and to what.
    links: BTreeMap<Vec<u8>, (usize, Vec<u8>)>,
    /// The times of directories that were changed.
    times: BTreeMap<Vec<u8>, Timestamps>,
}

impl Settler<'_> {
    /// Hides all that the parents have: one by one, since overlayfs does not look at a root for its mark.
    fn hide_all(&mut self) -> Result<()> {
        if self.parents.layers.is_empty() {
            return Ok(());
        }
        self.keep_times(b"")?;
        for name in self.parents.list(b"", &self.parents.root()?)?.into_keys() {
            match fs::find(self.layer, &name)?.as_ref().map(fs::kind) {
                None => fs::whiteout(self.layer, &name)?,
                Some(FileType::Directory) => fs::make_opaque(self.layer, &name, self.all.overlay)?,
                Some(_) => {}
            }
            // What is implied there has nothing below it.
            take_inside(&mut self.implied, &name);
        }
        Ok(())
    }

    fn directories(&mut self) -> Result<()> {
        // What a move brings may stand before what is done already.
        while let Some((path, ())) = self.implied.pop_first() {
            self.directory(&path).with_context(|| format!("cannot settle {}", shown(&path)))?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8]) -> Result<()> {
        let Some(below) = self.below(path)? else { return Ok(()) };
        match below.kind() {
            FileType::Directory => {
                let from = self.parents.directory(below.layers[0], path)?;
                let to = fs::base(self.layer, path)?;
                fs::copy_metadata((from.as_fd(), b"."), &below.stat, (to.as_fd(), b"."))?;
                self.times.insert(path.to_vec(), fs::times(&below.stat));
                Ok(())
            }
            FileType::Symlink => self.follow(path, &below),
            // The directory takes its place.
            _ => Ok(()),
        }
    }

    /// What the parents have at a path of the layer's, unless the layer hides it.
    fn below(&self, path: &[u8]) -> Result<Option<Found>> {
        if self.parents.layers.is_empty() {
            return Ok(None);
        }
        let mut above = split(path).0;
        while !above.is_empty() {
            let (directory, name) = split(above);
            let directory = fs::base(self.layer, directory)?;
            match fs::find(&directory, name)? {
                Some(_) if fs::is_opaque(directory.as_fd(), name, self.all.overlay)? => return Ok(None),
                _ => above = split(above).0,
            }
        }
        self.parents.at(path)
    }

    /// Moves what a directory holds to where the symbolic link leads that is in its place below.
    fn follow(&mut self, path: &[u8], link: &Found) -> Result<()> {
        let (above, name) = split(path);
        let directory = self.parents.directory(link.layers[0], above)?;
        let target = rustix::fs::readlinkat(&directory, name, Vec::new())?.into_bytes();
        let to = self.resolve(above, &target, Some(path))?;
        self.keep_times(above)?;
        self.ensure(&to)?;
        self.merge(path, &to)?;
        remove(fs::base(self.layer, above)?.as_fd(), name)?;
        take_inside(&mut self.times, path);
        Ok(())
    }

    /// Where a path leads from a directory, along symbolic links, within the root, in the layer on its parents.
    /// Parts that are missing are taken as directories. `moving` is being moved away: nothing may lead through
    /// it.
    fn resolve(&self, start: &[u8], path: &[u8], moving: Option<&[u8]>) -> Result<Vec<u8>> {
        let mut at = start.to_vec();
        let mut links = 0;
        let mut ahead: Vec<Vec<u8>> = Vec::new();
        let push = |at: &mut Vec<u8>, ahead: &mut Vec<Vec<u8>>, path: &[u8]| {
            if path.starts_with(b"/") {
                at.clear();
            }
            ahead.extend(path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
        };
        push(&mut at, &mut ahead, path);
        while let Some(part) = ahead.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    at = split(&at).0.to_vec();
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            if moving == Some(&next[..]) {
                bail!("the symbolic link in its place below leads back to it");
            }
            // A directory that is only implied may be a link below, too.
            let implied = if self.implied.contains_key(&next) { self.below(&next)? } else { None };
            let (view, found) = match implied {
                Some(found) if found.kind() == FileType::Symlink => (&self.parents, Some(found)),
                _ => (&self.all, self.all.at(&next)?),
            };
            match found {
                Some(found) if found.kind() == FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        bail!("more than {MOST_LINKS} symbolic links stand in its name");
                    }
                    let directory = view.directory(found.layers[0], &at)?;
                    let target = rustix::fs::readlinkat(&directory, &part[..], Vec::new())?.into_bytes();
                    push(&mut at, &mut ahead, &target);
                }
                Some(found) if found.kind() != FileType::Directory => bail!("{} is no directory", shown(&next)),
                _ => at = next,
            }
        }
        Ok(at)
    }

    /// Has a directory in the layer, and those above it; new ones are implied.
    fn ensure(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|&end| end > 0) {
            let path = &path[..end];
            let (above, name) = split(path);
            let directory = fs::base(self.layer, above)?;
            let found = fs::find(&directory, name)?;
            match &found {
                Some(found) if fs::kind(found) == FileType::Directory => continue,
                Some(found) if !fs::is_whiteout(found) => bail!("{} is no directory", shown(path)),
                _ => {}
            }
            self.keep_times(above)?;
            if found.is_some() {
                rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
            }
            fs::plain_directory(&directory, name)?;
            if found.is_some() {
                fs::make_opaque(directory.as_fd(), name, self.all.overlay)?;
            } else {
                self.implied.insert(path.to_vec(), ());
            }
        }
        Ok(())
    }

    /// Moves all that one directory of the layer holds to another one.
    fn merge(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let mut ahead = vec![(from.to_vec(), to.to_vec())];
        while let Some((from, to)) = ahead.pop() {
            self.keep_times(&to)?;
            let (source, target) = (fs::base(self.layer, &from)?, fs::base(self.layer, &to)?);
            if fs::is_opaque(source.as_fd(), b".", self.all.overlay)? {
                fs::make_opaque(target.as_fd(), b".", self.all.overlay)?;
            }
            for name in fs::names(&source)? {
                let moved = fs::stat(&source, &name)?;
                let there = fs::find(&target, &name)?;
                let (old, new) = (join(&from, &name), join(&to, &name));
                let is_directory = |stat| fs::kind(stat) == FileType::Directory;
                match &there {
                    Some(there) if is_directory(there) && is_directory(&moved) => {
                        // The one that the archive names says how it looks.
                        if self.implied.remove(&old).is_none() {
                            self.implied.remove(&new);
                            fs::copy_metadata((source.as_fd(), &name), &moved, (target.as_fd(), &name))?;
                            self.times.insert(new.clone(), fs::times(&moved));
                        }
                        ahead.push((old, new));
                        continue;
                    }
                    // It hides lower layers only.
                    Some(there) if fs::is_whiteout(&moved) => {
                        if is_directory(there) {
                            fs::make_opaque(target.as_fd(), &name, self.all.overlay)?;
                            self.implied.remove(&new);
                        }
                        rustix::fs::unlinkat(&source, &name, AtFlags::empty())?;
                        continue;
                    }
                    Some(_) => {
                        remove(target.as_fd(), &name)?;
                        take_inside(&mut self.implied, &new);
                        take_inside(&mut self.times, &new);
                    }
                    None => {}
                }
                rustix::fs::renameat(&source, &name[..], &target, &name[..])?;
                if there.is_some() && is_directory(&moved) {
                    fs::make_opaque(target.as_fd(), &name, self.all.overlay)?;
                    self.implied.remove(&old);
                }
                self.renamed(&old, &new);
            }
        }
        Ok(())
    }

    /// What is remembered of a path and all below it is of another one from now on.
    fn renamed(&mut self, old: &[u8], new: &[u8]) {
        rename_inside(&mut self.implied, old, new);
        rename_inside(&mut self.times, old, new);
        rename_inside(&mut self.links, old, new);
    }

    fn hard_links(&mut self) -> Result<()> {
        // Files of the parents that the layer takes away: where they were copied to.
        let mut taken: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut links: Vec<_> = std::mem::take(&mut self.links).into_iter().collect();
        links.sort_by_key(|(_, (at, _))| *at);
        for (path, (_, target)) in links {
            let told = || format!("layer entry {}: a hard link to {}", shown(&path), shown(&target));
            self.hard_link(&path, &target, &mut taken).with_context(told)?;
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], target: &[u8], taken: &mut HashMap<Vec<u8>, Vec<u8>>) -> Result<()> {
        let (directory, name) = split(target);
        let directory = self.resolve(b"", directory, None)?;
        let target = join(&directory, name);
        self.keep_times(split(path).0)?;
        let to = fs::base(self.layer, split(path).0)?;
        if let Some(there) = fs::find(&to, split(path).1)? {
            if !fs::is_whiteout(&there) {
                bail!("something else is in its place");
            }
            rustix::fs::unlinkat(&to, split(path).1, AtFlags::empty())?;
        }
        if let Some(found) = self.all.at(&target)? {
            if found.kind() == FileType::Directory {
                bail!("which is a directory");
            }
            // Two names of one file must both be in this layer.
            if found.layers[0] > 0 {
                self.ensure(&directory)?;
                self.keep_times(&directory)?;
                let from = self.all.directory(found.layers[0], &directory)?;
                let into = fs::base(self.layer, &directory)?;
                copy_node(from.as_fd(), name, &found.stat, into.as_fd(), name)?;
            }
            return self.link(&target, path);
        }
        // The archive linked to it first and took it away then: only the new name is left.
        if let Some(copied) = taken.get(&target) {
            return self.link(&copied.clone(), path);
        }
        let found = if self.parents.layers.is_empty() { None } else { self.parents.at(&target)? };
        let Some(found) = found.filter(|it| it.kind() != FileType::Directory) else {
            bail!("which neither this layer nor those below it have");
        };
        let from = self.parents.directory(found.layers[0], &directory)?;
        copy_node(from.as_fd(), name, &found.stat, to.as_fd(), split(path).1)?;
        taken.insert(target, path.to_vec());
        Ok(())
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let ((from, from_name), (to, to_name)) = (split(from), split(to));
        let (from, to) = (fs::base(self.layer, from)?, fs::base(self.layer, to)?);
        Ok(rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty())?)
    }

    /// Remembers the times of a directory of the layer before its first change.
    fn keep_times(&mut self, path: &[u8]) -> Result<()> {
        if !self.times.contains_key(path) {
            let stat = rustix::fs::fstat(fs::base(self.layer, path)?)?;
            self.times.insert(path.to_vec(), fs::times(&stat));
        }
        Ok(())
    }

    fn restore_times(&self) -> Result<()> {
        for (path, times) in &self.times {
            match fs::base(self.layer, path) {
                Ok(directory) => fs::set_times(&directory, b".", times)?,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Takes out what is remembered of a path and of all below it.
fn take_inside<V>(of: &mut BTreeMap<Vec<u8>, V>, path: &[u8]) -> Vec<(Vec<u8>, V)> {
    // The byte behind a slash ends the range of what is below.
    let (start, end) = ([path, b"/"].concat(), [path, b"0"].concat());
    let below: Vec<_> = of.range(start..end).map(|(path, _)| path.clone()).collect();
    below.iter().map(Vec::as_slice).chain([path]).filter_map(|path| of.remove_entry(path)).collect()
}

fn rename_inside<V>(of: &mut BTreeMap<Vec<u8>, V>, old: &[u8], new: &[u8]) {
    for (path, value) in take_inside(of, old) {
        of.insert([new, &path[old.len()..]].concat(), value);
    }
}
