//! A service to what `container` is asked for: flags, as `bundle run` has them, and what the image's configuration is
//! overlaid with. Pure; what is wrong in the flags is found by [`crate::container::spec::check`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value as Json, json};

use super::model::{Healthcheck, Mount, NetworkUse, Pairs, Project, Service, Ulimit};
use crate::cli::flags::Flags;
use crate::container::units;
use crate::image::config::Execution;

/// Label of the project's name on all that is made for it; Docker's, so that tools find it.
pub const PROJECT: &str = "com.docker.compose.project";
/// Label of the service's name.
pub const SERVICE: &str = "com.docker.compose.service";
/// Label of the number among the service's containers, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// Label that tells `run`'s containers (`True`) from the service's.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// Label of [`super::plan::hash`].
pub const HASH: &str = "com.docker.compose.config-hash";
/// Label of the image's id.
pub const IMAGE: &str = "com.docker.compose.image";
/// Label of a network's name in the file.
pub const NETWORK: &str = "com.docker.compose.network";
/// Label of a volume's name in the file.
pub const VOLUME: &str = "com.docker.compose.volume";

/// The name of a service's container.
pub fn container_name(project: &Project, name: &str, number: u32) -> String {
    let given = project.parts.services.get(name).and_then(|it| it.container_name.clone());
    given.unwrap_or_else(|| format!("{}-{name}-{number}", project.name))
}

/// The flags of a service's containers, but for labels that tell them apart.
pub fn flags(project: &Project, name: &str, service: &Service) -> Result<Flags> {
    let text = |it: &Option<i64>| it.map(|it| it.to_string());
    let number = |it: &Option<Json>| it.as_ref().map(ToString::to_string);
    let limits = &service.deploy.resources.limits;
    let blkio = &service.blkio_config;
    let rates = |list: &[super::model::DeviceRate]| list.iter().map(|it| format!("{}:{}", it.path, it.rate)).collect();
    Ok(Flags {
        env: set(&service.environment),
        workdir: service.working_dir.clone(),
        user: service.user.clone(),
        group_add: service.group_add.clone(),
        init: service.init.unwrap_or(false),
        tty: service.tty,
        hostname: service.hostname.clone(),
        domainname: service.domainname.clone(),
        add_host: service
            .extra_hosts
            .iter()
            .flat_map(|(name, list)| list.iter().map(move |it| format!("{name}={it}")))
            .collect(),
        dns: service.dns.clone(),
        dns_search: service.dns_search.clone(),
        dns_option: service.dns_opt.clone(),
        label: labels(&service.labels),
        annotation: labels(&service.annotations),
        mount: service.volumes.iter().map(|it| mount(project, it)).chain(file_mounts(project, service)).collect(),
        tmpfs: service.tmpfs.clone(),
        volumes_from: service.volumes_from.iter().map(|it| volumes_from(project, it)).collect(),
        read_only: service.read_only,
        shm_size: text(&service.shm_size),
        cap_add: service.cap_add.clone(),
        cap_drop: service.cap_drop.clone(),
        privileged: service.privileged,
        security_opt: service.security_opt.clone(),
        memory: text(&limits.memory.or(service.mem_limit)),
        memory_swap: text(&service.memswap_limit),
        memory_reservation: text(&service.deploy.resources.reservations.memory.or(service.mem_reservation)),
        memory_swappiness: service.mem_swappiness,
        oom_kill_disable: service.oom_kill_disable,
        oom_score_adj: service.oom_score_adj,
        cpus: number(&limits.cpus).or_else(|| number(&service.cpus)).map(|it| it.trim_matches('"').to_owned()),
        cpu_shares: service.cpu_shares,
        cpu_period: service.cpu_period,
        cpu_quota: service.cpu_quota,
        cpu_rt_runtime: service.cpu_rt_runtime,
        cpu_rt_period: service.cpu_rt_period,
        cpuset_cpus: service.cpuset.clone(),
        pids_limit: limits.pids.or(service.pids_limit),
        blkio_weight: blkio.weight,
        blkio_weight_device: blkio.weight_device.iter().map(|it| format!("{}:{}", it.path, it.weight)).collect(),
        device_read_bps: rates(&blkio.device_read_bps),
        device_write_bps: rates(&blkio.device_write_bps),
        device_read_iops: rates(&blkio.device_read_iops),
        device_write_iops: rates(&blkio.device_write_iops),
        ulimit: service.ulimits.iter().map(|(name, it)| ulimit(name, it)).collect::<Result<_>>()?,
        sysctl: service
            .sysctls
            .iter()
            .map(|(key, it)| format!("{key}={}", it.as_deref().unwrap_or_default()))
            .collect(),
        device: service
            .devices
            .iter()
            .map(|it| {
                let target = it.target.as_deref().unwrap_or(&it.source);
                format!("{}:{target}:{}", it.source, it.permissions.as_deref().unwrap_or("rwm"))
            })
            .collect(),
        device_cgroup_rule: service.device_cgroup_rules.clone(),
        cgroup_parent: service.cgroup_parent.clone(),
        network: networks(project, name, service),
        mac_address: service.mac_address.clone(),
        link: links(project, service),
        publish: publish(service),
        expose: service.expose.clone(),
        pid: service.pid.as_deref().map(|it| of_service(project, it)),
        ipc: service.ipc.as_deref().map(|it| of_service(project, it)),
        uts: service.uts.clone(),
        cgroupns: service.cgroup.clone(),
        userns: service.userns_mode.clone(),
        stop_signal: service.stop_signal.clone(),
        stop_timeout: service.stop_grace_period.as_deref().map(seconds).transpose()?,
        restart: restart(service)?,
        log_driver: service.logging.driver.clone().filter(|it| !matches!(it.as_str(), "json-file" | "local")),
        log_opt: service.logging.options.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        ..Flags::default()
    })
}

