//! Copies files between a container and the host, with `docker cp`'s rules of names. Both sides are trees below a
//! root: the host's `/`, or the container's, which its links do not lead out of. What is copied goes through an
//! archive, which may as well come from the standard input or go to the standard output.

#[cfg(test)]
mod tests;

use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::ids::Ids;
use crate::layer::extract::{Extracted, Options, Target, extract, in_root};
use crate::layer::{compress, diff};

/// How many symbolic links may lead from one to the next (the kernel's limit too).
const MOST_LINKS: u32 = 40;
/// What is read and written at once, in bytes.
const BUFFER: usize = 256 << 10;

/// A path on one of the two sides.
pub struct Side<'a> {
    /// The side's root.
    pub root: BorrowedFd<'a>,
    /// Whether it is a container's: what is below the root is not trusted then.
    pub container: bool,
    /// Whose numbers the container's owners have below the root, where these are not its own.
    pub ids: Option<&'a Ids>,
    /// As the person has written it, absolute.
    pub path: &'a [u8],
}

/// A directory and a name in it, which is no symbolic link.
struct Place {
    directory: OwnedFd,
    /// Its path from the root, for links below it.
    path: Vec<u8>,
    /// Empty for the directory itself.
    name: Vec<u8>,
}

/// Copies what is at one path to another.
pub fn copy(from: &Side<'_>, to: &Side<'_>, follow: bool, archive: bool) -> Result<Extracted> {
    let source = Source::find(from, follow)?;
    let (place, name) = destination(to, &source)?;
    let (mut read, write) = std::io::pipe().context("a pipe")?;
    std::thread::scope(|scope| {
        let packer = scope.spawn(|| source.pack(from, &name, &mut BufWriter::with_capacity(BUFFER, write)));
        let extracted = as_root_of(to, || extract(&mut read, &place.target(to), &options(to, archive)));
        // Where extracting has failed, packing ends as nobody reads any more.
        drop(read);
        let packed = packer.join().unwrap_or_else(|_| bail!("reading the files has failed"));
        match (packed, extracted) {
            (Err(error), Err(_)) if !is_broken_pipe(&error) => Err(error),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(done)) => Ok(done),
        }
    })
}

/// Writes what is at a path as an archive.
pub fn copy_out(from: &Side<'_>, follow: bool, out: &mut dyn Write) -> Result<()> {
    let source = Source::find(from, follow)?;
    source.pack(from, &source.name, out)
}

/// Extracts an archive, plain or compressed, into a directory.
pub fn copy_in(stream: &mut (dyn Read + Send), to: &Side<'_>, archive: bool) -> Result<Extracted> {
    let path = clean(to.path);
    let directory = in_root(to.root, &path, OFlags::PATH | OFlags::DIRECTORY)
        .with_context(|| format!("{}: an archive is extracted into a directory", to.path.escape_ascii()))?;
    let place = Place { directory, path, name: Vec::new() };
    as_root_of(to, || {
        let (_, mut plain) = compress::decoder(stream)?;
        extract(&mut plain, &place.target(to), &options(to, archive))
    })
}

/// Does something as the root of a container's own users, who alone may make files in what is mounted for them (a
/// tmpfs), but with all that we may: in a thread of its own.
fn as_root_of<T: Send>(side: &Side<'_>, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let Some((uid, gid)) = side.ids.and_then(|ids| ids.given_to(0, 0)) else { return act() };
    let inside = || {
        let change = || {
            let all = rustix::thread::capabilities(None)?;
            // Of this thread alone.
            rustix::thread::set_thread_res_gid(None, rustix::process::Gid::from_raw(gid), None)?;
            rustix::thread::set_thread_res_uid(None, rustix::process::Uid::from_raw(uid), None)?;
            // Who is not root any more has lost them for now.
            rustix::thread::set_capabilities(None, all)
        };
        change().context("working as the container's root")?;
        act()
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What is made is the caller's own on the host, root's in a container; with `archive` its owner's. From a container
/// only with `archive` come devices and programs that run as their owner.
fn options<'a>(to: &Side<'a>, archive: bool) -> Options<'a> {
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let owner = if to.container { (0, 0) } else { own };
    Options { owner: (!archive).then_some(owner), ids: to.ids, trusted: archive || to.container }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|it| it.kind() == std::io::ErrorKind::BrokenPipe)
}

