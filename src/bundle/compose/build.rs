//! How the image of a service is built: the one place where projects and builds meet. A build is a process of its own,
//! since it takes signals and mounts for itself.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::create::built_name;
use super::model::{Build, Content, Project};
use super::paths::is_remote;
use crate::cli::Driver;
use crate::store::Image;
use crate::tool::Tool;

/// What the command line says of a build.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Run every step again.
    pub no_cache: bool,
    /// Fetch what is built upon anew.
    pub pull: bool,
    /// `NAME[=VALUE]` each, over the service's own.
    pub args: Vec<String>,
    /// Nothing but errors.
    pub quiet: bool,
}

/// Builds the image of a service and gives it its name.
pub fn image(tool: &Tool, project: &Project, name: &str, flags: &Flags) -> Result<Image> {
    let service = &project.parts.services[name];
    let Some(build) = &service.build else { bail!("the service has no build") };
    let names = std::iter::once(service.image.clone().unwrap_or_else(|| built_name(project, name)));
    let names: Vec<String> = names.chain(build.tags.iter().cloned()).collect();
    let words = words(project, build, &names, service.platform.as_deref(), flags)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(tool.store()?.root()).arg("--runtime").arg(&tool.runtime);
    command.args(["--storage-driver", if tool.driver == Driver::Vfs { "vfs" } else { "overlay" }]);
    command.arg("build").args(&words).envs(&project.environment);
    // What it prints at the end is the id.
    command.stdout(Stdio::null());
    command.stdin(if build.dockerfile_inline.is_some() { Stdio::piped() } else { Stdio::null() });
    crate::sys::die_with_us(&mut command);
    let mut child = command.spawn().context("starting a bundle of our own")?;
    if let (Some(text), Some(mut input)) = (&build.dockerfile_inline, child.stdin.take()) {
        // Whoever does not want it has said why.
        let _ = input.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("building {} has failed: {status}", names[0]);
    }
    tool.store()?.find(&names[0])
}

/// The words behind `bundle build`.
fn words(
    project: &Project,
    build: &Build,
    names: &[String],
    platform: Option<&str>,
    flags: &Flags,
) -> Result<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: &str| words.push(format!("--{flag}={value}"));
    for name in names {
        add("tag", name);
    }
    match (&build.dockerfile, &build.dockerfile_inline) {
        (Some(_), Some(_)) => bail!("dockerfile and dockerfile_inline: one of them"),
        (Some(file), None) => {
            // In the context, wherever that is.
            let context = build.context.as_deref().unwrap_or(".");
            let path = std::path::Path::new(context).join(file);
            add("file", &path.to_string_lossy());
        }
        (None, Some(_)) => add("file", "-"),
        (None, None) => {}
    }
    for (key, value) in &build.args {
        match value.as_ref().or_else(|| project.environment.get(key)) {
            Some(value) => add("build-arg", &format!("{key}={value}")),
            None => add("build-arg", key),
        }
    }
    for text in &flags.args {
        add("build-arg", text);
    }
    for (key, value) in &build.labels {
        add("label", &format!("{key}={}", value.as_deref().unwrap_or_default()));
    }
    for (key, value) in &build.additional_contexts {
        let value = value.as_deref().unwrap_or_default();
        if let Some(other) = value.strip_prefix("service:") {
            let Some(of) = project.parts.services.get(other) else {
                bail!("additional_contexts.{key}: there is no service {other:?} in the project");
            };
            let image = of.image.clone().unwrap_or_else(|| built_name(project, other));
            add("build-context", &format!("{key}=docker-image://{image}"));
        } else {
            add("build-context", &format!("{key}={value}"));
        }
    }
    for it in &build.secrets {
        let id = it.target.as_deref().unwrap_or(&it.source);
        let Some(content) = project.parts.secrets.get(&it.source) else {
            bail!("secrets: there is no secret {:?} in the project", it.source);
        };
        match content {
            Content { file: Some(file), .. } => add("secret", &format!("id={id},src={file}")),
            Content { environment: Some(name), .. } => add("secret", &format!("id={id},env={name}")),
            _ => bail!("secrets: {}: a build takes secrets of files and variables", it.source),
        }
    }
    for (key, value) in &build.ssh {
        match value {
            Some(value) => add("ssh", &format!("{key}={value}")),
            None => add("ssh", key),
        }
    }
    for (name, addresses) in &build.extra_hosts {
        for address in addresses {
            add("add-host", &format!("{name}:{address}"));
        }
    }
    for (name, it) in &build.ulimits {
        let (soft, hard) = (it.soft.or(it.single), it.hard.or(it.single));
        let (Some(soft), Some(hard)) = (soft, hard) else {
            bail!("ulimits.{name}: one number, or soft and hard");
        };
        add("ulimit", &format!("{name}={soft}:{hard}"));
    }
    build.cache_from.iter().for_each(|it| add("cache-from", it));
    if !build.cache_to.is_empty() {
        bail!("cache_to: what a build keeps is in the store and nowhere else: leave it away");
    }
    let platforms: Vec<&str> = match build.platforms.as_slice() {
        [] => platform.into_iter().collect(),
        given => given.iter().map(String::as_str).collect(),
    };
    match platforms[..] {
        [] => {}
        [one] => add("platform", one),
        [..] => bail!("platforms: an image is built for one platform at a time"),
    }
    for (flag, value) in [("target", &build.target), ("network", &build.network)] {
        if let Some(value) = value {
            add(flag, value);
        }
    }
    if build.network.as_deref() == Some("host") {
        add("allow", "network.host");
    }
    if let Some(bytes) = build.shm_size {
        add("shm-size", &bytes.to_string());
    }
    let switches =
        [("no-cache", flags.no_cache || build.no_cache), ("pull", flags.pull || build.pull), ("quiet", flags.quiet)];
    words.extend(switches.iter().filter(|it| it.1).map(|it| format!("--{}", it.0)));
    let context = build.context.as_deref().unwrap_or(".");
    if is_remote(context) {
        bail!("context {context}: a context is a directory of this machine");
    }
    words.push("--".to_owned());
    words.push(context.to_owned());
    Ok(words)
}
