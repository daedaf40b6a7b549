//! What a Dockerfile's stages are and which of them are needed; what an instruction does with a stage. Pure: nothing is
//! looked up, nothing is made.

pub mod action;
pub mod args;
pub mod key;
pub mod state;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};

use super::dockerfile::{Dockerfile, Instruction, Kind, mount};
use super::expand;
use args::Args;

/// Where a stage begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// A stage before it.
    Stage(usize),
    /// An image.
    Image(String),
}

/// Where files come from that are not the context's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A stage.
    Stage(usize),
    /// An image.
    Image(String),
}

/// A stage.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Where its FROM stands.
    pub line: usize,
    /// Where it begins.
    pub base: Base,
    /// `--platform`.
    pub platform: Option<String>,
    /// What it does.
    pub instructions: Vec<Instruction>,
    /// The FROM as it stands there.
    pub text: String,
}

impl Stage {
    /// What people see of it.
    pub fn shown(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }
}

/// All that is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The file's name.
    pub name: String,
    /// Its escape character.
    pub escape: char,
    /// The variables before the first stage, and those of the command line.
    pub args: Args,
    /// All stages.
    pub stages: Vec<Stage>,
    /// The one that is wanted.
    pub target: usize,
    /// Which of them are needed for it.
    pub needed: Vec<bool>,
}

/// Makes the plan. `target` is a stage's name or number; without it the last one is wanted.
pub fn plan(file: Dockerfile, mut args: Args, target: Option<&str>) -> Result<Plan> {
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in file.instructions {
        let told = || format!("{}:{}", file.name, instruction.line);
        match &instruction.kind {
            Kind::Arg(list) if stages.is_empty() => args.declare_global(list, file.escape).with_context(told)?,
            Kind::From { image, name, platform } => {
                let value = |text: &String| expand::word(text, file.escape, &|it: &str| args.global(it));
                let image = value(image).with_context(told)?;
                if image.is_empty() {
                    bail!("{}: FROM: the image's name is empty; is a variable of it not set?", told());
                }
                if let Some(name) = name
                    && stages.iter().any(|it| it.name.as_ref() == Some(name))
                {
                    bail!("{}: FROM: there is a stage {name:?} already", told());
                }
                let base = match stages.iter().position(|it| it.name.as_deref() == Some(&image.to_ascii_lowercase())) {
                    Some(at) => Base::Stage(at),
                    None if image == "scratch" => Base::Scratch,
                    None => Base::Image(image),
                };
                let platform = platform.as_ref().map(value).transpose().with_context(told)?;
                let (name, line, text) = (name.clone(), instruction.line, instruction.text.clone());
                stages.push(Stage { name, line, base, platform, instructions: Vec::new(), text });
            }
            _ => {
                if let Some(stage) = stages.last_mut() {
                    stage.instructions.push(instruction);
                }
            }
        }
    }
    let target = find_target(&file.name, &stages, target)?;
    let mut plan = Plan { name: file.name, escape: file.escape, args, stages, target, needed: Vec::new() };
    plan.needed = plan.mark()?;
    Ok(plan)
}

fn find_target(name: &str, stages: &[Stage], target: Option<&str>) -> Result<usize> {
    let Some(target) = target else { return Ok(stages.len() - 1) };
    let wanted = target.to_ascii_lowercase();
    let found = stages.iter().position(|it| it.name.as_ref() == Some(&wanted));
    let found = found.or_else(|| target.parse().ok().filter(|it: &usize| *it < stages.len()));
    found.with_context(|| {
        let names: Vec<&str> = stages.iter().filter_map(|it| it.name.as_deref()).collect();
        format!(
            "--target {target}: {name} has no such stage; its {} stages have the names: {}",
            stages.len(),
            names.join(", ")
        )
    })
}

impl Plan {
    /// The stages that the target needs, itself included.
    fn mark(&self) -> Result<Vec<bool>> {
        let mut needed = vec![false; self.stages.len()];
        let mut ahead = vec![self.target];
        while let Some(index) = ahead.pop() {
            if std::mem::replace(&mut needed[index], true) {
                continue;
            }
            let stage = &self.stages[index];
            if let Base::Stage(base) = stage.base {
                ahead.push(base);
            }
            for instruction in &stage.instructions {
                for from in origins(instruction) {
                    let origin = self.origin(&from, index);
                    let origin = origin.with_context(|| format!("{}:{}", self.name, instruction.line))?;
                    if let Origin::Stage(it) = origin {
                        ahead.push(it);
                    }
                }
            }
        }
        Ok(needed)
    }

    /// What a `from` in a stage means: a stage before it by name or number, else an image.
    pub fn origin(&self, from: &str, stage: usize) -> Result<Origin> {
        let name = from.to_ascii_lowercase();
        if let Some(at) = self.stages.iter().position(|it| it.name.as_deref() == Some(&name)) {
            if at >= stage {
                bail!(
                    "from={from}: this stage stands not before it, but {}",
                    if at == stage { "is it" } else { "behind it" }
                );
            }
            return Ok(Origin::Stage(at));
        }
        if let Ok(at) = from.parse::<usize>() {
            if at >= stage {
                bail!("from={from}: there are only {stage} stages before it");
            }
            return Ok(Origin::Stage(at));
        }
        if from.is_empty() {
            bail!("from: it is empty");
        }
        Ok(Origin::Image(from.to_owned()))
    }
}

/// The words behind `from` of an instruction.
pub fn origins(instruction: &Instruction) -> Vec<String> {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.iter().cloned().collect(),
        Kind::Run(run) => run.mounts.iter().filter_map(|it| mount::from(it)).collect(),
        _ => Vec::new(),
    }
}
