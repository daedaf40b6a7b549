//! What is named has to be there: networks, volumes, secrets, other services. And values that only make sense together.
//! Pure: nothing of the machine is looked at.

use anyhow::{Result, bail};

use super::complete::at;
use super::model::{Condition, Content, FileUse, Project, Service};
use super::plan;

/// Looks at the whole project.
pub fn check(project: &Project) -> Result<()> {
    let parts = &project.parts;
    for (name, service) in &parts.services {
        let told = |field: &str| at(&project.tree, name, field);
        for network in service.networks.keys() {
            if !parts.networks.contains_key(network) {
                bail!("{}: there is no network {network:?} in the project", told("networks"));
            }
        }
        for mount in &service.volumes {
            mount_is_whole(mount, &told("volumes"))?;
            let named = mount.kind == "volume" && mount.source.is_some();
            if let (true, Some(source)) = (named, &mount.source)
                && !parts.volumes.contains_key(source)
            {
                bail!("{}: there is no volume {source:?} in the project: name it under volumes", told("volumes"));
            }
        }
        files(&service.secrets, "secret", &parts.secrets, &told("secrets"))?;
        files(&service.configs, "config", &parts.configs, &told("configs"))?;
        others(project, name, service)?;
        scale(service, &told)?;
        for port in &service.ports {
            if port.target == 0 {
                bail!("{}: target is missing: the container's port", told("ports"));
            }
            match port.mode.as_deref() {
                None | Some("ingress" | "host") => {}
                Some(other) => bail!("{}: mode {other:?}: ingress and host are known", told("ports")),
            }
        }
        match service.pull_policy.as_deref() {
            None | Some("always" | "never" | "missing" | "if_not_present" | "build") => {}
            Some(other) => bail!(
                "{}: {other:?}: always, never, missing and build are known: when else an image was fetched is not kept here",
                told("pull_policy")
            ),
        }
        if let (true, None) = (service.pull_policy.as_deref() == Some("build"), &service.build) {
            bail!("{}: build: the service has none", told("pull_policy"));
        }
    }
    for (name, network) in &parts.networks {
        let told = || format!("{}: networks.{name}", project.place(&["networks", name]));
        if network.external
            && (network.driver.is_some() || !network.labels.is_empty() || !network.ipam.config.is_empty())
        {
            bail!("{}: what is external is somebody else's: only its name can be given", told());
        }
        match network.ipam.driver.as_deref() {
            None | Some("default") => {}
            Some(other) => bail!("{}.ipam.driver: {other:?}: only default is there", told()),
        }
    }
    for (name, volume) in &parts.volumes {
        let told = || format!("{}: volumes.{name}", project.place(&["volumes", name]));
        if volume.external && (volume.driver.is_some() || !volume.labels.is_empty() || !volume.driver_opts.is_empty()) {
            bail!("{}: what is external is somebody else's: only its name can be given", told());
        }
        match volume.driver.as_deref() {
            None | Some("local") => {}
            Some(other) => bail!("{}.driver: {other:?}: only local is there", told()),
        }
    }
    for (kind, section) in [("secrets", &parts.secrets), ("configs", &parts.configs)] {
        for (name, it) in section {
            if [it.text.is_some(), it.environment.is_some(), it.file.is_some()].iter().filter(|it| **it).count() != 1 {
                let place = project.place(&[kind, name]);
                bail!("{place}: {kind}.{name}: one of file, environment and content says what is in it");
            }
        }
    }
    plan::order(&parts.services).map_err(|(name, error)| error.context(at(&project.tree, &name, "depends_on")))?;
    Ok(())
}

fn mount_is_whole(mount: &super::model::Mount, told: &str) -> Result<()> {
    if mount.target.is_empty() {
        bail!("{told}: target is missing");
    }
    match (mount.kind.as_str(), mount.source.as_deref()) {
        ("bind", None) => bail!("{told}: {}: source is missing, which type bind needs", mount.target),
        ("tmpfs", Some(_)) => bail!("{told}: {}: a tmpfs has no source", mount.target),
        ("bind" | "volume" | "tmpfs", _) => Ok(()),
        ("", _) => bail!("{told}: {}: type is missing: bind, volume or tmpfs", mount.target),
        (other, _) => bail!("{told}: {}: type {other:?}: bind, volume and tmpfs are known", mount.target),
    }
}

fn files(list: &[FileUse], kind: &str, there: &std::collections::BTreeMap<String, Content>, told: &str) -> Result<()> {
    for it in list {
        if it.source.is_empty() {
            bail!("{told}: source is missing: which {kind}");
        }
        if !there.contains_key(&it.source) {
            bail!("{told}: there is no {kind} {:?} in the project: name it under {kind}s", it.source);
        }
        for (field, value) in [("uid", &it.uid), ("gid", &it.gid)] {
            if let Some(value) = value
                && value.parse::<u32>().is_err()
            {
                bail!("{told}: {field} {value:?}: a number is wanted");
            }
        }
    }
    Ok(())
}

/// The other services that a service speaks of.
fn others(project: &Project, name: &str, service: &Service) -> Result<()> {
    let services = &project.parts.services;
    let told = |field: &str| at(&project.tree, name, field);
    let there = |field: &str, other: &str| {
        if other == name {
            bail!("{}: it is the service itself", told(field));
        }
        if !services.contains_key(other) {
            bail!("{}: there is no service {other:?} in the project", told(field));
        }
        Ok(())
    };
    for (other, how) in &service.depends_on {
        if how.required != Some(false) || services.contains_key(other) {
            there("depends_on", other)?;
        }
        if how.condition == Condition::Healthy
            && services.get(other).and_then(|it| it.healthcheck.as_ref()).is_some_and(|it| it.disable)
        {
            bail!("{}: {other} has no health check, so it will never be healthy", told("depends_on"));
        }
    }
    for link in &service.links {
        there("links", link.split(':').next().unwrap_or_default())?;
    }
    for text in &service.volumes_from {
        if !text.starts_with("container:") {
            there("volumes_from", text.split(':').next().unwrap_or_default())?;
        }
    }
    for (field, mode) in [("network_mode", &service.network_mode), ("ipc", &service.ipc), ("pid", &service.pid)] {
        if let Some(other) = mode.as_deref().and_then(|it| it.strip_prefix("service:")) {
            there(field, other)?;
        }
    }
    Ok(())
}

fn scale(service: &Service, told: &impl Fn(&str) -> String) -> Result<()> {
    match service.deploy.mode.as_deref() {
        None | Some("replicated" | "global" | "replicated-job" | "global-job") => {}
        Some(other) => bail!("{}: mode {other:?}: replicated is known", told("deploy")),
    }
    if let (Some(scale), Some(replicas)) = (service.scale, service.deploy.replicas)
        && scale != replicas
    {
        bail!("{}: {scale}, but deploy.replicas says {replicas}: one of them", told("scale"));
    }
    if service.container_name.is_some() && service.scale() > 1 {
        bail!("{}: several containers cannot have one name", told("container_name"));
    }
    Ok(())
}
