//! A stage while it is built: the image's configuration so far, and the variables. Each instruction changes it; what it
//! asks for besides is in [`super::action`].

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::action::{Action, flags_of};
use super::args::Args;
use crate::build::dockerfile::{Command, Health, Instruction, Kind};
use crate::build::{expand, inline};
use crate::container::spec;
use crate::image::config::{Execution, ImageConfig};

/// The shell of shell forms where nobody says another.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct State {
    /// The image so far, but for layers and history.
    pub config: ImageConfig,
    /// Variables of the build that were declared here.
    pub(super) args: Vec<(String, Option<String>)>,
    /// Whether CMD stands in this stage.
    command_set: bool,
    pub(super) escape: char,
}

impl State {
    /// Of a base image's configuration. ONBUILD is left in it for who asks: see [`State::take_triggers`].
    pub fn new(mut config: ImageConfig, escape: char) -> Self {
        // What Docker's own images say of the container that they were made of, and what the image's build has left for
        // builds of the same.
        for gone in ["container", "container_config", "docker_version", "parent", "id", inline::FIELD] {
            config.rest.remove(gone);
        }
        Self { config, args: Vec::new(), command_set: false, escape }
    }

    /// Of nothing, as BuildKit has it.
    pub fn scratch(escape: char) -> Self {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let execution = Execution { env: vec![path.to_owned()], working_dir: "/".to_owned(), ..Execution::default() };
        let mut config = ImageConfig { config: execution, os: "linux".to_owned(), ..ImageConfig::default() };
        "layers".clone_into(&mut config.rootfs.kind);
        Self::new(config, escape)
    }

    /// What the base image wants done first.
    pub fn take_triggers(&mut self) -> Vec<String> {
        self.config.config.on_build.take().unwrap_or_default()
    }

