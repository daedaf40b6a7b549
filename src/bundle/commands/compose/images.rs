//! `compose build` and `compose pull`, and the images that other commands need.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use super::project;
use crate::cli::compose::{Building, Making, Pull, Which as Flags};
use crate::cli::{PullWhen, RegistryFlags};
use crate::compose::create::{Images, built_name};
use crate::compose::model::{Project, Service};
use crate::compose::{build, plan};
use crate::image::Reference;
use crate::output::progress::Progress;
use crate::store::Image;
use crate::tool::Tool;
use crate::transfer::{self, Limit};

/// How the images of services are come by.
pub struct How {
    /// Build those that can be.
    pub build: bool,
    /// Build none.
    pub no_build: bool,
    /// When to fetch, whatever the services say.
    pub pull: Option<PullWhen>,
    /// Say nothing of it.
    pub quiet: bool,
}

impl How {
    /// What `up` and `create` say.
    pub fn of(args: &Making) -> Self {
        Self { build: args.build, no_build: args.no_build, pull: args.pull, quiet: args.quiet_pull }
    }
}

/// The images of services: those that are here, fetched or built.
pub fn ensure(tool: &Tool, project: &Project, services: &BTreeSet<String>, how: &How) -> Result<Images> {
    let mut images = Images::new();
    let mut fetched: BTreeMap<String, Image> = BTreeMap::new();
    for name in plan::build_order(&project.parts.services, services) {
        let service = &project.parts.services[name];
        let told = || format!("{}: services.{name}", project.place(&["services", name]));
        let image_name = service.image.clone().unwrap_or_else(|| built_name(project, name));
        if let Some(image) = fetched.get(&image_name) {
            images.insert(name.clone(), image.clone());
            continue;
        }
        let image = one(tool, project, name, service, &image_name, how).with_context(told)?;
        fetched.insert(image_name, image.clone());
        images.insert(name.clone(), image);
    }
    Ok(images)
}

fn one(tool: &Tool, project: &Project, name: &str, service: &Service, image_name: &str, how: &How) -> Result<Image> {
    let when = how.pull.unwrap_or(match service.pull_policy.as_deref() {
        Some("always") => PullWhen::Always,
        Some("never") => PullWhen::Never,
        _ => PullWhen::Missing,
    });
    let builds = service.build.is_some() && !how.no_build;
    if builds && (how.build || service.pull_policy.as_deref() == Some("build")) {
        return build::image(tool, project, name, &build::Flags { quiet: how.quiet, ..build::Flags::default() });
    }
    if when != PullWhen::Always || service.build.is_some() {
        if super::super::is_demo(image_name) {
            return super::super::find(tool, image_name);
        }
        if let Some(image) = tool.store()?.look_up(image_name)? {
            return Ok(image);
        }
    }
    if builds {
        return build::image(tool, project, name, &build::Flags { quiet: how.quiet, ..build::Flags::default() });
    }
    if when == PullWhen::Never || service.build.is_some() {
        return tool.store()?.find(image_name);
    }
    fetch(tool, service, image_name, how.quiet)
}

fn fetch(tool: &Tool, service: &Service, name: &str, quiet: bool) -> Result<Image> {
    let platform = super::super::platform(service.platform.as_deref())?;
    let client = super::super::client(&RegistryFlags::default())?;
    let progress = Progress::new(quiet);
    progress.line(&format!("Pulling {name}"));
    let reference: Reference = name.parse()?;
    transfer::pull(tool, &client, &reference, &platform, Limit(None), &progress)
        .with_context(|| format!("no image {name}"))
}

/// `compose build`.
pub fn build(tool: &Tool, flags: &Flags, args: &Building) -> Result<()> {
    let project = project(flags)?;
    let mut names = plan::chosen(&project, &args.services, true)?;
    for name in &args.services {
        if project.parts.services[name].build.is_none() {
            bail!("{}: services.{name}: it has no build", project.place(&["services", name]));
        }
    }
    names.retain(|it| project.parts.services[it].build.is_some());
    let how =
        build::Flags { no_cache: args.no_cache, pull: args.pull, args: args.build_arg.clone(), quiet: args.quiet };
    for name in plan::build_order(&project.parts.services, &names) {
        let told = || format!("{}: services.{name}.build", project.place(&["services", name, "build"]));
        build::image(tool, &project, name, &how).with_context(told)?;
    }
    Ok(())
}

/// `compose pull`.
pub fn pull(tool: &Tool, flags: &Flags, args: &Pull) -> Result<()> {
    let project = project(flags)?;
    let names = plan::chosen(&project, &args.services, !args.include_deps)?;
    let mut done = BTreeSet::new();
    let mut failed = None;
    for name in names {
        let service = &project.parts.services[&name];
        let Some(image) = &service.image else { continue };
        if (service.build.is_some() && args.ignore_buildable) || !done.insert(image.clone()) {
            continue;
        }
        if args.policy != PullWhen::Always && tool.store()?.look_up(image)?.is_some() {
            continue;
        }
        let told = || format!("{}: services.{name}.image", project.place(&["services", &name, "image"]));
        if let Err(error) = fetch(tool, service, image, args.quiet).with_context(told) {
            // The others are fetched all the same.
            if let Some(before) = failed.replace(error) {
                crate::complain(&before);
            }
        }
    }
    match failed {
        Some(error) if args.ignore_pull_failures => {
            crate::complain(&error);
            Ok(())
        }
        Some(error) => Err(error),
        None => Ok(()),
    }
}
