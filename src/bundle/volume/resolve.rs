//! All flags to the list of a container's mounts, by Docker's order of precedence.

use anyhow::{Context, Result, bail};

use super::{Mount, Source, parse, table};
use crate::cli::flags::Flags;

/// The container's mounts, those nearest to the root first. `image` are the paths that the image calls volumes;
/// `others` gives the mounts of another container, by its name. Sources on the host have to be there. Volumes without a
/// name get one here, so that the list can be kept.
///
/// What the image asks for gives way to `--volumes-from`, this to `-v`, `--mount` and `--tmpfs`; two of those at one
/// place are an error.
pub fn resolve<'a>(
    flags: &Flags,
    image: impl Iterator<Item = &'a str>,
    others: &mut dyn FnMut(&str) -> Result<Vec<Mount>>,
) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut flag = |flag: &str, text: &str, read: fn(&str) -> Result<Mount>| -> Result<()> {
        let mount = read(text).and_then(|it| on_host(&it).map(|()| it)).with_context(|| format!("{flag} {text:?}"))?;
        if mounts.iter().any(|it| it.destination == mount.destination) {
            bail!("{flag} {text:?}: something else is already mounted at {}", mount.destination);
        }
        mounts.push(mount);
        Ok(())
    };
    for text in &flags.volume {
        flag("--volume", text, parse::volume)?;
    }
    for text in &flags.mount {
        flag("--mount", text, parse::mount)?;
    }
    for text in &flags.tmpfs {
        flag("--tmpfs", text, parse::tmpfs)?;
    }
    let mut borrowed: Vec<Mount> = Vec::new();
    for text in &flags.volumes_from {
        for mount in from(text, others).with_context(|| format!("--volumes-from {text}"))? {
            borrowed.retain(|it| it.destination != mount.destination);
            borrowed.push(mount);
        }
    }
    let is_free = |list: &[Mount], at: &str| !list.iter().any(|it| it.destination == at);
    borrowed.retain(|it| is_free(&mounts, &it.destination));
    mounts.extend(borrowed);
    for path in image {
        let path = parse::destination(&format!("/{path}")).with_context(|| format!("the image's volume {path:?}"))?;
        if is_free(&mounts, &path) {
            mounts.push(parse::nameless(path));
        }
    }
    for mount in &mut mounts {
        if let Source::Volume { name, .. } = &mut mount.source
            && name.is_empty()
        {
            *name = crate::container::random_id()?;
        }
    }
    mounts.sort_by(|a, b| depth(a).cmp(&depth(b)).then_with(|| a.destination.cmp(&b.destination)));
    Ok(mounts)
}

fn depth(mount: &Mount) -> usize {
    mount.destination.matches('/').count()
}

/// `NAME[:ro|rw]`: another container's mounts, but for memory.
fn from(text: &str, others: &mut dyn FnMut(&str) -> Result<Vec<Mount>>) -> Result<Vec<Mount>> {
    let (name, words) = text.split_once(':').map_or((text, None), |(name, words)| (name, Some(words)));
    if name.is_empty() {
        bail!("not of the form CONTAINER[:ro|rw]");
    }
    let read_only = match words {
        None | Some("z" | "Z") => None,
        Some("ro") => Some(true),
        Some("rw") => Some(false),
        Some(other) => bail!("{other:?}: known are ro and rw"),
    };
    let mut mounts = others(name)?;
    mounts.retain(|it| !matches!(it.source, Source::Tmpfs { .. }));
    for mount in &mut mounts {
        mount.read_only = read_only.unwrap_or(mount.read_only);
    }
    Ok(mounts)
}

/// Whether what is mounted from the host is there.
fn on_host(mount: &Mount) -> Result<()> {
    let Source::Bind { path, .. } = &mount.source else { return Ok(()) };
    match std::fs::metadata(path) {
        Ok(_) => mount.propagation.as_deref().map_or(Ok(()), |it| table::check_propagation(path, it)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{path} does not exist on this machine: make it first, or name a volume in its place")
        }
        Err(error) => Err(error).context(path.clone()),
    }
}
