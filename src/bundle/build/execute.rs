//! Stages at work: each needed one in a thread of its own, which waits for those that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::cancel::{Cancel, Cancelled};
use super::images::Images;
use super::inline::{self, Imported};
use super::layers::{Layers, Stack};
use super::place::Place;
use super::plan::{Base, Plan};
use super::progress::Progress;
use super::request::{Named, Request};
use super::source::Source;
use super::stage::Work;
use crate::image::Digest;
use crate::image::config::{History, ImageConfig};
use crate::image::manifest::Platform;
use crate::tool::Tool;

/// A stage that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its configuration, with history.
    pub config: ImageConfig,
    /// Its layers.
    pub stack: Stack,
    /// When its last step was done, in seconds since 1970; none where nothing is known of it.
    pub created: Option<i64>,
    /// The steps behind its layers, where [`Request::inline_cache`] asks for them.
    pub steps: Vec<inline::Step>,
}

/// What all stages share.
pub struct Build<'a> {
    /// Flags.
    pub request: &'a Request,
    /// Stages.
    pub plan: &'a Plan,
    /// The context.
    pub context: Option<&'a Source>,
    /// `--build-context` directories.
    pub contexts: &'a BTreeMap<String, Source>,
    /// Base images.
    pub images: &'a Images<'a>,
    /// What images tell of steps.
    pub imported: &'a Imported,
    /// What is made.
    pub layers: &'a Layers,
    /// The build's directory.
    pub place: &'a Place,
    /// What people see.
    pub progress: &'a Progress,
    /// Whether to go on.
    pub cancel: &'a Cancel,
    /// Stages of which each step is done anew.
    pub no_cache: Vec<bool>,
    /// The stages' results, from [`Slot::each`].
    pub slots: Vec<Slot>,
    /// Variables that some stage has declared.
    pub declared: Mutex<BTreeSet<String>>,
}

/// Where a stage's result is waited for.
#[derive(Default)]
pub struct Slot {
    state: Mutex<SlotState>,
    news: Condvar,
}

impl Slot {
    /// One for each stage, of which nothing is done yet.
    pub fn each(plan: &Plan) -> Vec<Slot> {
        plan.stages.iter().map(|_| Slot::default()).collect()
    }
}

#[derive(Default)]
enum SlotState {
    #[default]
    Idle,
    Working,
    Done(Arc<Built>),
    Failed,
}

impl Build<'_> {
    /// Builds the target and all that it needs.
    pub fn run(&self, tool: &Tool) -> Result<Arc<Built>> {
        let error: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for index in (0..self.plan.stages.len()).filter(|it| self.plan.needed[*it]) {
                let (error, tool) = (&error, tool.another());
                scope.spawn(move || {
                    if let Err(found) = self.stage(&tool, index) {
                        self.cancel.fail();
                        let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
                        let stopped = |it: &anyhow::Error| it.downcast_ref::<Cancelled>().is_some();
                        if error.as_ref().is_none_or(stopped) {
                            *error = Some(found);
                        }
                    }
                });
            }
        });
        self.cancel.check().map_err(|stopped| match error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) if self.cancel.signal().is_none() => error,
            _ => stopped,
        })?;
        self.stage(tool, self.plan.target)
    }

    /// A stage's result: done by the first who asks, waited for by the others.
    pub fn stage(&self, tool: &Tool, index: usize) -> Result<Arc<Built>> {
        let slot = &self.slots[index];
        let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                SlotState::Done(built) => return Ok(built.clone()),
                SlotState::Failed => return Err(Cancelled(-1).into()),
                SlotState::Working => state = slot.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                SlotState::Idle => break,
            }
        }
        *state = SlotState::Working;
        drop(state);
        let result = self.work(tool, index).map(Arc::new);
        let mut state = slot.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = result.as_ref().map_or(SlotState::Failed, |built| SlotState::Done(built.clone()));
        slot.news.notify_all();
        result
    }

    fn work(&self, tool: &Tool, index: usize) -> Result<Built> {
        let stage = &self.plan.stages[index];
        let told = || format!("{}:{}: {}", self.plan.name, stage.line, stage.text);
        let begin = match &stage.base {
            Base::Scratch => Built::new(ImageConfig::default(), Stack::default(), None),
            Base::Stage(base) => (*self.stage(tool, *base)?).clone(),
            Base::Image(name) => {
                let platform = stage.platform.as_deref().map(Platform::parse).transpose().with_context(told)?;
                self.image(tool, name, platform.as_ref()).with_context(told)?
            }
        };
        Work::new(self, tool, index, begin)?.run()
    }

    /// An image by its name, or what `--build-context` says that the name means.
    pub fn image(&self, tool: &Tool, name: &str, platform: Option<&Platform>) -> Result<Built> {
        self.cancel.check()?;
        let name = match self.request.contexts.get(&name.to_ascii_lowercase()) {
            Some(Named::Image(image)) => image,
            _ => name,
        };
        let given = platform.is_some() || self.request.platform_given;
        let base = self.images.find(tool, name, platform.unwrap_or(&self.request.platform), given)?;
        let created = base.config.created.as_deref().and_then(seconds);
        Ok(Built::new(base.config.clone(), base.stack.clone(), created))
    }
}

/// An RFC 3339 time in seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

impl Built {
    fn new(config: ImageConfig, stack: Stack, created: Option<i64>) -> Self {
        Self { config, stack, created, steps: Vec::new() }
    }

    /// The configuration as an image has it.
    pub fn finished(&self, request: &Request, created: i64) -> Result<ImageConfig> {
        let mut config = self.config.clone();
        config.created = Some(crate::output::time(created));
        if !request.labels.is_empty() {
            config.config.labels.get_or_insert_default().extend(request.labels.iter().cloned());
        }
        "layers".clone_into(&mut config.rootfs.kind);
        config.rootfs.diff_ids = self.stack.0.iter().map(|it| it.diff_id.clone()).collect::<Vec<Digest>>();
        if request.inline_cache {
            inline::write(&mut config, &self.steps)?;
        }
        Ok(config)
    }

    /// One line more of the history.
    pub fn add_history(&mut self, text: String, empty: bool, created: Option<i64>) {
        self.config.history.push(History {
            created: created.map(crate::output::time),
            created_by: Some(text),
            comment: Some("bundle build".to_owned()),
            author: None,
            empty_layer: empty,
        });
    }
}
