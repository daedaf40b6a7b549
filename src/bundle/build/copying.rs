//! COPY and ADD in a stage: which files, their key, and the copying.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};

use super::ignore::Ignore;
use super::layers::{Fresh, Stack};
use super::pattern;
use super::plan::action::CopyAction;
use super::plan::key::Key;
use super::source::{Source, open_file};
use super::stage::{From, Outcome, Work};
use super::step::add::{self, Fetched};
use super::step::chmod::{self, Change};
use super::step::copy::{Copier, Target};
use crate::container::users;
use crate::image::Digest;
use crate::layer::{fs, split};

/// Something that is copied.
enum What {
    /// A path of the tree, and the name that it was asked for by: a link's, not that of what it leads to.
    Path(Vec<u8>, Vec<u8>),
    /// With `--parents`: a path, and where in it the part that is kept begins.
    Kept(Vec<u8>, usize),
    /// Something that was fetched.
    Fetched(Fetched),
}

/// All that a copy needs, looked up.
struct Found<'a> {
    from: From<'a>,
    things: Vec<What>,
    exclude: Ignore,
    mode: Option<Change>,
}

/// Does a COPY or ADD, or finds it in the cache.
pub fn copy(work: &mut Work<'_>, copy: &CopyAction, what: &str) -> Result<(Outcome, bool)> {
    let word = if copy.add { "ADD" } else { "COPY" };
    let exclude = Ignore::of(&copy.copy.exclude).context("--exclude")?;
    let mode = copy.copy.chmod.as_deref().map(chmod::parse).transpose()?;
    let addresses = copy.copy.sources.iter().filter(|it| copy.add && (add::is_address(it) || add::is_git(it))).count();
    if let Some(checksum) = &copy.copy.checksum
        && (addresses != copy.copy.sources.len() || addresses != 1)
    {
        bail!("ADD: --checksum={checksum} goes with one address alone");
    }
    if let Some(git) = copy.copy.sources.iter().find(|it| copy.add && add::is_git(it)) {
        bail!("ADD {git}: repositories of git are not fetched: clone it, and copy the files from the context");
    }
    if copy.copy.sources.len() + copy.documents.len() > 1 && !copy.target.ends_with('/') {
        bail!("{word}: with several sources the destination {:?} has to be a directory: end it with /", copy.target);
    }
    let mut key = work.key(if copy.add { "add 1" } else { "copy 1" });
    key.add(copy.target.as_bytes()).debug(&copy.documents).debug(&copy.copy.chown).debug(&copy.copy.chmod);
    key.debug(&(copy.copy.link, copy.copy.parents, copy.copy.unpack)).debug(&copy.copy.exclude);
    let (from, name) = work.from(copy.copy.from.as_deref())?;
    if name.starts_with("stack") {
        // By the layers first; and then by the files, which may be the same in other layers.
        let mut quick = key.clone();
        quick.add(name.as_bytes()).debug(&copy.copy.sources);
        return work.cached_by(
            quick.finish(),
            |work| {
                let found = Found { things: find(work, copy, &from, word)?, from, exclude, mode };
                let key = by_files(key, &found)?;
                Ok(Some((key, found)))
            },
            what,
            |work, found| work_on(work, copy, &found.context("the files were looked up")?),
        );
    }
    let things = find(work, copy, &from, word)?;
    let found = Found { from, things, exclude, mode };
    let key = by_files(key, &found)?;
    work.cached(key, what, |work| work_on(work, copy, &found))
}

/// The things that the sources mean.
fn find(work: &Work<'_>, copy: &CopyAction, from: &From<'_>, word: &str) -> Result<Vec<What>> {
    let cancel = work.build.cancel;
    let mut things = Vec::new();
    let mut several = false;
    for source in &copy.copy.sources {
        if copy.add && add::is_address(source) {
            let file = work.build.place.whole(&work.build.place.dir("fetched")?).join("file");
            let fetched = add::fetch(source, copy.copy.checksum.as_deref(), &file, &|| cancel.check())?;
            if fetched.name.is_empty() && copy.target.ends_with('/') {
                bail!("ADD {source}: the address has no file's name: name the file in the destination");
            }
            things.push(What::Fetched(fetched));
            continue;
        }
        let tree = from.source().with_context(|| format!("{word} {source}"))?;
        let mut paths = if copy.copy.parents { with_stars(tree, source)? } else { tree.expand(source)? };
        paths.dedup();
        several |= paths.len() > 1;
        for path in paths {
            let Some(real) = tree.resolve(&path)? else {
                let of = if tree.plain { " in the context, or .dockerignore leaves it out" } else { "" };
                bail!("{word}: {source} is not there{of}");
            };
            // With --parents the names count that were asked for.
            things.push(if copy.copy.parents {
                kept(&path, source)
            } else {
                let name = split(path.trim_end_matches('/').as_bytes()).1.to_vec();
                let own = matches!(&name[..], b"" | b"." | b"..");
                let name = if own { split(&real).1.to_vec() } else { name };
                What::Path(real, name)
            });
        }
    }
    if several && !copy.target.ends_with('/') && !copy.copy.parents {
        bail!("{word}: {:?} is not a directory, and several files are copied: end it with /", copy.target);
    }
    Ok(things)
}

/// With --parents `**` stands for directories too.
fn with_stars(tree: &Source, source: &str) -> Result<Vec<String>> {
    let clean: Vec<&str> = source.split('/').filter(|it| !it.is_empty() && *it != ".").collect();
    if !clean.contains(&"**") {
        return tree.expand(&clean.join("/"));
    }
    let glob = pattern::Glob::new(&clean.join("/"), true)?;
    let fixed: Vec<&str> = clean.iter().copied().take_while(|it| !pattern::is_pattern(it)).collect();
    let Some(top) = tree.resolve(&fixed.join("/"))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    tree.walk(&top, &Ignore::default(), |item| {
        if let Ok(text) = String::from_utf8(item.from.clone())
            && glob.matches(&text)
        {
            found.push(text);
        }
        Ok(())
    })?;
    Ok(found)
}

