//! Where a build's result goes: the store, an archive, a tar, a directory.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};

use super::ignore::Ignore;
use super::layers::{Layers, Stack};
use super::place::Place;
use super::progress::Progress;
use super::request::{Destination, Form, Output, Request};
use super::source::Source;
use super::step::copy::{Copier, Target};
use super::step::root::{Root, Top};
use super::{Done, cache};
use crate::archive;
use crate::cli::ArchiveFormat;
use crate::image::Digest;
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Manifest, oci};
use crate::layer::diff;
use crate::store::{Image, NewImage, Store};
use crate::tool::Tool;

/// What all of it needs.
pub struct Export<'a> {
    /// The store's.
    pub tool: &'a Tool,
    /// The store.
    pub store: &'a Store,
    /// What is wanted.
    pub request: &'a Request,
    /// Layers in the making.
    pub layers: &'a Layers,
    /// The build's directory.
    pub place: &'a Place,
    /// What people see.
    pub progress: &'a Progress,
}

/// Puts the result everywhere where it is wanted.
pub fn export(it: &Export<'_>, stack: &Stack, config: ImageConfig) -> Result<Done> {
    let mut done = Done { id: None, digest: None };
    let in_store = it.request.outputs.iter().any(|it| matches!(it, Output::Image | Output::Archive(..)));
    let step = it.progress.step("exporting");
    if in_store {
        let wanted = it.request.outputs.contains(&Output::Image);
        let (image, new) = it.image(stack, &config, wanted)?;
        for output in &it.request.outputs {
            if let Output::Archive(form, to) = output {
                it.archive(&image, *form, to)?;
            }
        }
        if wanted {
            done.id = Some(image.id.clone());
            done.digest = Some(image.digest.clone());
        } else if new {
            it.store.remove(&image)?;
        }
    } else {
        // Until it is there as a whole, the next build finds no step of this one.
        for entry in &stack.0 {
            it.layers.blob(entry)?;
        }
    }
    for output in &it.request.outputs {
        match output {
            Output::Image | Output::Archive(..) => {}
            Output::Tar(to) => {
                let root = it.root(stack)?;
                to_stream(to, |out| diff::archive(root.as_fd(), None, out))?;
            }
            Output::Local(dir) => it.local(stack, dir)?,
        }
    }
    step.done();
    Ok(done)
}

impl Export<'_> {
    /// The image in the store, and whether it is new there. With `wanted` it gets its names.
    fn image(&self, stack: &Stack, config: &ImageConfig, wanted: bool) -> Result<(Image, bool)> {
        let bytes = serde_json::to_vec(config)?;
        let blobs = stack.0.iter().map(|entry| self.layers.blob(entry)).collect::<Result<Vec<_>>>()?;
        let document = Manifest::new(Descriptor::of(oci::CONFIG, &bytes), blobs);
        let manifest_bytes = serde_json::to_vec(&document)?;
        let manifest = Descriptor::of(oci::MANIFEST, &manifest_bytes);
        let names: Vec<(String, Digest)> = if wanted {
            self.request.names.iter().map(|it| (it.to_string(), manifest.digest.clone())).collect()
        } else {
            Vec::new()
        };
        let there = self.store.look_up(manifest.digest.as_str())?;
        if let Some(image) = &there {
            let has = self.store.names(image)?;
            if names.iter().all(|(name, _)| has.iter().any(|it| it.0.to_string() == *name)) {
                return Ok((image.clone(), false));
            }
        }
        self.store.put(&bytes)?;
        self.store.put(&manifest_bytes)?;
        let layers: Vec<_> = stack.0.iter().map(|_| None).collect();
        let new = NewImage { manifest: &manifest, document: &document, config, layers: &layers, names: &names };
        if !self.store.commit(&new)? {
            bail!("what the image is made of has been removed by another bundle meanwhile: build it again");
        }
        // The commit has written all of the store out.
        cache::settled(self.store)?;
        Ok((self.store.find(manifest.digest.as_str())?, there.is_none()))
    }

    fn archive(&self, image: &Image, form: Form, to: &Destination) -> Result<()> {
        let format = match form {
            Form::Oci => ArchiveFormat::OciArchive,
            Form::Docker => ArchiveFormat::DockerArchive,
        };
        let images = [(image.clone(), self.request.names.clone())];
        to_stream(to, |out| archive::save(self.store, &images, format, Some(out), None))
    }

    fn root(&self, stack: &Stack) -> Result<Root> {
        Root::mount(self.tool, self.place, stack, Top::Nothing, None)
    }

    fn local(&self, stack: &Stack, dir: &Path) -> Result<()> {
        let told = || format!("--output {}", dir.display());
        std::fs::create_dir_all(dir).with_context(told)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let to = rustix::fs::open(dir, flags, Mode::empty()).with_context(told)?;
        let root = self.root(stack)?;
        let source = Source::new(root.as_fd().try_clone_to_owned()?, Ignore::default(), false);
        let none = Ignore::default();
        let copier = Copier { root: to.as_fd(), owner: None, mode: None, exclude: &none, stop: &|| Ok(()) };
        copier.copy(&source, b"", b"", &Target { path: Vec::new(), directory: true }).with_context(told)
    }
}

/// Writes to the standard output, or to a file that comes to its name when it is whole.
fn to_stream(to: &Destination, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    match to {
        Destination::Stdout => {
            let mut out = std::io::BufWriter::with_capacity(256 << 10, std::io::stdout().lock());
            write(&mut out)?;
            out.flush().context("writing to the standard output")
        }
        Destination::File(path) => {
            let told = || format!("--output {}", path.display());
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}", std::process::id()));
            let part = PathBuf::from(name);
            let mut file = File::create(&part).with_context(told)?;
            let result = write(&mut file).and_then(|()| Ok(std::fs::rename(&part, path)?)).with_context(told);
            if result.is_err() {
                let _ = std::fs::remove_file(&part);
            }
            result
        }
    }
}
