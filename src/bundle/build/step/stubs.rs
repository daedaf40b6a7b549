//! What the mounts of a RUN stand on. It lies in a directory below all layers, so that none of it comes into one; what
//! the runtime has to make all the same, since a link leads there, is removed again.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::build::place::Place;
use crate::container::changes::STUBS;
use crate::layer::extract::in_root;
use crate::layer::{fs, split};

/// Makes them for the usual mounts and these targets; whether each is a directory. The directory's path below the
/// store.
pub fn make(place: &Place, targets: &[(String, bool)]) -> Result<PathBuf> {
    let name = place.dir("below")?;
    let top = place.whole(&name);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&top, flags, Mode::empty())?;
    rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
    let usual = STUBS.iter().map(|it| ((*it).to_owned(), !it.contains('/')));
    for (path, directory) in usual.chain(targets.iter().cloned()) {
        let parts: Vec<&str> = path.split('/').filter(|it| !it.is_empty()).collect();
        let Some((last, above)) = parts.split_last() else { continue };
        let mut here = fs::base(std::os::fd::AsFd::as_fd(&root), b"")?;
        for part in above.iter().copied().chain(directory.then_some(*last)) {
            match fs::plain_directory(&here, part.as_bytes()) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error).with_context(|| format!("a place for the mount at {path}")),
            }
            here = fs::base(std::os::fd::AsFd::as_fd(&here), part.as_bytes())
                .with_context(|| format!("the mount at {path} lies in another mount's file"))?;
        }
        if !directory {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&here, *last, flags, Mode::from_raw_mode(0o644))
                .with_context(|| format!("a place for the mount at {path}"))?;
        }
    }
    Ok(name)
}

/// The targets that are not there in a root all the same.
pub fn missing(root: BorrowedFd<'_>, targets: &[(String, bool)]) -> Vec<String> {
    let absent = |it: &&(String, bool)| in_root(root, it.0.as_bytes(), OFlags::PATH).is_err();
    targets.iter().filter(absent).map(|it| it.0.clone()).collect()
}

/// Removes what has come to be there for them, where it is empty.
pub fn remove(root: BorrowedFd<'_>, missing: &[String]) {
    for path in missing {
        let Ok(found) = in_root(root, path.as_bytes(), OFlags::PATH) else { continue };
        let real = |fd: i32| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
        let (Some(top), Some(real)) = (real(root.as_raw_fd()), real(found.as_raw_fd())) else { continue };
        let Ok(below) = real.strip_prefix(&top) else { continue };
        let below = below.as_os_str().as_encoded_bytes();
        let (above, name) = split(below);
        let Ok(dir) = fs::base(root, above) else { continue };
        let Ok(stat) = fs::stat(&dir, name) else { continue };
        // What is not empty is the command's own by now.
        let _ = match fs::kind(&stat) {
            FileType::Directory => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => rustix::fs::unlinkat(&dir, name, AtFlags::empty()),
            _ => Ok(()),
        };
    }
}