fn set(pairs: &Pairs) -> Vec<String> {
    pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?))).collect()
}

fn labels(pairs: &Pairs) -> Vec<String> {
    pairs.iter().map(|(key, value)| format!("{key}={}", value.as_deref().unwrap_or_default())).collect()
}

/// Whole seconds of a time, at least as long.
fn seconds(text: &str) -> Result<i64> {
    let time = units::duration(text)?;
    i64::try_from(time.as_nanos().div_ceil(1_000_000_000))
        .ok()
        .with_context(|| format!("stop_grace_period {text}: too long"))
}

fn ulimit(name: &str, it: &Ulimit) -> Result<String> {
    match (it.single, it.soft, it.hard) {
        (Some(both), None, None) => Ok(format!("{name}={both}")),
        (None, Some(soft), Some(hard)) => Ok(format!("{name}={soft}:{hard}")),
        _ => bail!("ulimits.{name}: one number, or soft and hard"),
    }
}

fn restart(service: &Service) -> Result<Option<String>> {
    let policy = match &service.deploy.restart_policy {
        None => None,
        Some(it) => Some(match (it.condition.as_deref(), it.max_attempts) {
            (Some("none"), _) => "no".to_owned(),
            (Some("on-failure"), None) => "on-failure".to_owned(),
            (Some("on-failure"), Some(most)) => format!("on-failure:{most}"),
            (None | Some("any"), _) => "always".to_owned(),
            (Some(other), _) => bail!("deploy.restart_policy.condition {other:?}: none, on-failure and any are known"),
        }),
    };
    Ok(service.restart.clone().or(policy))
}

/// `service:NAME` to its first container.
fn of_service(project: &Project, mode: &str) -> String {
    mode.strip_prefix("service:")
        .map_or_else(|| mode.to_owned(), |name| format!("container:{}", container_name(project, name, 1)))
}

fn volumes_from(project: &Project, text: &str) -> String {
    if let Some(name) = text.strip_prefix("container:") {
        return name.to_owned();
    }
    let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
    format!("{}:{mode}", container_name(project, name, 1))
}

fn links(project: &Project, service: &Service) -> Vec<String> {
    let own = service.links.iter().map(|it| {
        let (name, alias) = it.split_once(':').unwrap_or((it, it));
        format!("{}:{alias}", container_name(project, name, 1))
    });
    own.chain(service.external_links.iter().cloned()).collect()
}

/// Highest priority first: `eth0` and the way out are the first one's.
fn networks(project: &Project, name: &str, service: &Service) -> Vec<String> {
    if let Some(mode) = &service.network_mode {
        return vec![of_service(project, mode)];
    }
    let mut list: Vec<(&String, &NetworkUse)> = service.networks.iter().collect();
    list.sort_by_key(|it| (-it.1.gw_priority, -it.1.priority));
    let one = |(key, it): (&String, &NetworkUse)| {
        let network = project.parts.networks.get(key).map_or(key, |it| &it.name);
        let mut text = format!("name={network},alias={name}");
        text.extend(it.aliases.iter().map(|it| format!(",alias={it}")));
        for (word, value) in [("ip", &it.ipv4_address), ("ip6", &it.ipv6_address), ("mac-address", &it.mac_address)] {
            text.extend(value.iter().map(|it| format!(",{word}={it}")));
        }
        text
    };
    list.into_iter().map(one).collect()
}

fn publish(service: &Service) -> Vec<String> {
    let one = |it: &super::model::Port| {
        let address = it.host_ip.as_deref().unwrap_or_default();
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let published = it.published.as_deref().unwrap_or_default();
        let front = match (address.is_empty(), published.is_empty() || published == "0") {
            (true, true) => String::new(),
            (true, false) => format!("{published}:"),
            (false, true) => format!("{address}::"),
            (false, false) => format!("{address}:{published}:"),
        };
        format!("{front}{}/{}", it.target, it.protocol.as_deref().unwrap_or("tcp"))
    };
    service.ports.iter().map(one).collect()
}

