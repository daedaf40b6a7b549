//! `checkpoint`

use std::path::Path;

use anyhow::{Result, bail};

use super::prepare;
use crate::cli;
use crate::config::problem::Problems;
use crate::config::types::Str;
use crate::criu::rpc::{CgroupMode, PageServer};
use crate::launch::checkpoint::{Dump, dump};
use crate::launch::destroy;
use crate::launch::images::Images;
use crate::plan::{Request, plan};
use crate::state::Status;
use crate::state::store::{self, Entry};
use crate::sys;
use crate::sys::signals::Signals;

pub(super) fn checkpoint(root: &Path, args: &cli::Checkpoint, criu: Option<&Path>) -> Result<()> {
    let entry = Entry::try_open(root, &args.id)?;
    let Some(text) = entry.read()? else { bail!("container not running: \"{}\" is still being created", args.id) };
    let state = store::parse(&text, &args.id)?;
    match entry.status(&state) {
        Status::Running | Status::Paused => {}
        status => bail!("container not running: cannot checkpoint a container that is {}", status.word()),
    }
    let dump_options = Dump {
        leave_running: args.leave_running,
        memory_alone: args.pre_dump,
        parent: args.parent_path.as_deref().map(|path| parent(&args.images, path)).transpose()?,
        page_server: args.page_server.as_deref().map(page_server).transpose()?,
        link_remap: args.link_remap,
        tcp_skip_in_flight: args.tcp_skip_in_flight,
        status_fd: args.status_fd,
    };
    if let Some(fd) = args.status_fd
        && (fd < 0 || !sys::is_open(fd))
    {
        bail!("--status-fd {fd}: it is not open");
    }
    let annotation = state.annotations.get(&Str::from("org.criu.config")).map(|path| &**path);
    let images = images(&args.images, criu, annotation)?;

    // The document tells which mounts and namespaces are the host's.
    let (text, bundle) = prepare::read(Path::new(&*state.bundle))?;
    let spec = prepare::good_document(&text)?;
    let manager = match (&state.unit, &*state.cgroups) {
        (Some(_), _) => cli::CgroupManager::Systemd,
        (None, []) => cli::CgroupManager::Disabled,
        _ => cli::CgroupManager::Cgroupfs,
    };
    let (host, _manager) = prepare::host(&spec, manager)?;
    let request = Request { id: args.id.clone(), bundle, ..Request::default() };
    let plan = plan(&spec, &request, &host, &mut Problems::default());

    // While a container is half written, nothing may end this process.
    let _signals = Signals::ending()?;
    dump(&plan, &state, &images, &dump_options)?;
    if args.leave_running || args.pre_dump {
        return Ok(());
    }
    // As with runc, what is in the images is no container any more.
    destroy::kill(&state)?;
    destroy::remove(entry, &state)
}

/// What `checkpoint` and `restore` have in common.
pub(super) fn images(args: &cli::Images, criu: Option<&Path>, annotation: Option<&str>) -> Result<Images> {
    let empty_ns = args.empty_ns.iter().try_fold(0, |flags, name| match &**name {
        "network" | "net" => Ok(flags | libc::CLONE_NEWNET as u32),
        _ => bail!("--empty-ns {name}: CRIU can leave only a network namespace empty"),
    })?;
    Ok(Images {
        criu: Images::find(criu)?,
        directory: args.image_path.clone(),
        work: args.work_path.clone(),
        config_file: Images::config_file(annotation),
        tcp_established: args.tcp_established,
        ext_unix_sk: args.ext_unix_sk,
        shell_job: args.shell_job,
        file_locks: args.file_locks,
        cgroup_mode: args.manage_cgroups_mode.map(|mode| match mode {
            cli::CgroupMode::Soft => CgroupMode::Soft,
            cli::CgroupMode::Full => CgroupMode::Full,
            cli::CgroupMode::Strict => CgroupMode::Strict,
            cli::CgroupMode::Ignore => CgroupMode::Ignore,
        }),
        empty_ns,
        auto_dedup: args.auto_dedup,
        lazy_pages: args.lazy_pages,
    })
}

/// CRIU takes it relative to the images alone.
fn parent(images: &cli::Images, path: &Path) -> Result<String> {
    if path.is_absolute() {
        bail!("--parent-path {}: must be relative to --image-path", path.display());
    }
    if !images.image_path.join(path).is_dir() {
        bail!("--parent-path {}: no directory of that name, seen from --image-path", path.display());
    }
    Ok(path.to_string_lossy().into_owned())
}

fn page_server(text: &str) -> Result<PageServer> {
    let parts = text.rsplit_once(':').and_then(|(address, port)| Some((address, port.parse::<u16>().ok()?)));
    let Some((address, port)) = parts.filter(|(address, port)| !address.is_empty() && *port > 0) else {
        bail!("--page-server {text}: write ADDRESS:PORT")
    };
    Ok(PageServer { address: Some(address.to_owned()), port: Some(port.into()) })
}

#[cfg(test)]
mod tests {
    use super::page_server;

    #[test]
    fn page_servers_have_address_and_port() {
        let server = page_server("::1:27").unwrap();
        assert_eq!((server.address.as_deref(), server.port), (Some("::1"), Some(27)));
        for bad in ["", "host", "host:", ":1", "host:0", "host:65536", "host:x"] {
            assert!(page_server(bad).is_err(), "{bad}");
        }
    }
}
