//! Making a service's container: what it asks for is read first, all of it, and registered later.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::complete::at;
use super::found::Found;
use super::model::Project;
use super::{contents, flags, plan};
use crate::cli::flags::Flags;
use crate::container::record::{self, Container, Given, New, Settings};
use crate::container::state::State;
use crate::container::{lifecycle, remove, spec};
use crate::image::config::Execution;
use crate::store::Image;
use crate::tool::Tool;
use crate::volume;

/// What a service's containers are made of, read and found to be possible.
pub struct Asked {
    /// The service.
    pub name: String,
    /// Its image.
    pub image: Image,
    /// What that is called.
    pub image_name: String,
    /// The fingerprint of all that the containers are made of, but for the image.
    pub hash: String,
    flags: Flags,
    execution: Execution,
    files: Vec<Given>,
    runtime: std::path::PathBuf,
    interactive: bool,
}

/// The images of services.
pub type Images = BTreeMap<String, Image>;

/// Reads a service. `command` stands in the place of its own if it is not empty, `edit` changes what it says, as the
/// flags of `run` do.
pub fn read(
    tool: &Tool,
    project: &Project,
    name: &str,
    images: &Images,
    command: &[String],
    edit: &dyn Fn(&mut Flags),
) -> Result<Asked> {
    let service = project.parts.services.get(name).with_context(|| format!("no such service: {name}"))?;
    let told = || format!("{}: services.{name}", project.place(&["services", name]));
    let image = images.get(name).with_context(|| format!("{}: it has no image", told()))?.clone();
    let (_, config) = tool.store()?.read(&image)?;
    let execution =
        flags::execution(&config.config, service).with_context(|| at(&project.tree, name, "healthcheck"))?;
    let mut wanted = flags::flags(project, name, service).with_context(told)?;
    edit(&mut wanted);
    let wanted =
        spec::check(&execution, &wanted, tool.plain_user).map_err(|error| where_it_stands(project, name, error))?;
    spec::arguments(&execution, wanted.entrypoint.as_deref(), command).with_context(told)?;
    crate::network::wanted::wanted(&wanted).map_err(|error| where_it_stands(project, name, error))?;
    let files = contents::given(project, service).with_context(told)?;
    let runtime = match &service.runtime {
        Some(program) => Tool::runtime_named(program).with_context(|| at(&project.tree, name, "runtime"))?,
        None => tool.runtime.clone(),
    };
    Ok(Asked {
        name: name.to_owned(),
        image_name: service.image.clone().unwrap_or_else(|| built_name(project, name)),
        hash: plan::hash(project, name, &contents::fingerprints(&files)),
        image,
        flags: wanted,
        execution,
        files,
        runtime,
        interactive: service.stdin_open,
    })
}

/// What the image of a service is called that is built and has no name.
pub fn built_name(project: &Project, name: &str) -> String {
    format!("{}-{name}", project.name)
}

/// An error of a flag, with the field that the flag was made of and its place.
fn where_it_stands(project: &Project, name: &str, error: anyhow::Error) -> anyhow::Error {
    const FIELDS: [(&str, &str); 31] = [
        ("--add-host", "extra_hosts"),
        ("--annotation", "annotations"),
        ("--blkio", "blkio_config"),
        ("--cap-add", "cap_add"),
        ("--cap-drop", "cap_drop"),
        ("--cgroup-parent", "cgroup_parent"),
        ("--cpuset", "cpuset"),
        ("--cpus", "cpus"),
        ("--cpu-", "cpu_shares"),
        ("--device-cgroup-rule", "device_cgroup_rules"),
        ("--device", "devices"),
        ("--dns", "dns"),
        ("--env", "environment"),
        ("--expose", "expose"),
        ("--hostname", "hostname"),
        ("--ipc", "ipc"),
        ("--label", "labels"),
        ("--log-", "logging"),
        ("--mac-address", "mac_address"),
        ("--memory", "mem_limit"),
        ("--network", "networks"),
        ("--pids-limit", "pids_limit"),
        ("--publish", "ports"),
        ("--restart", "restart"),
        ("--security-opt", "security_opt"),
        ("--shm-size", "shm_size"),
        ("--stop-", "stop_signal"),
        ("--sysctl", "sysctls"),
        ("--ulimit", "ulimits"),
        ("--user", "user"),
        ("--workdir", "working_dir"),
    ];
    let text = format!("{error:#}");
    match FIELDS.iter().find(|it| text.contains(it.0)) {
        Some((_, field)) => error.context(at(&project.tree, name, field)),
        None => error.context(format!("{}: services.{name}", project.place(&["services", name]))),
    }
}

/// What is special about one container.
pub struct One<'a> {
    /// Its name.
    pub container_name: &'a str,
    /// Its number.
    pub number: u32,
    /// One of `run`'s.
    pub by_run: bool,
    /// It goes when it has ended.
    pub remove: bool,
    /// Whose place it takes.
    pub replaces: Option<&'a Found>,
    /// Anonymous volumes are made anew, though there was a container before.
    pub renew_volumes: bool,
    /// Whether its input ends with ours.
    pub attached: bool,
    /// Words in the place of the service's command.
    pub command: &'a [String],
}

/// Registers a container; one that it replaces has ended.
pub fn make(tool: &Tool, project: &Project, asked: &Asked, one: &One<'_>) -> Result<(Container, std::fs::File)> {
    let store = tool.store()?;
    let volumes = asked.execution.volumes.iter().flatten().map(|it| it.0.as_str());
    let mut mounts = volume::resolve(&asked.flags, volumes, &mut |name| Ok(record::find(store, name)?.settings.mounts))
        .map_err(|error| error.context(at(&project.tree, &asked.name, "volumes")))?;
    if let Some(old) = one.replaces.filter(|_| !one.renew_volumes) {
        keep_volumes(&mut mounts, &old.container.settings.mounts);
    }
    let mut flags = asked.flags.clone();
    let id = asked.image.id.as_str();
    flags.label.extend(flags::own_labels(project, &asked.name, one.number, one.by_run, &asked.hash, id));
    let settings = Settings {
        flags,
        command: one.command.to_vec(),
        mounts,
        image: asked.execution.clone(),
        runtime: Some(asked.runtime.clone()),
        driver: Some(tool.driver),
        interactive: asked.interactive || one.attached,
        input_once: one.attached,
    };
    let old = one.replaces.map(|it| &it.container);
    let old_lock = old.map(|it| remove::to_replace(tool, it)).transpose()?;
    let new = New {
        image: &asked.image,
        image_name: &asked.image_name,
        name: Some(one.container_name),
        remove: one.remove,
        settings,
        files: &asked.files,
        replaces: old,
    };
    let (container, lock) = record::register(tool, new)?;
    if let Some(old) = old {
        drop(old_lock);
        remove::replaced(tool, old)?;
    }
    lifecycle::event(tool, &container, "create", &[]);
    if one.remove && !one.attached {
        // Tells it from one whose command was killed before it could start it.
        State::default().write(&container.dir(tool)?, false)?;
    }
    Ok((container, lock))
}

/// Volumes without a name go over from the container before to the one that takes its place.
fn keep_volumes(mounts: &mut [volume::Mount], before: &[volume::Mount]) {
    for mount in mounts {
        let volume::Source::Volume { name, anonymous: true, .. } = &mut mount.source else { continue };
        let there = before.iter().find(|it| it.destination == mount.destination);
        if let Some(volume::Source::Volume { name: old, anonymous: true, .. }) = there.map(|it| &it.source) {
            name.clone_from(old);
        }
    }
}
