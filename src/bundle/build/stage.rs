//! One stage at work: each instruction changes the configuration; what it does with files is looked for in the cache,
//! or done.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};

use super::cache::{self, Made};
use super::dockerfile::mount::MountKind;
use super::dockerfile::{Instruction, Network, parse_trigger};
use super::execute::{Build, Built};
use super::ignore::Ignore;
use super::inline::{self, Known};
use super::layers::{Entry, Fresh, Layers, Purpose, Stack};
use super::plan::Origin;
use super::plan::action::{Action, CopyAction, RunAction, SCRIPTS};
use super::plan::key::Key;
use super::plan::state::State;
use super::progress::Step;
use super::request::Named;
use super::source::Source;
use super::step::root::{Root, Top};
use super::step::run::{Runner, What};
use super::step::{mounts, stubs, workdir};
use crate::container::users;
use crate::image::Digest;
use crate::image::manifest::Platform;
use crate::store::{Store, now};
use crate::tool::Tool;

/// See the head of the file.
pub struct Work<'a> {
    pub(super) build: &'a Build<'a>,
    pub(super) tool: &'a Tool,
    pub(super) store: &'a Store,
    index: usize,
    pub(super) built: Built,
    pub(super) state: State,
    runner: Option<Runner<'a>>,
}

/// A tree that a step takes files from, and what it is in keys.
pub struct From<'a> {
    /// A stage's or an image's, while it is mounted.
    _root: Option<Root>,
    source: Option<Source>,
    context: Option<&'a Source>,
}

impl From<'_> {
    /// The tree.
    pub fn source(&self) -> Result<&Source> {
        let found = self.source.as_ref().or(self.context);
        found.context("there is no context: the Dockerfile alone was given")
    }
}

impl<'a> Work<'a> {
    /// On what the stage begins with.
    pub fn new(build: &'a Build<'a>, tool: &'a Tool, index: usize, begin: Built) -> Result<Self> {
        let scratch = begin.config.rootfs.kind.is_empty();
        let mut state = if scratch {
            let platform = build.plan.stages[index].platform.as_deref().map(Platform::parse).transpose()?;
            let platform = platform.as_ref().unwrap_or(&build.request.platform);
            let mut state = State::scratch(build.plan.escape);
            state.config.architecture.clone_from(&platform.architecture);
            state.config.os.clone_from(&platform.os);
            state.config.variant.clone_from(&platform.variant);
            state
        } else {
            State::new(begin.config.clone(), build.plan.escape)
        };
        state.config.history = Vec::new();
        Ok(Self { build, tool, store: tool.store()?, index, built: begin, state, runner: None })
    }

    /// Does all instructions.
    pub fn run(mut self) -> Result<Built> {
        let stage = &self.build.plan.stages[self.index];
        let mut instructions = Vec::new();
        for text in self.state.take_triggers() {
            instructions.extend(parse_trigger(&self.build.plan.name, stage.line, &text)?);
        }
        instructions.extend(stage.instructions.iter().cloned());
        for (number, instruction) in instructions.iter().enumerate() {
            let told = || format!("{}:{}", self.build.plan.name, instruction.line);
            self.build.cancel.check()?;
            if let super::dockerfile::Kind::Arg(list) = &instruction.kind {
                let mut declared = self.build.declared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                declared.extend(list.iter().map(|it| it.0.clone()));
            }
            let (action, text) = self.state.apply(instruction, &self.build.plan.args).with_context(told)?;
            let told = format!("{}:{}", self.build.plan.name, instruction.line);
            let name = format!(
                "[{} {}/{}] {}",
                stage.shown(self.index),
                number + 1,
                instructions.len(),
                one_line(instruction)
            );
            self.act(&action, text, &name, &told)?;
        }
        let history = std::mem::take(&mut self.built.config.history);
        self.built.config = self.state.config.clone();
        self.built.config.history = history;
        Ok(self.built)
    }

