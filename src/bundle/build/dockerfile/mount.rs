//! `RUN --mount=type=...`: what it says.

use anyhow::{Context, Result, bail};

use crate::container::units;

/// `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where.
    pub target: Option<String>,
    /// Whether it may not be written to.
    pub read_only: bool,
}

/// What `RUN --mount` mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image. What is written to it is lost.
    Bind {
        /// A stage, an image or a named context; none: the context.
        from: Option<String>,
        /// A path there.
        source: String,
    },
    /// A directory that builds share.
    Cache {
        /// Which one; none: the target's.
        id: Option<String>,
        /// What is in it at first.
        from: Option<String>,
        /// A path there.
        source: String,
        /// Who may have it at once.
        sharing: Sharing,
        /// Of the directory.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// In bytes.
        size: Option<u64>,
    },
    /// A file of the caller's that is in no layer.
    Secret {
        /// Which one.
        id: String,
        /// An environment variable that has it.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// Of the file.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A socket of the caller's agent.
    Ssh {
        /// Which one.
        id: String,
        /// Whether the build fails without it.
        required: bool,
        /// Of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Who may have a cache at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Each has one alone; a second one is made.
    Private,
    /// One waits for the other.
    Locked,
}

/// Splits at commas; a part, or its value, that stands in double quotes may have commas (RFC 4180, as Docker reads it).
fn parts(text: &str) -> Result<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(it) = letters.next() {
        let last = parts.len() - 1;
        match it {
            '"' if quoted && letters.peek() == Some(&'"') => parts[last].extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            it => parts[last].push(it),
        }
    }
    if quoted {
        bail!("a quote is not closed");
    }
    Ok(parts)
}

/// The stage, image or context that a mount takes files from.
pub fn from(text: &str) -> Option<String> {
    let parts = parts(text).ok()?;
    parts.iter().find_map(|it| it.strip_prefix("from=")).map(str::to_owned)
}

/// Replaces each value by what `change` makes of it.
pub fn map_values(text: &str, mut change: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut out = Vec::new();
    for part in parts(text)? {
        let part = match part.split_once('=') {
            Some((key, value)) => format!("{key}={}", change(value)?),
            None => part,
        };
        out.push(if part.contains([',', '"']) { format!("\"{}\"", part.replace('"', "\"\"")) } else { part });
    }
    Ok(out.join(","))
}

/// Reads the words behind `--mount=`, variables expanded.
pub fn parse(text: &str) -> Result<Mount> {
    let wrong = || format!("--mount={text}");
    let parts = parts(text).with_context(wrong)?;
    let pairs: Vec<(String, Option<String>)> = parts
        .iter()
        .map(|it| match it.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value.to_owned())),
            None => (it.to_ascii_lowercase(), None),
        })
        .collect();
    let kind = pairs.iter().find(|it| it.0 == "type").and_then(|it| it.1.as_deref()).unwrap_or("bind").to_owned();
    let mut options = Options { kind: kind.clone(), ..Options::default() };
    for (key, value) in pairs.iter().filter(|it| it.0 != "type") {
        options.take(key, value.as_deref()).with_context(wrong)?;
    }
    options.mount().with_context(wrong)
}

