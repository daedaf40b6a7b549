//! `bundle build`: from a Dockerfile and a context to an image.
//!
//! ```text
//! text ─► dockerfile (typed) ─► plan (stages, what is needed) ─► execute: a thread a stage ─► export
//!             pure                   pure                          │
//!                    plan::state: an instruction ─► configuration, and an action
//!                                                                  │
//!                       key (content) ─► cache? ── no ─► overlay ─► step ─► layers: hash, then compress beside
//! ```

pub mod cache;
pub mod cancel;
mod context;
mod copying;
pub mod dockerfile;
mod execute;
pub mod expand;
mod export;
pub mod ignore;
mod images;
mod inline;
mod layers;
pub mod pattern;
mod place;
pub mod plan;
mod progress;
pub mod request;
mod source;
mod stage;
mod step;

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail};

use crate::cli::build::Build as Flags;
use crate::image::Digest;
use crate::registry::Client;
use crate::store::now;
use crate::tool::Tool;
use crate::transfer::Limit;
use cancel::Cancel;
use execute::{Build, Slot};
use images::Images;
use inline::Imported;
use layers::Layers;
use place::Place;
use plan::args::Args;
use progress::Progress;
use request::{CacheSource, Named, Request};

/// What a build has come to.
pub struct Done {
    /// The image's id, where one is in the store now.
    pub id: Option<Digest>,
    /// Its manifest's digest.
    pub digest: Option<Digest>,
}

/// Builds, and puts the result where it is wanted. `client`: the registries of base images.
pub fn build(
    tool: &Tool,
    flags: &Flags,
    request: &Request,
    client: &Client,
    limit: Limit,
    cancel: &Cancel,
) -> Result<Done> {
    // Before there are threads; what is opened from here on can be mounted there.
    crate::namespace::own_mounts()?;
    let store = tool.store()?;
    let making = store.making()?;
    let place = Place::new(store)?;
    let context = context::open(&flags.context, flags.file.as_deref(), &place)?;
    let args = Args::new(request.args.clone(), &request.platform, flags.target.as_deref());
    let file = dockerfile::parse(&context.name, &context.dockerfile)?;
    let plan = plan::plan(file, args, flags.target.as_deref())?;
    let mut contexts = BTreeMap::new();
    for (name, named) in &request.contexts {
        if let Named::Directory(path) = named {
            contexts.insert(name.clone(), context::named(path)?);
        }
    }
    let progress = Progress::new(flags.progress, flags.quiet);
    let images = Images::new(client, flags.pull, limit, progress.is_quiet());
    let imported = if flags.no_cache { Imported::default() } else { import(tool, request, &images, &progress) };
    let (layers, work) = Layers::new(store, tool.overlay(), request.epoch);
    let no_cache = no_cache(&plan, flags)?;
    let result = std::thread::scope(|scope| {
        scope.spawn(|| layers.work(work));
        let build = Build {
            request,
            plan: &plan,
            context: context.source.as_ref(),
            contexts: &contexts,
            images: &images,
            imported: &imported,
            layers: &layers,
            place: &place,
            progress: &progress,
            cancel,
            no_cache,
            slots: Slot::each(&plan),
            declared: std::sync::Mutex::default(),
        };
        let built = build.run(tool);
        let declared = build.declared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // What was made is kept for the next build also where this one has failed.
        layers.close();
        let built = built?;
        for name in plan.args.unused(&declared) {
            progress.line(&format!("warning: --build-arg {name}: no ARG in the Dockerfile names it"));
        }
        let created = request.epoch.or(built.created).unwrap_or_else(now);
        let config = built.finished(request, created)?;
        export::export(
            &export::Export { tool, store, request, layers: &layers, place: &place, progress: &progress },
            &built.stack,
            config,
        )
    });
    layers.clean(store);
    drop(place);
    drop(making);
    result
}

/// What the images of `--cache-from` tell. Without one a build takes longer, and that is all.
fn import(tool: &Tool, request: &Request, images: &Images<'_>, progress: &Progress) -> Imported {
    let mut imported = Imported::default();
    for source in &request.cache_from {
        let result = match source {
            CacheSource::Image(name) => images
                .find(tool, name, &request.platform, request.platform_given)
                .and_then(|image| imported.add(&image)),
            CacheSource::Other(_) => Err(anyhow!("caches are taken from images alone: type=registry,ref=IMAGE")),
        };
        if let Err(error) = result {
            progress.line(&format!("warning: --cache-from {source}: {error:#}"));
        }
    }
    imported
}

/// The stages of which each step is done anew.
fn no_cache(plan: &plan::Plan, flags: &Flags) -> Result<Vec<bool>> {
    let mut list = vec![flags.no_cache; plan.stages.len()];
    for name in &flags.no_cache_filter {
        let wanted = name.to_ascii_lowercase();
        let at = plan.stages.iter().position(|it| it.name.as_ref() == Some(&wanted));
        match at.or_else(|| name.parse().ok().filter(|it| *it < list.len())) {
            Some(at) => list[at] = true,
            None => bail!("--no-cache-filter {name}: {} has no such stage", plan.name),
        }
    }
    Ok(list)
}
