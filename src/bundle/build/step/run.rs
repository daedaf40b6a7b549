//! RUN: a command in a container of the OCI runtime, with Docker's default confinement, over a stage's files.
//!
//! All RUNs of a stage are one container after another under one row, which is removed with the build: so what a killed
//! build leaves of cgroups, networks and the runtime's state is swept like that of any other container.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::root::Root;
use crate::build::cancel::Cancel;
use crate::build::dockerfile::Network;
use crate::build::plan::action::RunAction;
use crate::build::plan::state::State;
use crate::build::progress::Step;
use crate::cli::flags::Flags;
use crate::container::record::{self, Container, New, Settings};
use crate::container::runtime::{self, make_run_dir};
use crate::container::{files, remove, spec};
use crate::image::Digest;
use crate::image::config::Execution;
use crate::network::attach::Joining;
use crate::store::Image;
use crate::tool::Tool;

/// The host name that commands see.
const HOSTNAME: &str = "build";
/// Of a command's output so much is kept for its error, in bytes.
const KEPT: usize = 2000;
/// The longest line that is shown as one, in bytes.
const LONGEST_LINE: u64 = 16 << 10;

/// Who runs the commands of a stage.
pub struct Runner<'a> {
    tool: &'a Tool,
    flags: Flags,
    container: Container,
    lock: Option<File>,
    network: Option<(OwnedFd, files::Site)>,
}

/// What is run.
pub struct What<'a> {
    /// The command.
    pub action: &'a RunAction,
    /// The image so far.
    pub state: &'a State,
    /// What is mounted.
    pub mounts: &'a Mounted,
    /// Proxies of the command line.
    pub proxies: &'a [(String, String)],
}

/// How a command has ended.
pub struct Ended {
    /// Its exit status.
    pub status: i32,
    /// The end of its output.
    pub output: String,
}

impl<'a> Runner<'a> {
    /// Registers the container. `flags`: the build's, which [`spec::check`] has given; `chain`: what may not be removed
    /// meanwhile.
    pub fn new(tool: &'a Tool, flags: &Flags, chain: Option<&Digest>) -> Result<Self> {
        let image = Image {
            digest: Digest::of(b""),
            media_type: String::new(),
            id: Digest::of(b""),
            chain: chain.cloned(),
            size: 0,
            created: 0,
        };
        let settings = Settings {
            flags: flags.clone(),
            runtime: Some(tool.runtime.clone()),
            driver: Some(tool.driver),
            ..Settings::default()
        };
        let new =
            New { image: &image, image_name: "build", name: None, remove: true, settings, files: &[], replaces: None };
        let (container, lock) = record::register(tool, new)?;
        Ok(Self { tool, flags: flags.clone(), container, lock: Some(lock), network: None })
    }

    /// The network namespace that all commands of the stage are in.
    fn join(&mut self) -> Result<()> {
        if self.network.is_some() {
            return Ok(());
        }
        let mut joining = Joining::plan(self.tool, &self.container)?;
        let site = joining.site();
        joining.begin(self.tool, &self.container.run_dir(self.tool), false)?;
        self.network = joining.finish_alone()?.map(|it| (it, site));
        Ok(())
    }