#[derive(Default)]
struct Options {
    kind: String,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    env: Option<String>,
    sharing: Option<Sharing>,
    read_only: Option<bool>,
    required: Option<bool>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Options {
    fn take(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let kinds: &[&str] = match key {
            "target" | "dst" | "destination" => &["bind", "cache", "tmpfs", "secret", "ssh"],
            "source" | "src" => &["bind", "cache", "secret"],
            "from" | "readonly" | "ro" | "readwrite" | "rw" => &["bind", "cache"],
            "sharing" => &["cache"],
            "size" => &["tmpfs"],
            "required" => &["secret", "ssh"],
            "id" | "mode" | "uid" | "gid" => &["cache", "secret", "ssh"],
            "env" => &["secret"],
            other => bail!("{other:?} is no option of a mount"),
        };
        if !["bind", "cache", "tmpfs", "secret", "ssh"].contains(&self.kind.as_str()) {
            bail!("type={}: known are bind, cache, tmpfs, secret and ssh", self.kind);
        }
        if !kinds.contains(&self.kind.as_str()) {
            bail!("{key} is no option of type={}", self.kind);
        }
        let needed = || value.with_context(|| format!("{key} wants a value"));
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => bail!("{key}={other}: neither true nor false"),
        };
        match key {
            "target" | "dst" | "destination" => self.target = Some(needed()?.to_owned()),
            "source" | "src" => self.source = Some(needed()?.to_owned()),
            "from" => self.from = Some(needed()?.to_owned()),
            "readonly" | "ro" => self.read_only = Some(truth()?),
            "readwrite" | "rw" => self.read_only = Some(!truth()?),
            "id" => self.id = Some(needed()?.to_owned()),
            "env" => self.env = Some(needed()?.to_owned()),
            "required" => self.required = Some(truth()?),
            "size" => self.size = Some(units::bytes(needed()?).context("size")?),
            "sharing" => {
                self.sharing = Some(match needed()? {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => bail!("sharing={other}: known are shared, private and locked"),
                });
            }
            "mode" => {
                let value = needed()?;
                let mode = u32::from_str_radix(value, 8).ok().filter(|it| *it <= 0o7777);
                self.mode = Some(mode.with_context(|| format!("mode={value}: no octal mode such as 0400"))?);
            }
            _ => {
                let value = needed()?;
                let id = value.parse().ok().filter(|it| *it < u32::MAX);
                let id = Some(id.with_context(|| format!("{key}={value}: no number of a user or group"))?);
                if key == "uid" { self.uid = id } else { self.gid = id }
            }
        }
        Ok(())
    }

    fn mount(self) -> Result<Mount> {
        let target = self.target.as_deref();
        let needs_target = || match target {
            Some(it) if !it.is_empty() => Ok(()),
            _ => bail!("type={} wants a target", self.kind),
        };
        let (uid, gid) = (self.uid.unwrap_or(0), self.gid.unwrap_or(0));
        let base = |text: &str| text.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let (kind, read_only) = match self.kind.as_str() {
            "bind" => {
                needs_target()?;
                let kind = MountKind::Bind { from: self.from, source: self.source.unwrap_or_else(|| "/".to_owned()) };
                (kind, self.read_only.unwrap_or(true))
            }
            "cache" => {
                needs_target()?;
                let kind = MountKind::Cache {
                    id: self.id,
                    from: self.from,
                    source: self.source.unwrap_or_else(|| "/".to_owned()),
                    sharing: self.sharing.unwrap_or(Sharing::Shared),
                    mode: self.mode.unwrap_or(0o755),
                    uid,
                    gid,
                };
                (kind, self.read_only.unwrap_or(false))
            }
            "tmpfs" => {
                needs_target()?;
                (MountKind::Tmpfs { size: self.size }, false)
            }
            "secret" => {
                let id = self.id.or(self.source).or_else(|| target.map(base)).filter(|it| !it.is_empty());
                let id = id.context("type=secret wants an id, or a target whose last part is one")?;
                let (mode, required) = (self.mode.unwrap_or(0o400), self.required.unwrap_or(false));
                (MountKind::Secret { id, env: self.env, required, mode, uid, gid }, true)
            }
            "ssh" => {
                let id = self.id.unwrap_or_else(|| "default".to_owned());
                let (mode, required) = (self.mode.unwrap_or(0o600), self.required.unwrap_or(false));
                (MountKind::Ssh { id, required, mode, uid, gid }, true)
            }
            other => bail!("type={other}: known are bind, cache, tmpfs, secret and ssh"),
        };
        Ok(Mount { kind, target: self.target, read_only })
    }
}