    /// A variable's value: the image's, then the build's.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let of = |it: &String| it.split_once('=').filter(|it| it.0 == name).map(|it| it.1.to_owned());
        self.config.config.env.iter().rev().find_map(of).or_else(|| {
            let (_, value) = self.args.iter().rev().find(|it| it.0 == name)?;
            value.clone()
        })
    }

    pub(super) fn word(&self, text: &str) -> Result<String> {
        expand::word(text, self.escape, &|name: &str| self.value(name))
    }

    /// The variables of the build that a command gets: those with a value that the image does not set itself.
    pub(super) fn run_args(&self) -> Vec<(String, String)> {
        let set: BTreeSet<&str> = self.config.config.env.iter().filter_map(|it| Some(it.split_once('=')?.0)).collect();
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in &self.args {
            list.retain(|it| it.0 != *name);
            if let Some(value) = value.as_ref().filter(|_| !set.contains(name.as_str())) {
                list.push((name.clone(), value.clone()));
            }
        }
        list.sort();
        list
    }

    fn shell(&self) -> Vec<String> {
        self.config.config.shell.clone().unwrap_or_else(|| SHELL.iter().map(|it| (*it).to_owned()).collect())
    }

    pub(super) fn command(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => self.shell().into_iter().chain([line.clone()]).collect(),
        }
    }

    /// The working directory.
    pub fn directory(&self) -> &str {
        if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
    }

    /// Does what an instruction says to the configuration; what is left to do, and its line in the history.
    pub fn apply(&mut self, instruction: &Instruction, args: &Args) -> Result<(Action, String)> {
        let word = instruction.word();
        let mut action = Action::Nothing;
        let text = match &instruction.kind {
            Kind::From { .. } => bail!("FROM begins another stage"),
            Kind::Env(pairs) => self.env(pairs)?,
            Kind::Arg(list) => self.arg(list, args)?,
            Kind::Label(pairs) => {
                let pairs = self.expanded(pairs)?;
                let labels = self.config.config.labels.get_or_insert_default();
                labels.extend(pairs.iter().cloned());
                joined(&pairs)
            }
            Kind::Workdir(text) => {
                let path = self.word(text)?;
                let clean = self.absolute(&path).context("WORKDIR")?;
                self.config.config.working_dir.clone_from(&clean);
                action = Action::Workdir(clean.clone());
                clean
            }
            Kind::User(text) => {
                let user = self.word(text)?;
                if user.is_empty() {
                    bail!("USER: the name is empty; is a variable of it not set?");
                }
                self.config.config.user.clone_from(&user);
                user
            }
            Kind::Cmd(command) => {
                let words = self.command(command);
                self.command_set = true;
                let text = json!(words).to_string();
                self.config.config.cmd = Some(words);
                text
            }
            Kind::Entrypoint(command) => {
                let words = self.command(command);
                // A command of the base's was meant for the base's entrypoint.
                if !self.command_set {
                    self.config.config.cmd = None;
                }
                let text = json!(words).to_string();
                self.config.config.entrypoint = Some(words);
                text
            }
            Kind::Expose(list) => self.expose(list)?,
            Kind::Volume(list) => self.volume(list)?,
            Kind::Healthcheck(health) => self.health(health),
            Kind::Shell(words) => {
                self.config.config.shell = Some(words.clone());
                json!(words).to_string()
            }
            Kind::Stopsignal(text) => {
                let signal = self.word(text)?;
                spec::signal(&signal).context("STOPSIGNAL")?;
                self.config.config.stop_signal = Some(signal.clone());
                signal
            }
            Kind::Onbuild(text) => {
                self.config.config.on_build.get_or_insert_default().push(text.clone());
                text.clone()
            }
            Kind::Maintainer(text) => {
                self.config.author = Some(text.clone());
                text.clone()
            }
            Kind::Run(run) => {
                let run = self.run(run).context("RUN")?;
                let args: Vec<String> = run.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let before =
                    if args.is_empty() { String::new() } else { format!("|{} {} ", args.len(), args.join(" ")) };
                let text = format!("{before}{}", run.words.join(" "));
                action = Action::Run(run);
                text
            }
            Kind::Copy(copy) | Kind::Add(copy) => {
                let copy = self.copy(copy, matches!(instruction.kind, Kind::Add(_))).context(word)?;
                let names = copy.documents.iter().map(|it| format!("<<{}", it.name));
                let text = copy.copy.sources.iter().cloned().chain(names).collect::<Vec<_>>().join(" ");
                let text = format!("{}{text} {}", flags_of(&copy.copy), copy.target);
                action = Action::Copy(copy);
                text
            }
        };
        Ok((action, format!("{word} {text}")))
    }

    fn expanded(&self, pairs: &[(String, String)]) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|(name, value)| Ok((self.word(name)?, self.word(value)?))).collect()
    }

    fn env(&mut self, pairs: &[(String, String)]) -> Result<String> {
        // All of one instruction see the values of before it.
        let pairs = self.expanded(pairs)?;
        for (name, value) in &pairs {
            if name.is_empty() || name.contains('=') {
                bail!("ENV: {name:?} cannot be a variable's name");
            }
            let entry = format!("{name}={value}");
            let prefix = format!("{name}=");
            match self.config.config.env.iter_mut().find(|it| it.starts_with(&prefix)) {
                Some(old) => *old = entry,
                None => self.config.config.env.push(entry),
            }
        }
        Ok(joined(&pairs))
    }

    fn arg(&mut self, list: &[(String, Option<String>)], args: &Args) -> Result<String> {
        let mut shown = Vec::new();
        for (name, default) in list {
            let default = default.as_ref().map(|it| self.word(it)).transpose().context("ARG")?;
            let value = args.in_stage(name, default);
            shown.push(value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}={value}")));
            self.args.push((name.clone(), value));
        }
        Ok(shown.join(" "))
    }

    fn expose(&mut self, list: &[String]) -> Result<String> {
        let mut ports = Vec::new();
        for text in list {
            ports.extend(expand::words(text, self.escape, &|name: &str| self.value(name))?);
        }
        for port in &ports {
            let wrong = || format!("EXPOSE: {port:?} is no port such as 80, 53/udp or 8000-8010");
            let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let protocol = protocol.to_ascii_lowercase();
            if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
                bail!("{}", wrong());
            }
            // Docker has an address and a port of the host in front of it, which mean nothing here.
            let range = range.rsplit(':').next().unwrap_or_default();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u16>().ok().filter(|it| *it != 0).with_context(wrong);
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                bail!("{}", wrong());
            }
            let exposed = self.config.config.exposed_ports.get_or_insert_default();
            exposed.extend((first..=last).map(|it| (format!("{it}/{protocol}"), json!({}))));
        }
        Ok(ports.join(" "))
    }

    fn volume(&mut self, list: &[String]) -> Result<String> {
        let paths = list.iter().map(|it| self.word(it)).collect::<Result<Vec<_>>>()?;
        for path in &paths {
            if path.trim().is_empty() {
                bail!("VOLUME: a path is empty; is a variable of it not set?");
            }
            self.config.config.volumes.get_or_insert_default().insert(path.clone(), json!({}));
        }
        Ok(json!(paths).to_string())
    }

    fn health(&mut self, health: &Health) -> String {
        let test = match &health.command {
            None => json!(["NONE"]),
            Some(Command::Shell(line)) => json!(["CMD-SHELL", line]),
            Some(Command::Exec(words)) => Value::from([vec!["CMD".to_owned()], words.clone()].concat()),
        };
        let mut document = json!({"Test": test});
        for (key, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
            ("Retries", health.retries.map(u64::from)),
        ] {
            if let Some(value) = value.filter(|it| *it != 0) {
                document[key] = json!(value);
            }
        }
        let text = document.to_string();
        self.config.config.rest.insert("Healthcheck".to_owned(), document);
        text
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}