/// What is to be copied.
struct Source {
    place: Place,
    kind: FileType,
    directory: bool,
    /// As it is called in an archive; `.` for what is in a directory only.
    name: Vec<u8>,
}

impl Source {
    fn find(side: &Side<'_>, follow: bool) -> Result<Self> {
        let told = || side.path.escape_ascii().to_string();
        let wants_directory = ends_like_directory(side.path);
        let path = clean(side.path);
        let place = find(side.root, &path, follow || wants_directory).with_context(told)?;
        let kind = place.kind()?.with_context(|| format!("{}: no such file or directory", told()))?;
        // Put there since it was followed: a copy of it on the host would lead the next one elsewhere.
        if follow && kind == FileType::Symlink {
            bail!("{}: something else was put there just now", told());
        }
        let directory = kind == FileType::Directory;
        if wants_directory && !directory {
            bail!("{}: not a directory", told());
        }
        // Only what is in the directory.
        let contents = path.is_empty() || side.path.ends_with(b"/.");
        let name = if contents { b".".to_vec() } else { last(&path).to_vec() };
        Ok(Self { place, kind, directory, name })
    }

    fn pack(&self, side: &Side<'_>, name: &[u8], out: &mut dyn Write) -> Result<()> {
        diff::tree(self.place.directory.as_fd(), &self.place.name, self.kind, name, side.ids, out)
    }
}

/// The directory that it goes to, and the name that it gets there.
fn destination(side: &Side<'_>, source: &Source) -> Result<(Place, Vec<u8>)> {
    let told = || side.path.escape_ascii().to_string();
    let path = clean(side.path);
    if let Ok(directory) = in_root(side.root, &path, OFlags::PATH | OFlags::DIRECTORY) {
        return Ok((Place { directory, path, name: Vec::new() }, source.name.clone()));
    }
    let place = find(side.root, &path, true).with_context(told)?;
    match place.kind()? {
        Some(_) if source.directory => {
            bail!("{}: it is no directory, and what is to be copied there is one", told())
        }
        Some(_) if ends_like_directory(side.path) => bail!("{}: not a directory", told()),
        None if !source.directory && ends_like_directory(side.path) => {
            bail!("{}: no such directory; make it first, or leave the last / away", told())
        }
        _ => {}
    }
    let name = place.name.clone();
    Ok((place, name))
}

impl Place {
    fn target<'a>(&'a self, side: &Side<'a>) -> Target<'a> {
        Target { dir: self.directory.as_fd(), root: side.container.then_some((side.root, &self.path[..])) }
    }

    fn kind(&self) -> Result<Option<FileType>> {
        if self.name.is_empty() {
            return Ok(Some(FileType::Directory));
        }
        match rustix::fs::statat(&self.directory, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a path leads, whose last part may be missing. The directory around it has to be there.
fn find(root: BorrowedFd, path: &[u8], follow: bool) -> Result<Place> {
    let mut path = path.to_vec();
    for _ in 0..MOST_LINKS {
        let name = last(&path).to_vec();
        let above = path[..path.len() - name.len()].to_vec();
        let directory = in_root(root, &above, OFlags::PATH | OFlags::DIRECTORY)
            .with_context(|| format!("opening the directory /{}", above.escape_ascii()))?;
        if matches!(&name[..], b"." | b"..") {
            // Where a link has led to.
            let directory = in_root(root, &path, OFlags::PATH | OFlags::DIRECTORY)?;
            return Ok(Place { directory, path, name: Vec::new() });
        }
        let place = Place { directory, path: above, name };
        if !follow || place.kind()? != Some(FileType::Symlink) {
            return Ok(place);
        }
        let target = rustix::fs::readlinkat(&place.directory, &place.name[..], Vec::new())?.into_bytes();
        let joined = if target.starts_with(b"/") { target } else { [&place.path[..], &target].concat() };
        path = joined.strip_suffix(b"/").unwrap_or(&joined).to_vec();
    }
    bail!("more than {MOST_LINKS} symbolic links lead from one to the next")
}

/// The last part of a path.
fn last(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether a path is written as only a directory's is.
fn ends_like_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// A path from the root without empty parts, `.` and `..`, which `docker cp` takes away before it looks.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