/// A field of `--mount`, in quotes where it needs them.
fn field(key: &str, value: &str) -> String {
    let text = format!("{key}={value}");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn mount(project: &Project, it: &Mount) -> String {
    let mut fields = vec![field("type", &it.kind), field("destination", &it.target)];
    if let Some(source) = &it.source {
        let named = project.parts.volumes.get(source).filter(|_| it.kind == "volume");
        fields.push(field("source", named.map_or(source, |it| &it.name)));
    }
    if it.read_only {
        fields.push("readonly".to_owned());
    }
    fields.extend(it.bind.propagation.iter().map(|it| field("bind-propagation", it)));
    fields.extend(it.bind.recursive.iter().map(|it| field("bind-recursive", it)));
    if it.volume.nocopy {
        fields.push("volume-nocopy".to_owned());
    }
    fields.extend(it.volume.subpath.iter().map(|it| field("volume-subpath", it)));
    fields.extend(labels(&it.volume.labels).iter().map(|it| field("volume-label", it)));
    fields.extend(it.tmpfs.size.iter().map(|it| format!("tmpfs-size={it}")));
    fields.extend(it.tmpfs.mode.iter().map(|it| format!("tmpfs-mode={it:o}")));
    fields.join(",")
}

/// Secrets and configs that lie in a file of the host, and are asked for as they are, are mounted from there.
fn file_mounts<'a>(project: &'a Project, service: &'a Service) -> impl Iterator<Item = String> + 'a {
    super::contents::uses(project, service).filter_map(|it| {
        let file = it.content.file.as_ref().filter(|_| !it.is_copied())?;
        Some(format!("type=bind,readonly,{},{}", field("source", file), field("destination", &it.target())))
    })
}

/// The image's configuration with what a service says in its place.
pub fn execution(image: &Execution, service: &Service) -> Result<Execution> {
    let mut image = image.clone();
    if let Some(words) = &service.entrypoint {
        // Another entrypoint goes without the image's command, which was meant for its own.
        image.entrypoint = Some(words.clone()).filter(|it| !it.is_empty());
        image.cmd = None;
    }
    if let Some(words) = &service.command {
        image.cmd = Some(words.clone());
    }
    if let Some(check) = &service.healthcheck {
        let there = image.rest.get("Healthcheck").and_then(Json::as_object).cloned().unwrap_or_default();
        image.rest.insert("Healthcheck".into(), healthcheck(there, check)?);
    }
    Ok(image)
}

fn healthcheck(mut it: Map<String, Json>, check: &Healthcheck) -> Result<Json> {
    if check.disable {
        return Ok(json!({"Test": ["NONE"]}));
    }
    if let Some(test) = &check.test {
        it.insert("Test".into(), json!(test));
    }
    for (key, value) in [
        ("Interval", &check.interval),
        ("Timeout", &check.timeout),
        ("StartPeriod", &check.start_period),
        ("StartInterval", &check.start_interval),
    ] {
        if let Some(text) = value {
            let time = i64::try_from(units::duration(text)?.as_nanos()).ok();
            it.insert(key.into(), time.with_context(|| format!("{text}: too long"))?.into());
        }
    }
    if let Some(retries) = check.retries {
        it.insert("Retries".into(), retries.into());
    }
    if it.get("Test").is_none() {
        bail!("test is missing, and the image has no check either");
    }
    Ok(it.into())
}

/// The labels of one container.
pub fn own_labels(project: &Project, name: &str, number: u32, one_off: bool, hash: &str, image: &str) -> Vec<String> {
    let waits: Vec<String> = project
        .parts
        .services
        .get(name)
        .iter()
        .flat_map(|it| &it.depends_on)
        .map(|(other, how)| {
            let condition = match how.condition {
                super::model::Condition::Started => "service_started",
                super::model::Condition::Healthy => "service_healthy",
                super::model::Condition::Completed => "service_completed_successfully",
            };
            format!("{other}:{condition}:{}", how.restart)
        })
        .collect();
    let one_off = if one_off { "True" } else { "False" };
    let directory = project.directory.to_string_lossy();
    let files = project.files.join(",");
    let number = number.to_string();
    let waits = waits.join(",");
    let all = BTreeMap::from([
        (PROJECT, project.name.as_str()),
        (SERVICE, name),
        (NUMBER, &number),
        (ONE_OFF, one_off),
        (HASH, hash),
        (IMAGE, image),
        ("com.docker.compose.depends_on", &waits),
        ("com.docker.compose.project.working_dir", &directory),
        ("com.docker.compose.project.config_files", &files),
        ("com.docker.compose.version", env!("CARGO_PKG_VERSION")),
    ]);
    all.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}