    fn act(&mut self, action: &Action, text: String, name: &str, told: &str) -> Result<()> {
        if *action == Action::Nothing {
            let created = self.build.request.epoch.or(self.built.created);
            self.built.add_history(text, true, created);
            return Ok(());
        }
        let step = self.build.progress.step(name);
        let result = match action {
            Action::Workdir(path) => self.workdir(path, &text, &step),
            Action::Copy(copy) => self.copy(copy, &text, &step),
            Action::Run(run) => self.run_command(run, &text, &step),
            Action::Nothing => unreachable!("it was looked for above"),
        };
        match result {
            Ok((made, cached)) => {
                self.built.created =
                    Some(made.created).max(self.built.created.filter(|_| self.build.request.epoch.is_none()));
                let layer = made.layer;
                self.built.add_history(text, !layer, Some(made.created));
                if cached {
                    step.cached();
                } else {
                    step.done();
                }
                Ok(())
            }
            Err(error) => {
                step.failed();
                Err(error).with_context(|| told.to_owned())
            }
        }
    }

    pub(super) fn key(&self, kind: &str) -> Key {
        let mut key = Key::new(kind, self.built.stack.top());
        key.debug(&self.build.request.epoch);
        key
    }

    /// What is known under a key, put on the stack: by the store's cache, then by the images of `--cache-from`.
    fn hit(&mut self, key: &Digest) -> Result<Option<Outcome>> {
        if self.build.no_cache[self.index] {
            return Ok(None);
        }
        let known = match self.in_store(key)? {
            Some(known) => known,
            None => match self.build.imported.find(key, self.built.stack.top()) {
                Some(known) => known,
                None => return Ok(None),
            },
        };
        let layer = known.entry.is_some();
        self.built.stack.0.extend(known.entry);
        Ok(Some(Outcome { created: known.created, layer }))
    }

    fn in_store(&self, key: &Digest) -> Result<Option<Known>> {
        let Some(made) = cache::find(self.store, key)? else { return Ok(None) };
        let entry = match (made.chain, made.layer) {
            (Some(chain), Some((diff_id, blob))) => {
                let Some(found) = self.store.layer(&chain)? else { return Ok(None) };
                Some(Entry { chain, diff_id, dir: found.dir, blob: Some(blob) })
            }
            _ => None,
        };
        Ok(Some(Known { entry, created: made.created }))
    }

    /// Notes a step for the inline cache, once its layer is on the stack.
    fn note(&mut self, key: &Digest, outcome: &Outcome) {
        if self.build.request.inline_cache {
            let diff_id = self.built.stack.0.last().filter(|_| outcome.layer).map(|it| it.diff_id.clone());
            self.built.steps.push(inline::Step { key: key.clone(), diff_id, created: outcome.created });
        }
    }

    /// A step by its key: what the cache has, else what `work` makes, which nobody else makes meanwhile.
    pub(super) fn cached(
        &mut self,
        key: Digest,
        what: &str,
        work: impl FnOnce(&mut Self) -> Result<Option<Fresh>>,
    ) -> Result<(Outcome, bool)> {
        self.cached_by(key, |_| Ok(None), what, |it, _: Option<()>| work(it))
    }

    /// The same with a second key, which takes longer to find and holds more often.
    pub(super) fn cached_by<T>(
        &mut self,
        key: Digest,
        second: impl FnOnce(&mut Self) -> Result<Option<(Digest, T)>>,
        what: &str,
        work: impl FnOnce(&mut Self, Option<T>) -> Result<Option<Fresh>>,
    ) -> Result<(Outcome, bool)> {
        let cancel = self.build.cancel;
        let mut claim = None;
        let mut outcome = self.hit(&key)?;
        if outcome.is_none() {
            claim = Some(cache::claim(self.store, &key, || cancel.check())?);
            outcome = self.hit(&key)?;
        }
        if let Some(outcome) = outcome {
            // An image tells of the key that holds more often, whichever one was a hit here: so its configuration is
            // the same with a cache and without.
            let more = if self.build.request.inline_cache { second(self)? } else { None };
            self.note(more.as_ref().map_or(&key, |it| &it.0), &outcome);
            return Ok((outcome, true));
        }
        let mut keys = vec![key];
        let mut more = None;
        if let Some((second, found)) = second(self)? {
            if let Some(outcome) = self.hit(&second)? {
                // What only an image has told is not written down: see `inline`.
                if let Some(made) = cache::find(self.store, &second)? {
                    cache::keep(self.store, &keys, what, &made, None)?;
                }
                self.note(&second, &outcome);
                return Ok((outcome, true));
            }
            keys.push(second);
            more = Some(found);
        }
        let created = self.build.request.epoch.unwrap_or_else(now);
        let told = keys[keys.len() - 1].clone();
        let outcome = if let Some(fresh) = work(self, more)? {
            self.push(fresh, Purpose { keys, what, claim }, created)?;
            Outcome { created, layer: true }
        } else {
            let made = Made { chain: self.built.stack.top().cloned(), layer: None, created };
            cache::keep(self.store, &keys, what, &made, None)?;
            Outcome { created, layer: false }
        };
        self.note(&told, &outcome);
        Ok((outcome, false))
    }

