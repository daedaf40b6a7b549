//! Secrets and configs: which files a service's containers see, and what is in those that are no file of the host.

use std::io::Read;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::model::{Content, FileUse, Project, Service};
use crate::container::record::Given;

/// The largest content that is copied, in bytes: Docker's limit of a config.
const LARGEST: u64 = 1000 << 10;

/// One of them in a service.
pub struct Use<'a> {
    /// How the service asks for it.
    pub by: &'a FileUse,
    /// Where its content is.
    pub content: &'a Content,
    secret: bool,
}

/// All of a service.
pub fn uses<'a>(project: &'a Project, service: &'a Service) -> impl Iterator<Item = Use<'a>> {
    let of = |list: &'a [FileUse], there: &'a std::collections::BTreeMap<String, Content>, secret| {
        list.iter().filter_map(move |by| Some(Use { by, content: there.get(&by.source)?, secret }))
    };
    of(&service.secrets, &project.parts.secrets, true).chain(of(&service.configs, &project.parts.configs, false))
}

impl Use<'_> {
    /// Where it is in the container.
    pub fn target(&self) -> String {
        let target = self.by.target.as_deref().unwrap_or(&self.by.source);
        match (target.starts_with('/'), self.secret) {
            (true, _) => target.to_owned(),
            (false, true) => format!("/run/secrets/{target}"),
            (false, false) => format!("/{target}"),
        }
    }

    /// Whether it lies in no file that could be mounted, or has to have another owner or mode than that.
    pub fn is_copied(&self) -> bool {
        self.content.file.is_none() || self.by.uid.is_some() || self.by.gid.is_some() || self.by.mode.is_some()
    }
}

/// Those that are copied into a service's containers.
pub fn given(project: &Project, service: &Service) -> Result<Vec<Given>> {
    uses(project, service).filter(Use::is_copied).map(|it| one(project, &it)).collect()
}

fn one(project: &Project, it: &Use<'_>) -> Result<Given> {
    let told = || if it.secret { format!("secret {}", it.by.source) } else { format!("config {}", it.by.source) };
    let content = match (&it.content.text, &it.content.environment, &it.content.file) {
        (Some(text), ..) => text.clone().into_bytes(),
        (None, Some(name), _) => {
            let value = project.environment.get(name);
            value.with_context(|| format!("{}: the variable {name} is not set", told()))?.clone().into_bytes()
        }
        (None, None, file) => {
            let path = file.as_deref().unwrap_or_default();
            bounded(path).with_context(|| format!("{}: reading {path}", told()))?
        }
    };
    let id = |text: &Option<String>| text.as_ref().and_then(|it| it.parse().ok()).unwrap_or(0);
    Ok(Given {
        path: it.target(),
        content,
        mode: it.by.mode.unwrap_or(0o444),
        uid: id(&it.by.uid),
        gid: id(&it.by.gid),
    })
}

/// A file's bytes, not too many of them.
fn bounded(path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        bail!("it has more than {LARGEST} bytes: mount it under volumes");
    }
    Ok(bytes)
}

/// Fingerprints of what is copied: a changed one means new containers.
pub fn fingerprints(given: &[Given]) -> Vec<String> {
    let one = |it: &Given| {
        let digest: String = Sha256::digest(&it.content).iter().map(|it| format!("{it:02x}")).collect();
        format!("{}={digest}", it.path)
    };
    given.iter().map(one).collect()
}
