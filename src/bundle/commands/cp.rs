//! `bundle cp`.

use std::io::BufWriter;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};

use crate::cli::watch::Cp;
use crate::container::copy::{Side, copy, copy_in, copy_out};
use crate::container::root::{self, Root};
use crate::container::{record, units};
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Cp) -> Result<()> {
    let done = match (container(&args.source), container(&args.destination)) {
        (Some(_), Some(_)) => {
            bail!("both sides are containers: copy to the host first, or through a pipe: cp A:/x - | cp - B:/y")
        }
        (None, None) => bail!("neither side is a container: name one as CONTAINER:PATH"),
        (Some((name, path)), None) => {
            if args.destination == "-" && rustix::termios::isatty(std::io::stdout()) {
                bail!("an archive is nothing for a terminal: redirect, or name a path");
            }
            let (inside, path) = inside(tool, name, path)?;
            let from = Side { root: inside.dir.as_fd(), container: true, ids: inside.ids.as_ref(), path: &path };
            if args.destination == "-" {
                let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
                return copy_out(&from, args.follow_link, &mut out);
            }
            let (root, path) = outside(&args.destination)?;
            copy(
                &from,
                &Side { root: root.as_fd(), container: false, ids: None, path: &path },
                args.follow_link,
                args.archive,
            )?
        }
        (None, Some((name, path))) => {
            let host = if args.source == "-" { None } else { Some(outside(&args.source)?) };
            let (inside, path) = inside(tool, name, path)?;
            let to = Side { root: inside.dir.as_fd(), container: true, ids: inside.ids.as_ref(), path: &path };
            match host {
                None => copy_in(&mut std::io::stdin(), &to, args.archive)?,
                Some((root, path)) => {
                    let from = Side { root: root.as_fd(), container: false, ids: None, path: &path };
                    copy(&from, &to, args.follow_link, args.archive)?
                }
            }
        }
    };
    if done.skipped > 0 {
        eprintln!("bundle: {} devices are left out: --archive copies them too", done.skipped);
    }
    if !args.quiet {
        eprintln!("Successfully copied {} to {}", units::human(done.bytes), args.destination);
    }
    Ok(())
}

/// `CONTAINER:PATH`. A path of the host that has a colon in it begins with `/` or `.`.
fn container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':')
}

/// A container's root with all that is mounted there, and a path in it.
fn inside(tool: &Tool, name: &str, path: &str) -> Result<(Root, Vec<u8>)> {
    if path.is_empty() {
        bail!("{name}: a path behind the colon is missing; / is the container's root");
    }
    let root = root::with_mounts(tool, &record::find(tool.store()?, name)?)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((root, format!("{slash}{path}").into_bytes()))
}

/// A path of the host from its root. That it ends like a directory's means something.
fn outside(text: &str) -> Result<(OwnedFd, Vec<u8>)> {
    if text.is_empty() {
        bail!("an empty path: . is the current directory");
    }
    let mut path = std::env::current_dir().context("the current directory")?.as_os_str().as_bytes().to_vec();
    path.push(b'/');
    if text.starts_with('/') {
        path.clear();
    }
    path.extend_from_slice(text.as_bytes());
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((root, path))
}