    fn push(&mut self, fresh: Fresh, purpose: Purpose<'_>, created: i64) -> Result<()> {
        let entry = self.build.layers.finish(self.store, fresh, &self.built.stack, purpose, created)?;
        self.built.stack.0.push(entry);
        Ok(())
    }

    /// Does something in the stage's files with a fresh layer on top.
    pub(super) fn in_layer(
        &mut self,
        below: Option<&std::path::Path>,
        lower: &Stack,
        work: impl FnOnce(&mut Self, &Root) -> Result<bool>,
    ) -> Result<Option<Fresh>> {
        let fresh = Layers::begin(self.store, lower)?;
        let result = (|| {
            let root = Root::mount(self.tool, self.build.place, lower, Top::Fresh(&fresh), below)?;
            let changed = work(self, &root)?;
            root.finish(self.tool, self.store, lower, &fresh)?;
            Ok(changed)
        })();
        match result {
            Ok(true) => Ok(Some(fresh)),
            Ok(false) => {
                Layers::discard(self.store, fresh);
                Ok(None)
            }
            Err(error) => {
                Layers::discard(self.store, fresh);
                Err(error)
            }
        }
    }

    fn workdir(&mut self, path: &str, what: &str, _: &Step) -> Result<(Outcome, bool)> {
        let user = self.state.config.config.user.clone();
        let mut key = self.key("workdir 1");
        key.add(path.as_bytes()).add(user.as_bytes());
        let stack = self.built.stack.clone();
        self.cached(key.finish(), what, |work| {
            work.in_layer(None, &stack, |_, root| {
                let who = users::look_up(root.as_fd(), &user, &[])?;
                let path = path.trim_matches('/').as_bytes();
                Ok(workdir::ensure(root.as_fd(), path, (who.uid, who.gid))?.1 > 0)
            })
        })
    }

    /// The tree that a `from` means, and its name in keys.
    pub(super) fn from(&self, from: Option<&str>) -> Result<(From<'a>, String)> {
        let Some(from) = from else {
            return Ok((From { _root: None, source: None, context: self.build.context }, "context".to_owned()));
        };
        let by_name = |it: &String| it == &from.to_ascii_lowercase();
        if let Some((_, source)) = self.build.contexts.iter().find(|it| by_name(it.0)) {
            return Ok((From { _root: None, source: None, context: Some(source) }, format!("context {from}")));
        }
        let stack = match self.build.plan.origin(from, self.index)? {
            Origin::Stage(index) => self.build.stage(self.tool, index)?.stack.clone(),
            Origin::Image(name) => {
                if let Some(Named::Directory(_)) = self.build.request.contexts.get(&name) {
                    bail!("from={name}: the context is not open");
                }
                self.build.image(self.tool, &name, None)?.stack
            }
        };
        let name = format!("stack {}", stack.top().map_or("", Digest::as_str));
        let root = Root::mount(self.tool, self.build.place, &stack, Top::Nothing, None)?;
        let source = Source::new(root.as_fd().try_clone_to_owned()?, Ignore::default(), false);
        Ok((From { _root: Some(root), source: Some(source), context: None }, name))
    }

