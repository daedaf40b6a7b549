//! `check` and `plan`: what is wrong with a bundle, and what `create` would do with it. Neither
//! changes anything.

use std::path::Path;

use anyhow::{Result, bail};

use super::prepare;
use crate::cli::{CgroupManager, Inspect, TextFormat};
use crate::config::problem::{Kind, Problems};
use crate::config::types::Spec;
use crate::plan::rootfs::{Step, What};
use crate::plan::{Plan, Request, describe, plan as make_plan};

/// The id that a container gets for the sake of looking.
const ID: &str = "ID";

/// `rt check`
pub(super) fn check(args: &Inspect, cgroups: CgroupManager) -> Result<u8> {
    let mut problems = Problems::default();
    let (text, bundle) = prepare::read(&args.bundle)?;
    if let Some(spec) = prepare::document(&text, &mut problems) {
        let request = request(&bundle);
        let (host, _) = prepare::host(&spec, cgroups)?;
        let plan = make_plan(&spec, &request, &host, &mut problems);
        files(&spec, &plan, &mut problems);
    }
    let fatal = problems.fatal().count();
    if args.format == TextFormat::Json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&problems.0)?))?;
    } else {
        let lines: String = problems
            .0
            .iter()
            .map(|problem| match problem.kind {
                Kind::Invalid => format!("{problem}\n"),
                Kind::Unavailable => format!("{problem} [this host]\n"),
                Kind::Warning => format!("{problem} [warning]\n"),
            })
            .collect();
        super::print(&lines)?;
        if fatal == 0 {
            super::print("ok\n")?;
        }
    }
    Ok(u8::from(fatal != 0))
}

/// `rt plan`
pub(super) fn plan(args: &Inspect, cgroups: CgroupManager) -> Result<()> {
    let (text, bundle) = prepare::read(&args.bundle)?;
    let mut problems = Problems::default();
    let Some(spec) = prepare::document(&text, &mut problems) else {
        prepare::settle(&problems)?;
        bail!("config.json cannot be read");
    };
    prepare::settle(&problems)?;
    let request = request(&bundle);
    let (host, _) = prepare::host(&spec, cgroups)?;
    let mut problems = Problems::default();
    let plan = make_plan(&spec, &request, &host, &mut problems);
    prepare::settle(&problems)?;
    let lines = describe::lines(&plan);
    if args.format == TextFormat::Json {
        super::print(&format!("{}\n", serde_json::to_string_pretty(&lines)?))
    } else {
        super::print(&describe::text(&lines))
    }
}

fn request(bundle: &Path) -> Request {
    Request { id: ID.to_owned(), bundle: bundle.to_owned(), ..Request::default() }
}

/// Files of the host that the document names.
fn files(spec: &Spec<'_>, plan: &Plan<'_>, problems: &mut Problems) {
    if !plan.root.path.is_dir() {
        problems.unavailable(
            "/root/path",
            format!("{} is no directory; make it, or name another", plan.root.path.display()),
        );
    }
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known: Vec<&str> = known.lines().filter_map(|line| line.split_whitespace().next_back()).collect();
    for step in &plan.steps {
        let Step::Mount(mount) = step else { continue };
        let Some(index) = mount.index else { continue };
        match &mount.what {
            What::Bind { source, .. } if !source.starts_with("/sys/fs/cgroup/") && !Path::new(source).exists() => {
                problems.unavailable(
                    format!("/mounts/{index}/source"),
                    format!("{source} does not exist; make it, or take the mount out"),
                );
            }
            What::New { fstype, .. } if !known.contains(fstype) => {
                problems.unavailable(
                    format!("/mounts/{index}/type"),
                    format!("this kernel has no file system of type {fstype} loaded; `modprobe {fstype}` may bring it"),
                );
            }
            _ => {}
        }
    }
    for join in &plan.namespaces.join {
        if !Path::new(&join.path).exists() {
            problems.unavailable(
                &*join.pointer,
                format!("{} does not exist: whatever held that namespace is gone", join.path),
            );
        }
    }
    let hooks = &spec.hooks;
    for (kind, list) in [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ] {
        for (index, hook) in list.iter().enumerate() {
            if rustix::fs::access(&*hook.path, rustix::fs::Access::EXEC_OK).is_err() {
                problems.unavailable(
                    format!("/hooks/{kind}/{index}/path"),
                    format!("{} is no program that can be run", hook.path),
                );
            }
        }
    }
}
