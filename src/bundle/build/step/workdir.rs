//! Directories of a stage: WORKDIR's, and those around what is copied.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::layer::extract::in_root;
use crate::layer::{fs, shown};

const MODE: u32 = 0o755;

/// Opens a directory of the stage; what is missing of it is made, with this owner. Links are followed within the root.
/// Gives also how many were made.
pub fn ensure(root: BorrowedFd<'_>, path: &[u8], owner: (u32, u32)) -> Result<(OwnedFd, usize)> {
    let told = || format!("the directory {}", shown(path));
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match in_root(root, path, flags) {
        Ok(dir) => return Ok((dir, 0)),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => bail!("{}: something that is no directory stands in its way", told()),
        Err(error) => return Err(error).with_context(told),
    }
    let mut here = in_root(root, b"", flags)?;
    let mut done: Vec<u8> = Vec::new();
    let mut made = 0;
    for part in path.split(|it| *it == b'/').filter(|it| !it.is_empty()) {
        done = crate::layer::join(&done, part);
        here = match in_root(root, &done, flags) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => {
                let one = (|| -> rustix::io::Result<()> {
                    rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(MODE))?;
                    fs::set_owner(&here, part, owner.0, owner.1)?;
                    rustix::fs::chmodat(&here, part, Mode::from_raw_mode(MODE), AtFlags::empty())
                })();
                match one {
                    Ok(()) => made += 1,
                    // A link that leads to nothing.
                    Err(Errno::EXIST) => bail!("{}: {} is a link that leads nowhere", told(), shown(&done)),
                    Err(error) => return Err(error).with_context(told),
                }
                in_root(root, &done, flags).with_context(told)?
            }
            Err(Errno::NOTDIR | Errno::LOOP) => bail!("{}: {} is no directory", told(), shown(&done)),
            Err(error) => return Err(error).with_context(told),
        };
    }
    Ok((here.as_fd().try_clone_to_owned()?, made))
}