    fn run_command(&mut self, run: &RunAction, what: &str, step: &Step) -> Result<(Outcome, bool)> {
        if run.network == Some(Network::Host) && !self.build.request.allow_host {
            bail!("RUN --network=host: the host's network is given only with --allow network.host");
        }
        if run.insecure && !self.build.request.allow_insecure {
            bail!("RUN --security=insecure: it is given only with --allow security.insecure");
        }
        let config = &self.state.config.config;
        let flags = &self.build.request.flags;
        let mut key = self.key("run 1");
        key.debug(&run.words).debug(&run.args).debug(&run.script).debug(&run.mounts).debug(&run.network);
        key.debug(&run.insecure).debug(&config.env).debug(&config.user).debug(&self.state.directory());
        key.debug(&(&flags.add_host, &flags.shm_size, &flags.ulimit, &flags.network, &flags.security_opt));
        let mut sources = Vec::new();
        for mount in &run.mounts {
            let (from, path) = match &mount.kind {
                MountKind::Bind { from, source } => (from.as_deref(), source),
                MountKind::Cache { from: Some(from), source, .. } => (Some(from.as_str()), source),
                _ => {
                    sources.push(None);
                    continue;
                }
            };
            let (from, name) = self.from(from)?;
            key.add(name.as_bytes());
            if name.starts_with("context") {
                let source = from.source()?;
                let found =
                    source.resolve(path)?.with_context(|| format!("RUN --mount: {path:?} is not in the context"))?;
                key.add(source.digest(&found, &Ignore::default())?.as_str().as_bytes());
            }
            sources.push(Some(from));
        }
        let key = key.finish();
        self.cached(key, what, |work| work.start(run, &sources, step))
    }

    fn start(&mut self, run: &RunAction, sources: &[Option<From<'_>>], step: &Step) -> Result<Option<Fresh>> {
        let cancel = self.build.cancel;
        let stop = || cancel.check();
        let request = self.build.request;
        let site = mounts::Site {
            store: self.store,
            place: self.build.place,
            secrets: &request.secrets,
            agents: &request.agents,
            stop: &stop,
        };
        let sources = sources.iter().map(|it| it.as_ref().map(From::source).transpose()).collect::<Result<Vec<_>>>()?;
        let mut prepared = site.prepare(&run.mounts, &sources)?;
        if let Some((name, text)) = &run.script {
            prepared.script(self.build.place, SCRIPTS, name, text)?;
        }
        let below = stubs::make(self.build.place, &prepared.targets)?;
        let stack = self.built.stack.clone();
        self.in_layer(Some(&below), &stack, |work, root| {
            let later = stubs::missing(root.as_fd(), &prepared.targets);
            if work.runner.is_none() {
                work.runner = Some(Runner::new(
                    work.tool,
                    &request.flags,
                    stack.0.iter().rev().find(|it| it.blob.is_some()).map(|it| &it.chain),
                )?);
            }
            let runner = work.runner.as_mut().context("a runner")?;
            let proxies = work.build.plan.args.proxies();
            let what = What { action: run, state: &work.state, mounts: &prepared.mounted, proxies: &proxies };
            let ended = runner.run(root, &what, cancel, step)?;
            if ended.status != 0 {
                let last = ended.output.lines().rfind(|it| !it.trim().is_empty()).unwrap_or_default().trim();
                let said = if last.is_empty() { String::new() } else { format!(", saying {last:?} last") };
                bail!("RUN {}: ended with exit status {}{said}", run.words.join(" ").replace('\n', " "), ended.status);
            }
            stubs::remove(root.as_fd(), &later);
            Ok(true)
        })
    }

    fn copy(&mut self, copy: &CopyAction, what: &str, _: &Step) -> Result<(Outcome, bool)> {
        super::copying::copy(self, copy, what)
    }
}

/// What a step has come to.
pub struct Outcome {
    /// When, in seconds since 1970.
    pub created: i64,
    /// Whether it has a layer of its own.
    pub layer: bool,
}

fn one_line(instruction: &Instruction) -> String {
    let mut text: String = instruction.text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    if text.chars().count() > 120 {
        text = text.chars().take(117).collect::<String>() + "...";
    }
    text
}
