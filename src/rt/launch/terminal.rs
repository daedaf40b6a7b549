//! The container's terminal: a pseudo-terminal of its own devpts where it has one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, minor};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{OptionalActions, OutputModes, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use super::resolve::Tree;
use super::rootfs::{DEVPTS_SUPER_MAGIC, attach};
use super::sync::send_with;
use crate::sys::error::At;

/// Both ends of a pseudo-terminal.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// Makes a terminal of `rows` × `columns`, where they are 0 of the caller's terminal: set later, the
/// program would see none, and be sent SIGWINCH.
pub(super) fn make(tree: &Tree, (rows, columns): (u16, u16)) -> Result<Terminal> {
    let master = open_master(tree)?;
    unlockpt(&master).at(|| "unlocking the terminal".into())?;
    // The slave is had from the master, not by a path that the container could have prepared.
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .at(|| "opening the terminal's other side".into())?;
    let mut modes = tcgetattr(&slave).at(|| "reading the terminal's modes".into())?;
    // What the container prints is passed on as it is; the terminal it ends on adds what it needs.
    modes.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(&slave, OptionalActions::Now, &modes).at(|| "setting the terminal's modes".into())?;
    let asked = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let size = if (rows, columns) == (0, 0) { tcgetwinsize(rustix::stdio::stdin()).ok() } else { Some(asked) };
    if let Some(size) = size {
        tcsetwinsize(&slave, size).at(|| "/process/consoleSize".into())?;
    }
    Ok(Terminal { master, slave })
}

/// Binds init's terminal to /dev/console.
pub(super) fn bind_console(tree: &Tree, slave: &OwnedFd) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let node = open_tree(slave, c"", flags).at(|| "taking the terminal's node".into())?;
    attach(&node, tree.file("/dev/console")?).at(|| "binding the terminal to /dev/console".into())
}

/// The multiplexer of the container's own devpts, and only if it really is one; else the host's.
fn open_master(tree: &Tree) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let own = match tree.open("/dev/pts/ptmx", flags | OFlags::NOFOLLOW) {
        Ok(master) => Some(master),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NXIO | Errno::NODEV) => None,
        Err(error) => return Err(error).at(|| "/process/terminal: opening the container's /dev/pts/ptmx".into()),
    };
    if let Some(master) = own {
        let stat = fstat(&master).at(|| "looking at /dev/pts/ptmx".into())?;
        let on_devpts = fstatfs(&master).is_ok_and(|fs| fs.f_type as u64 == DEVPTS_SUPER_MAGIC);
        let is_ptmx = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2);
        if !on_devpts || !is_ptmx {
            bail!("/process/terminal: the container's /dev/pts/ptmx is not a terminal multiplexer");
        }
        return Ok(master);
    }
    rustix::fs::open("/dev/ptmx", flags | OFlags::CLOEXEC, Mode::empty())
        .at(|| "/process/terminal: opening /dev/ptmx".into())
}

/// Connects to the socket that an engine named, before anything is made.
pub fn connect(path: &std::path::Path) -> Result<OwnedFd> {
    let stream = UnixStream::connect(path).at(|| format!("connecting to --console-socket {}", path.display()))?;
    Ok(stream.into())
}

/// Hands the master to the engine: one message with at least one byte.
pub(super) fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    send_with(socket, &[std::io::IoSlice::new(b"/dev/ptmx")], Some(master.as_fd()))
        .at(|| "sending the terminal to --console-socket".into())?;
    Ok(())
}

/// Makes the slave the controlling terminal and the standard streams.
pub(super) fn take(slave: &OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).context("taking the terminal as the controlling one")?;
    rustix::stdio::dup2_stdin(slave).at(|| "taking the terminal as standard input".into())?;
    rustix::stdio::dup2_stdout(slave).at(|| "taking the terminal as standard output".into())?;
    rustix::stdio::dup2_stderr(slave).at(|| "taking the terminal as standard error".into())?;
    debug_assert!(slave.as_raw_fd() > 2);
    Ok(())
}
