//! What an instruction asks for besides the configuration: a directory, a command, files; all variables expanded.

use anyhow::{Context, Result, bail};

use super::state::State;
use crate::build::dockerfile::mount::{self, Mount};
use crate::build::dockerfile::{Command, Copy, Document, Network, Run, words};
use crate::build::expand;
use crate::container::units;

/// What an instruction asks for besides.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing: it is in the configuration.
    Nothing,
    /// The directory has to be there.
    Workdir(String),
    /// A command has to be run.
    Run(RunAction),
    /// Files have to be copied.
    Copy(CopyAction),
}

/// RUN, expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct RunAction {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Variables of the build that it gets beside the image's.
    pub args: Vec<(String, String)>,
    /// A here-document that is itself the program: its name and text.
    pub script: Option<(String, String)>,
    /// What is mounted.
    pub mounts: Vec<Mount>,
    /// Its network, where it says one.
    pub network: Option<Network>,
    /// With all capabilities.
    pub insecure: bool,
}

/// COPY or ADD, expanded.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyAction {
    /// Whether it is ADD.
    pub add: bool,
    /// All flags and sources; here-documents are not among the sources.
    pub copy: Copy,
    /// Here-documents as files.
    pub documents: Vec<Document>,
    /// Where to: an absolute path; one that ends in a slash is a directory.
    pub target: String,
}

/// Where scripts of here-documents are seen in a RUN.
pub const SCRIPTS: &str = "/dev/pipes";

impl State {
    pub(super) fn run(&self, run: &Run) -> Result<RunAction> {
        let value = |name: &str| self.value(name);
        let mut mounts = Vec::new();
        for text in &run.mounts {
            let text = mount::map_values(text, |it| expand::word(it, self.escape, &value))?;
            let mut mount = mount::parse(&text)?;
            if let Some(target) = &mut mount.target {
                *target = self.absolute(target)?;
            }
            mounts.push(mount);
        }
        let mut script = None;
        let words = match &run.command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => match &run.documents[..] {
                [] => self.command(&run.command),
                [only] if words::heredoc(line, self.escape).is_some() => {
                    if only.text.starts_with("#!") {
                        script = Some((only.name.clone(), only.text.clone()));
                        vec![format!("{SCRIPTS}/{}", only.name)]
                    } else {
                        self.command(&Command::Shell(only.text.clone()))
                    }
                }
                // The shell reads them itself.
                list => {
                    let documents: String = list.iter().map(|it| format!("\n{}{}", it.text, it.name)).collect();
                    self.command(&Command::Shell(format!("{line}{documents}")))
                }
            },
        };
        if words.iter().any(|it| it.contains('\0')) {
            bail!("a word of the command has a NUL in it");
        }
        let (network, insecure) = (run.network, run.insecure);
        Ok(RunAction { words, args: self.run_args(), script, mounts, network, insecure })
    }

    pub(super) fn copy(&self, copy: &Copy, add: bool) -> Result<CopyAction> {
        let mut documents = Vec::new();
        let mut sources = Vec::new();
        let mut left = copy.documents.iter();
        for source in &copy.sources {
            if words::heredoc(source, self.escape).is_none() {
                sources.push(self.word(source)?);
                continue;
            }
            let document = left.next().context("a here-document is missing")?;
            let mut document = document.clone();
            if document.expand {
                document.text = expand::document(&document.text, self.escape, &|name: &str| self.value(name))?;
            }
            documents.push(document);
        }
        let target = self.word(&copy.target)?;
        if target.is_empty() {
            bail!("the destination is empty; is a variable of it not set?");
        }
        let mut path = self.absolute(&target)?;
        let is_directory = target.ends_with('/') || matches!(target.rsplit('/').next(), Some("." | ".."));
        if is_directory && !path.ends_with('/') {
            path.push('/');
        }
        let option = |it: &Option<String>| it.as_ref().map(|it| self.word(it)).transpose();
        let copy = Copy {
            sources,
            documents: Vec::new(),
            chown: option(&copy.chown)?,
            chmod: option(&copy.chmod)?,
            checksum: option(&copy.checksum)?,
            exclude: copy.exclude.iter().map(|it| self.word(it)).collect::<Result<_>>()?,
            ..copy.clone()
        };
        if copy.sources.is_empty() && documents.is_empty() || copy.sources.iter().any(String::is_empty) {
            bail!("a source is empty; is a variable of it not set?");
        }
        Ok(CopyAction { add, copy, documents, target: path })
    }

    /// A path of the image: from the working directory on, cleaned.
    pub(super) fn absolute(&self, path: &str) -> Result<String> {
        if path.is_empty() {
            bail!("the path is empty; is a variable of it not set?");
        }
        if path.contains('\0') {
            bail!("the path {path:?} has a NUL in it");
        }
        Ok(units::clean(&if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", self.directory()) }))
    }
}

/// Flags as the history has them.
pub(super) fn flags_of(copy: &Copy) -> String {
    let mut flags = String::new();
    for (name, value) in [("from", &copy.from), ("chown", &copy.chown), ("chmod", &copy.chmod)] {
        if let Some(value) = value {
            flags += &format!("--{name}={value} ");
        }
    }
    flags
}