    /// Runs a command to its end.
    pub fn run(&mut self, root: &Root, what: &What<'_>, cancel: &Cancel, step: &Step<'_>) -> Result<Ended> {
        let What { action, state, mounts, proxies } = what;
        make_run_dir(&self.container.run_dir(self.tool))?;
        let mut flags = self.flags.clone();
        match action.network {
            Some(Network::None) => flags.network = vec!["none".to_owned()],
            Some(Network::Host) => flags.network = vec!["host".to_owned()],
            Some(Network::Default) | None => self.join()?,
        }
        let own = matches!(action.network, None | Some(Network::Default));
        flags.privileged = action.insecure;
        flags.hostname = Some(HOSTNAME.to_owned());
        flags.entrypoint = Some(String::new());
        let variables = action.args.iter().chain(*proxies);
        flags.env =
            variables.map(|(name, value)| format!("{name}={value}")).chain(mounts.env.iter().cloned()).collect();

        let dir = self.container.dir(self.tool)?;
        let network = self.network.as_ref().filter(|_| own);
        let site = network.map(|it| it.1.clone()).unwrap_or_default();
        let files = files::write(&dir, &flags, HOSTNAME, &site, None)?;
        let path = network.map(|it| format!("/proc/{}/fd/{}", std::process::id(), it.0.as_raw_fd()));
        let place = spec::Place {
            root_path: root.path.to_str().context("the store's path is no UTF-8")?,
            root: root.as_fd(),
            hostname: HOSTNAME,
            cgroup: if self.tool.plain_user { None } else { Some(spec::cgroup(&flags, &self.container.id)?) },
            files: &files,
            mounts: &mounts.list,
            propagation: None,
            join: &[],
            network: path.as_deref(),
            shm: None,
            ids: None,
            plain_user: self.tool.plain_user,
        };
        let image = execution(&state.config.config);
        let mut document = spec::build(&image, &flags, &action.words, &place)?;
        // Of the machine nothing is to be in what a command makes of its variables.
        if let Some(env) = document["process"]["env"].as_array_mut() {
            env.retain(|it| it.as_str() != Some(&format!("HOSTNAME={HOSTNAME}")));
        }
        std::fs::write(dir.join("config.json"), serde_json::to_vec(&document)?).context("writing config.json")?;
        self.start(&dir, cancel, step)
    }

    fn start(&self, dir: &std::path::Path, cancel: &Cancel, step: &Step) -> Result<Ended> {
        let runtime = self.container.runtime(self.tool);
        runtime.forget();
        let (reader, writer) = std::io::pipe().context("a pipe for the command's output")?;
        let mut command = runtime.command();
        command.args(["run", "--bundle"]).arg(dir).arg(&runtime.id).stdin(runtime::null());
        command.stdout(writer.try_clone()?).stderr(writer);
        crate::sys::unblock_signals(&mut command);
        crate::sys::die_with_us(&mut command);
        let running = cancel.running(&runtime);
        cancel.check()?;
        let child = command.spawn().with_context(|| format!("starting the runtime {}", runtime.program.display()));
        // The command's copies of the pipe's end go with it.
        drop(command);
        let mut child = child?;
        let output = read(reader, step);
        let status = child.wait()?;
        drop(running);
        let failure = runtime.failure();
        if !status.success() || cancel.check().is_err() {
            runtime.delete();
        }
        cancel.check()?;
        if let Some(failure) = failure.filter(|_| !status.success()) {
            bail!("{}", failure.replace('\n', " "));
        }
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        let status = status.code().unwrap_or_else(|| 128 + signal.unwrap_or(0));
        Ok(Ended { status, output: output? })
    }
}

/// What [`super::mounts`] has made ready.
#[derive(Default)]
pub struct Mounted {
    /// Mounts, as config.json has them.
    pub list: Vec<Value>,
    /// Variables that come with them.
    pub env: Vec<String>,
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        self.network = None;
        if let Some(lock) = self.lock.take()
            && let Err(error) = remove::finish(self.tool, &self.container, &lock, true)
        {
            crate::complain(&error.context("the build's container"));
        }
    }
}

/// Of an image's configuration what its commands get.
fn execution(image: &Execution) -> Execution {
    Execution {
        user: image.user.clone(),
        env: image.env.clone(),
        working_dir: image.working_dir.clone(),
        ..Execution::default()
    }
}

/// Shows the output line by line as it comes; its end.
fn read(from: impl Read, step: &Step) -> Result<String> {
    let mut reader = BufReader::new(from);
    let mut kept: Vec<u8> = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        match count {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("reading the command's output"),
        }
        step.output(&String::from_utf8_lossy(&line));
        kept.extend_from_slice(&line);
        if kept.len() > 4 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    let start = kept.len().saturating_sub(KEPT);
    Ok(String::from_utf8_lossy(&kept[start..]).into_owned())
}
