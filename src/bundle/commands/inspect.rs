//! `bundle inspect`.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cli::{Driver, Inspect, InspectType};
use crate::container::record::{self, Container};
use crate::container::{changes, log, settle, shown, spec};
use crate::network::{self, rows};
use crate::output;
use crate::store::{Image, Store};
use crate::tool::Tool;
use crate::volume;

pub fn run(tool: &Tool, args: &Inspect) -> Result<()> {
    if args.why {
        return why(tool, args);
    }
    let documents = args.names.iter().map(|name| any(tool, args, name)).collect::<Result<Vec<_>>>()?;
    output::documents(args.format.as_deref(), &documents)
}

/// A container, else an image, else a network, else a volume of that name.
fn any(tool: &Tool, args: &Inspect, name: &str) -> Result<Value> {
    let store = tool.store()?;
    let wanted = |it| args.r#type.is_none_or(|wanted| wanted == it);
    if wanted(InspectType::Container)
        && let Some(container) = record::look_up(store, name)?
    {
        return container_document(tool, &container, args.size);
    }
    if wanted(InspectType::Image)
        && let Ok(image) = super::find(tool, name)
    {
        return document(store, &image);
    }
    if wanted(InspectType::Network)
        && let Some(found) = rows::look_up(store.db(), name)?
    {
        return super::network::document(tool, &found);
    }
    if wanted(InspectType::Volume)
        && let Some(found) = volume::find(store.db(), name)?
    {
        return super::volume::document(store, &found);
    }
    match args.r#type {
        Some(InspectType::Container) => bail!("no such container: {name}"),
        Some(InspectType::Image) => bail!("no such image: {name}"),
        Some(InspectType::Network) => bail!("no such network: {name}"),
        Some(InspectType::Volume) => bail!("no such volume: {name}"),
        None => bail!("no such container, image, network or volume: {name}"),
    }
}

/// In words, why containers have failed.
fn why(tool: &Tool, args: &Inspect) -> Result<()> {
    for name in &args.names {
        let container = record::find(tool.store()?, name)?;
        let state =
            settle::state(tool, &container)?.with_context(|| format!("container {name} has just been removed"))?;
        output::print(&shown::why(&container, &state, &last_lines(tool, &container)?))?;
    }
    Ok(())
}

/// The last lines that it has written, as far as they are kept.
fn last_lines(tool: &Tool, container: &Container) -> Result<Vec<String>> {
    const LINES: u64 = 10;
    let options = log::Options { tail: Some(LINES), ..log::Options::default() };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    log::read(&container.dir(tool)?.join("log"), &options, &mut out, &mut err, &mut || true)?;
    out.extend(err);
    Ok(String::from_utf8_lossy(&out).lines().map(|it| it.chars().filter(|it| !it.is_control()).collect()).collect())
}

/// Docker's names of all that is known of a container.
fn container_document(tool: &Tool, container: &Container, size: bool) -> Result<Value> {
    let state = settle::state(tool, container)?
        .with_context(|| format!("container {} has just been removed", container.name))?;
    let settings = &container.settings;
    let (image, flags) = (&settings.image, &settings.flags);
    let words = spec::arguments(image, flags.entrypoint.as_deref(), &settings.command)?;
    let log = spec::log_options(flags)?;
    let restart = match spec::restart(flags)? {
        spec::Restart::No => json!({"Name": "no", "MaximumRetryCount": 0}),
        spec::Restart::OnFailure(most) => json!({"Name": "on-failure", "MaximumRetryCount": most.unwrap_or(0)}),
        spec::Restart::Always => json!({"Name": "always", "MaximumRetryCount": 0}),
        spec::Restart::UnlessStopped => json!({"Name": "unless-stopped", "MaximumRetryCount": 0}),
    };
    let dir = container.dir(tool)?;
    let mut document = json!({
        "Id": container.id,
        "Name": container.name,
        "Created": shown::time(container.created),
        "Path": words.first(),
        "Args": words.get(1..).unwrap_or_default(),
        "State": shown::state_document(&state),
        "RestartCount": state.restarts,
        "Image": container.image,
        "ImageName": container.image_name,
        "LogPath": dir.join("log"),
        "Directory": dir,
        "Driver": if container.driver(tool) == Driver::Overlay { "overlay" } else { "vfs" },
        "Runtime": container.runtime(tool).program,
        "Config": {
            "Hostname": flags.hostname.as_deref().unwrap_or(container.short()),
            "Domainname": flags.domainname.clone().unwrap_or_default(),
            "User": flags.user.as_deref().unwrap_or(&image.user),
            "Tty": flags.tty,
            "OpenStdin": settings.interactive,
            "StdinOnce": settings.input_once,
            "Env": spec::environment(image, flags, None)?,
            "Cmd": if settings.command.is_empty() { image.cmd.clone().unwrap_or_default() } else { settings.command.clone() },
            "Entrypoint": flags.entrypoint.as_ref().map_or_else(|| image.entrypoint.clone(), |it| Some(vec![it.clone()])),
            "Image": container.image_name,
            "WorkingDir": flags.workdir.as_deref().unwrap_or(&image.working_dir),
            "Labels": spec::labels(image, flags)?,
            "StopSignal": spec::stop_signal(image, flags)?,
            "StopTimeout": spec::stop_timeout(flags)?,
            "Healthcheck": spec::health(image, flags)?.map(|it| it.test),
        },
        "HostConfig": {
            "AutoRemove": container.remove,
            "RestartPolicy": restart,
            "NetworkMode": flags.network.join(","),
            "ReadonlyRootfs": flags.read_only,
            "Privileged": flags.privileged,
            "LogConfig": {"Type": if log.driver == spec::LogDriver::Files { "k8s-file" } else { "none" },
                "Config": {"max-size": log.max_size, "max-file": log.max_file}},
            "Flags": flags,
            "Resources": spec::update(flags, tool.plain_user)?,
        },
        "NetworkSettings": network::shown::document(tool, container)?,
        "Mounts": settings.mounts,
    });
    if size {
        let upper = changes::upper(tool, container)?;
        document["SizeRw"] = json!(crate::store::check::tree_size(upper.as_fd())?);
    }
    Ok(document)
}

/// Docker's names of all that is known of an image.
fn document(store: &Store, image: &Image) -> Result<Value> {
    let (manifest, config) = store.read(image)?;
    let names = store.names(image)?;
    let tags: Vec<String> = names.iter().filter(|it| it.0.tag.is_some()).map(|it| it.0.familiar()).collect();
    let mut digests: Vec<String> =
        names.iter().map(|(name, target)| format!("{}@{target}", name.familiar_name())).collect();
    digests.sort();
    digests.dedup();
    let layers = image.chain.as_ref().and_then(|top| store.layers(top).ok()).unwrap_or_default();
    let dirs: Vec<String> =
        layers.iter().map(|it| store.root().join("layers").join(&it.dir).display().to_string()).collect();
    Ok(json!({
        "Id": image.id,
        "Digest": image.digest,
        "MediaType": image.media_type,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": config.created,
        "Pulled": output::time(image.created),
        "Author": config.author.clone().unwrap_or_default(),
        "Comment": config.history.last().and_then(|it| it.comment.clone()).unwrap_or_default(),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": layers.iter().map(|it| it.size).sum::<u64>(),
        "CompressedSize": image.size,
        "Config": config.config,
        "RootFS": {"Type": config.rootfs.kind, "Layers": config.rootfs.diff_ids},
        "Layers": manifest.layers,
        "LayerDirectories": dirs,
    }))
}