/// A path, and where the part of it begins that is kept: behind `/./` of the source.
fn kept(path: &str, source: &str) -> What {
    let clean = path.trim_matches('/').as_bytes().to_vec();
    let before = source.split_once("/./").map_or("", |it| it.0);
    let before = before.split('/').filter(|it| !it.is_empty() && *it != ".").collect::<Vec<_>>().join("/");
    let start = if before.is_empty() { 0 } else { (before.len() + 1).min(clean.len()) };
    What::Kept(clean, start)
}

fn by_files(mut key: Key, found: &Found<'_>) -> Result<Digest> {
    for thing in &found.things {
        match thing {
            What::Path(path, name) => {
                let tree = found.from.source()?;
                // The name of a directory is nowhere in what is copied.
                let is_directory = tree.at(path)?.kind() == rustix::fs::FileType::Directory;
                key.add(if is_directory { b"" } else { name });
                key.add(tree.digest(path, &found.exclude)?.as_str().as_bytes());
            }
            What::Kept(path, start) => {
                key.add(&path[*start..]);
                key.add(found.from.source()?.digest(path, &found.exclude)?.as_str().as_bytes());
            }
            What::Fetched(fetched) => {
                key.add(fetched.name.as_bytes()).add(fetched.digest.as_str().as_bytes()).debug(&fetched.modified);
            }
        }
    }
    Ok(key.finish())
}

/// The copying itself. With --link it does not see what is below.
fn work_on(work: &mut Work<'_>, copy: &CopyAction, found: &Found<'_>) -> Result<Option<Fresh>> {
    let stack = work.built.stack.clone();
    let owner = match &copy.copy.chown {
        Some(text) => Some(owner(work, &stack, text)?),
        None => None,
    };
    let cancel = work.build.cancel;
    let lower = if copy.copy.link { Stack::default() } else { stack };
    work.in_layer(None, &lower, |_, root| {
        let stop = || cancel.check();
        let copier =
            Copier { root: root.as_fd(), owner, mode: found.mode.as_ref(), exclude: &found.exclude, stop: &stop };
        let target = Target::new(&copy.target);
        for document in &copy.documents {
            copier.bytes(document.text.as_bytes(), &target, &document.name, 0o644)?;
        }
        for thing in &found.things {
            match thing {
                What::Fetched(fetched) => put_fetched(&copier, fetched, &target, copy)?,
                What::Path(path, name) => put(&copier, found.from.source()?, (path, name), &target, copy)
                    .with_context(|| format!("copying {}", String::from_utf8_lossy(path)))?,
                What::Kept(path, start) => copier
                    .copy_with_parents(found.from.source()?, path, *start, &target)
                    .with_context(|| format!("copying {}", String::from_utf8_lossy(path)))?,
            }
        }
        Ok(true)
    })
}

fn put(
    copier: &Copier<'_>,
    tree: &Source,
    (path, name): (&[u8], &[u8]),
    target: &Target,
    copy: &CopyAction,
) -> Result<()> {
    let is_file = tree.at(path)?.kind() == rustix::fs::FileType::RegularFile;
    if copy.add && is_file && copy.copy.unpack != Some(false) && add::holds_archive(tree, path)? {
        let (above, name) = split(path);
        let dir = fs::base(tree.root(), above)?;
        return add::unpack(copier, Box::new(File::from(open_file(dir.as_fd(), name)?)), target);
    }
    copier.copy(tree, path, name, target)
}

fn put_fetched(copier: &Copier<'_>, fetched: &Fetched, target: &Target, copy: &CopyAction) -> Result<()> {
    if copy.copy.unpack == Some(true) {
        return add::unpack(copier, Box::new(File::open(&fetched.file)?), target);
    }
    let (dir, name) = copier.place(target, fetched.name.as_bytes())?;
    let mut to = File::from(Copier::create(dir.as_fd(), &name)?);
    std::io::copy(&mut File::open(&fetched.file)?, &mut to)?;
    let (uid, gid) = copier.owner.unwrap_or((0, 0));
    fs::set_owner(&dir, &name, uid, gid)?;
    let mode = copier.mode.map_or(0o600, |it| it.apply(0o600, false));
    let mode = rustix::fs::Mode::from_raw_mode(mode);
    rustix::fs::chmodat(&dir, &name[..], mode, rustix::fs::AtFlags::empty())?;
    if let Some(modified) = fetched.modified {
        let time = rustix::fs::Timespec { tv_sec: modified, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        fs::set_times(&dir, &name, &times)?;
    }
    Ok(())
}

/// `--chown`: names of the stage, or numbers. A number alone is the group's too.
fn owner(work: &Work<'_>, stack: &Stack, text: &str) -> Result<(u32, u32)> {
    let number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    let whole = if number(text) { format!("{text}:{text}") } else { text.to_owned() };
    let numbers: Vec<&str> = whole.split(':').collect();
    if let [uid, gid] = numbers[..]
        && number(uid)
        && number(gid)
    {
        let of = |it: &str| it.parse::<u32>().ok().filter(|it| *it < u32::MAX);
        return Ok((of(uid).context("--chown: the user's number")?, of(gid).context("--chown: the group's number")?));
    }
    let root =
        super::step::root::Root::mount(work.tool, work.build.place, stack, super::step::root::Top::Nothing, None)?;
    let who = users::look_up(root.as_fd(), &whole, &[]).context("--chown")?;
    Ok((who.uid, who.gid))
}
