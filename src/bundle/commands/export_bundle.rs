//! `bundle export-bundle`.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags};

use crate::cli::ExportBundle;
use crate::cli::flags::Flags;
use crate::container::ids;
use crate::container::spec::{self, Place};
use crate::layer;
use crate::tool::Tool;
use crate::transfer;
use crate::volume;

/// What a bundle on disk has no place for: `bundle` itself does it, and another runtime knows nothing of it.
fn only_for_containers(flags: &Flags) -> Result<()> {
    let monitored = [
        ("--restart", flags.restart.as_deref().is_some_and(|it| it != "no")),
        ("--health-cmd", flags.health_cmd.is_some()),
        ("--health-interval", flags.health_interval.is_some()),
        ("--health-timeout", flags.health_timeout.is_some()),
        ("--health-retries", flags.health_retries.is_some()),
        ("--health-start-period", flags.health_start_period.is_some()),
        ("--health-start-interval", flags.health_start_interval.is_some()),
        ("--no-healthcheck", flags.no_healthcheck),
        ("--log-driver", flags.log_driver.is_some()),
        ("--log-opt", !flags.log_opt.is_empty()),
        ("--stop-timeout", flags.stop_timeout.is_some()),
        ("--cgroup-parent", flags.cgroup_parent.is_some()),
        ("--add-host", !flags.add_host.is_empty()),
        ("--dns", !flags.dns.is_empty()),
        ("--dns-search", !flags.dns_search.is_empty()),
        ("--dns-option", !flags.dns_option.is_empty()),
    ];
    if let Some((flag, _)) = monitored.iter().find(|it| it.1) {
        bail!(
            "{flag}: a bundle on disk cannot have it, only a container of bundle's own: leave it away, or bundle create"
        );
    }
    if let Some((kind, _, other)) = spec::joined(flags)?.first() {
        bail!(
            "container:{other}: a bundle on disk cannot have the {kind} namespace of a container, which is another one at each start: leave it away"
        );
    }
    Ok(())
}

/// Writes beside the place first: there is a whole bundle under the name, or none.
pub fn run(tool: &Tool, args: &ExportBundle) -> Result<()> {
    let store = tool.store()?;
    let image = super::find(tool, &args.image)?;
    let (_, config) = store.read(&image)?;
    let flags = spec::check(&config.config, &args.flags, tool.plain_user)?;
    only_for_containers(&args.flags)?;
    if ids::wanted(&flags, tool.plain_user)? != ids::Wanted::Host {
        bail!("--userns, --uidmap: the files of a bundle on disk have the host's owners");
    }
    let mounts = volume::resolve(&flags, std::iter::empty(), &mut |name| {
        bail!("{name}: a bundle on disk can have no other container's volumes")
    })?;
    let mounts = volume::portable(&mounts)?;
    spec::arguments(&config.config, args.flags.entrypoint.as_deref(), &args.command)?;
    let dir = std::path::absolute(&args.dir)?;
    let shown = dir.display();
    if dir.exists() && std::fs::read_dir(&dir).with_context(|| format!("{shown}"))?.next().is_some() {
        bail!("{shown}: the directory is not empty");
    }
    let name = dir.file_name().with_context(|| format!("{shown}: no name of a directory"))?;
    let parent = dir.parent().with_context(|| format!("{shown}: no name of a directory"))?;
    let beside = parent.join(format!(".{}.{}", name.display(), crate::store::random_name()?));
    let layers = transfer::unpacked(tool, &image)?;
    let write = || -> Result<()> {
        let rootfs = beside.join("rootfs");
        std::fs::create_dir(&beside).with_context(|| format!("making {}", beside.display()))?;
        std::fs::create_dir(&rootfs)?;
        let into: OwnedFd =
            rustix::fs::open(&rootfs, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let dirs = layers.iter().map(|it| store.open_layer(&it.dir)).collect::<Result<Vec<OwnedFd>>>()?;
        let dirs: Vec<_> = dirs.iter().map(AsFd::as_fd).collect();
        layer::flatten::flatten(&dirs, into.as_fd(), tool.overlay()).context("copying the image's layers")?;
        let hostname: String =
            name.to_string_lossy().chars().filter(|it| it.is_ascii_alphanumeric() || *it == '-').take(63).collect();
        let hostname = if hostname.is_empty() { "bundle".to_owned() } else { hostname };
        let place = Place {
            root_path: "rootfs",
            root: into.as_fd(),
            hostname: &hostname,
            cgroup: None,
            files: &[],
            mounts: &mounts,
            propagation: None,
            join: &[],
            network: None,
            shm: None,
            ids: None,
            plain_user: tool.plain_user,
        };
        let document = spec::build(&config.config, &flags, &args.command, &place)?;
        std::fs::write(beside.join("config.json"), serde_json::to_vec_pretty(&document)?)
            .context("writing config.json")?;
        // An empty directory gives way to a rename.
        std::fs::rename(&beside, &dir).with_context(|| format!("putting {shown} in its place"))
    };
    let result = write();
    if result.is_err()
        && let Ok(parent) = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        && let Some(name) = beside.file_name()
    {
        let _ = layer::remove::remove(parent.as_fd(), name.as_encoded_bytes());
    }
    result
}
