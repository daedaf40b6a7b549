//! `bundle save`.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result, bail};

use crate::archive;
use crate::cli::{ArchiveFormat, Save};
use crate::image::Reference;
use crate::store::Image;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Save) -> Result<()> {
    let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
    for text in &args.images {
        let image = super::find(tool, text)?;
        // An image that was asked for by its id goes without a name.
        let name = text.parse::<Reference>().ok().filter(|it| it.tag.is_some() && it.digest.is_none());
        let name = match name {
            Some(name) => tool.store()?.named(&name)?.filter(|it| it.digest == image.digest).map(|_| name),
            None => None,
        };
        match images.iter_mut().find(|(it, _): &&mut (Image, _)| it.digest == image.digest) {
            Some((_, names)) => names.extend(name.filter(|it| !names.contains(it)).into_iter().collect::<Vec<_>>()),
            None => images.push((image, name.into_iter().collect())),
        }
    }
    if args.format == ArchiveFormat::OciDir {
        let dir = args.output.as_deref().context("--format oci-dir: name the directory by --output")?;
        if dir.exists()
            && std::fs::read_dir(dir).with_context(|| format!("--output {}", dir.display()))?.next().is_some()
        {
            bail!("--output {}: the directory is not empty", dir.display());
        }
        return archive::save(tool.store()?, &images, args.format, None::<&mut dyn Write>, Some(dir));
    }
    let write = |out: &mut dyn Write| archive::save(tool.store()?, &images, args.format, Some(out), None);
    if let Some(path) = &args.output {
        return whole_file(path, write);
    }
    if rustix::termios::isatty(std::io::stdout()) {
        bail!("an archive is nothing for a terminal: name a file by --output, or redirect");
    }
    write(&mut BufWriter::with_capacity(1 << 20, std::io::stdout().lock()))
}

/// Writes a file beside its place and renames it: what is there under the name is old or whole.
pub fn whole_file(path: &std::path::Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let name = path.file_name().with_context(|| format!("{}: no file name", path.display()))?;
    // A device or a pipe is written to as it is.
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path).with_context(|| format!("opening {}", path.display()))?;
        return write(&mut BufWriter::with_capacity(1 << 20, file));
    }
    let beside = path.with_file_name(format!(".{}.{}", name.display(), crate::store::random_name()?));
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(&beside)
        .with_context(|| format!("making {}", beside.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let result = write(&mut out).and_then(|()| Ok(out.flush()?)).and_then(|()| {
        std::fs::rename(&beside, path).with_context(|| format!("putting {} in its place", path.display()))
    });
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result
}
