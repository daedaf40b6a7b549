//! The build's own files: the context, the Dockerfile and .dockerignore. Each is opened once.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dockerfile::LARGEST;
use super::ignore::Ignore;
use super::place::Place;
use super::source::Source;
use super::step::add;
use crate::layer::extract::{self, in_root};
use crate::layer::fs;

/// What a build begins with.
pub struct Context {
    /// The Dockerfile's name for people.
    pub name: String,
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The files; none where a Dockerfile alone was given.
    pub source: Option<Source>,
}

/// Opens what the command line names: a directory, or `-` for the standard input; `file` is `--file`.
pub fn open(context: &str, file: Option<&str>, place: &Place) -> Result<Context> {
    if context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/") {
        bail!(
            "the context {context}: addresses are not fetched: clone it, or pass a tar by `curl ... | bundle build -`"
        );
    }
    if context != "-" {
        let dir = open_dir(Path::new(context)).with_context(|| format!("the context {context}"))?;
        return of_directory(dir, context, file);
    }
    if file == Some("-") {
        bail!("--file -: the context is read from the standard input already");
    }
    let mut input = std::io::stdin().lock();
    let mut start = Vec::new();
    input.by_ref().take(512).read_to_end(&mut start).context("reading the standard input")?;
    if !add::is_archive(&start) {
        let mut bytes = start;
        input.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).context("reading the standard input")?;
        if file.is_some() {
            bail!("--file: a Dockerfile alone stands on the standard input; leave the flag away, or give a tar");
        }
        check_size("the standard input", bytes.len() as u64)?;
        return Ok(Context { name: "Dockerfile".to_owned(), dockerfile: bytes, source: None });
    }
    let at = place.whole(&place.dir("context")?);
    let dir = open_dir(&at)?;
    let mut plain = add::decoder(Box::new(std::io::Cursor::new(start).chain(input)))?;
    let target = extract::Target { dir: dir.as_fd(), root: None };
    let options = extract::Options { owner: None, ids: None, trusted: false };
    extract::extract(&mut plain, &target, &options).context("unpacking the context from the standard input")?;
    of_directory(dir, "the context", file)
}

/// Another context by name: a directory.
pub fn named(path: &Path) -> Result<Source> {
    let dir = open_dir(path).with_context(|| format!("--build-context: {}", path.display()))?;
    let ignore = match read_in(&dir, ".dockerignore")? {
        Some(bytes) => Ignore::parse(".dockerignore", &String::from_utf8_lossy(&bytes))?,
        None => Ignore::default(),
    };
    Ok(Source::new(dir, ignore, true))
}

fn of_directory(dir: OwnedFd, shown: &str, file: Option<&str>) -> Result<Context> {
    let (name, dockerfile, own_ignore) = match file {
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes).context("reading the standard input")?;
            check_size("the standard input", bytes.len() as u64)?;
            ("Dockerfile".to_owned(), bytes, None)
        }
        Some(path) => by_flag(&dir, shown, path)?,
        None => {
            let found = match read_in(&dir, "Dockerfile")? {
                Some(bytes) => Some(("Dockerfile", bytes)),
                None => read_in(&dir, "dockerfile")?.map(|bytes| ("dockerfile", bytes)),
            };
            let Some((name, bytes)) = found else {
                bail!("{shown} has no Dockerfile in it; name it by --file");
            };
            let own = read_in(&dir, &format!("{name}.dockerignore"))?;
            (name.to_owned(), bytes, own.map(|it| (format!("{name}.dockerignore"), it)))
        }
    };
    let ignore = match own_ignore {
        Some(own) => Some(own),
        None => read_in(&dir, ".dockerignore")?.map(|it| (".dockerignore".to_owned(), it)),
    };
    let ignore = match ignore {
        Some((name, bytes)) => Ignore::parse(&name, &String::from_utf8_lossy(&bytes))?,
        None => Ignore::default(),
    };
    Ok(Context { name, dockerfile, source: Some(Source::new(dir, ignore, true)) })
}

type Named = (String, Vec<u8>, Option<(String, Vec<u8>)>);

/// `--file`: as the caller sees the path; in a context of the standard input, and where there is none, in the context.
fn by_flag(dir: &OwnedFd, shown: &str, path: &str) -> Result<Named> {
    let told = || format!("--file {path}");
    let beside = format!("{path}.dockerignore");
    let short = path.rsplit('/').next().unwrap_or(path).to_owned();
    let of_callers = shown != "the context" && Path::new(path).exists();
    let (bytes, own) = if of_callers {
        let read = |path: &str| -> Result<Option<Vec<u8>>> {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(file) => read_file(path, file).map(Some),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        (read(path).with_context(told)?, read(&beside).with_context(told)?)
    } else {
        (read_in(dir, path).with_context(told)?, read_in(dir, &beside)?)
    };
    let bytes = bytes.with_context(|| format!("{}: there is no such file", told()))?;
    Ok((short, bytes, own.map(|it| (beside, it))))
}

/// A small file of the context; none where there is none.
fn read_in(dir: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>> {
    // Not blocking: it may be a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match in_root(dir.as_fd(), name.as_bytes(), flags) {
        Ok(file) => read_file(name, file).map(Some),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).with_context(|| name.to_owned()),
    }
}

fn read_file(name: &str, file: OwnedFd) -> Result<Vec<u8>> {
    let stat = rustix::fs::fstat(&file)?;
    if fs::kind(&stat) != rustix::fs::FileType::RegularFile {
        bail!("{name}: it is no file");
    }
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| name.to_owned())?;
    check_size(name, bytes.len() as u64)?;
    Ok(bytes)
}

fn check_size(name: &str, size: u64) -> Result<()> {
    if size > LARGEST {
        bail!("{name}: it is larger than {LARGEST} bytes");
    }
    Ok(())
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}
