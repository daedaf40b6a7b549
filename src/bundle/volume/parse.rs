//! One flag to one mount. Only words are looked at here, nothing of the machine.

use anyhow::{Context, Result, bail};

use super::{Mount, New, Source, options};
use crate::container::units;

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];
const SECURE: [&str; 3] = ["nosuid", "nodev", "noexec"];

/// A volume that has no name yet.
const NAMELESS: &str = "";

/// `-v [SOURCE:]PATH[:OPTIONS]`. A volume without a name is left nameless.
pub fn volume(text: &str) -> Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, words) = match parts[..] {
        [path] => (None, path, ""),
        [source, path] => (Some(source), path, ""),
        [source, path, words] => (Some(source), path, words),
        _ => bail!("not of the form [SOURCE:]PATH[:OPTIONS]; a path with `:` in it can be given by --mount"),
    };
    if parts.len() == 3 && words.is_empty() {
        bail!("no options behind the second `:`");
    }
    let path = destination(path)?;
    let mut mount = match source {
        None => nameless(path),
        Some("") => bail!("no source before the `:`"),
        Some(source) if source.starts_with('/') => Mount::of(bind(source)?, path),
        Some(source) if source.starts_with('.') || source.contains('/') => {
            bail!("the source {source:?} is a relative path: give an absolute one, such as \"$PWD/{source}\"")
        }
        Some(source) => Mount::of(named(name(source)?), path),
    };
    let mut seen: Vec<&str> = Vec::new();
    for word in words.split(',').filter(|_| !words.is_empty()) {
        if seen.contains(&kind_of(word)) {
            bail!("option {word:?}: it is given twice, or against another one");
        }
        seen.push(kind_of(word));
        self::word(&mut mount, word)?;
    }
    Ok(mount)
}

/// What kind of an option a word is: of each kind there is one.
fn kind_of(word: &str) -> &str {
    match word {
        "ro" | "rw" => "access",
        "z" | "Z" => "label",
        "bind" | "rbind" => "depth",
        it if PROPAGATIONS.contains(&it) => "propagation",
        it => it,
    }
}

fn word(mount: &mut Mount, word: &str) -> Result<()> {
    match (word, &mut mount.source) {
        ("ro", _) => mount.read_only = true,
        ("rw", _) => {}
        ("z" | "Z", _) => relabel(word)?,
        ("U", _) => mount.chown = true,
        (it, _) if SECURE.contains(&it) => mount.options.push(it.to_owned()),
        ("nocopy", Source::Volume { copy, .. }) => *copy = false,
        ("bind", Source::Bind { recursive, .. }) => *recursive = false,
        ("rbind", Source::Bind { recursive, .. }) => *recursive = true,
        (it, Source::Bind { .. }) if PROPAGATIONS.contains(&it) => mount.propagation = Some(it.to_owned()),
        ("nocopy", _) => bail!("option \"nocopy\": only a volume is filled from the image"),
        (it, _) if PROPAGATIONS.contains(&it) || it == "bind" || it == "rbind" => {
            bail!("option {it:?}: only for a directory of the host")
        }
        (it, _) => bail!(
            "option {it:?} is not known; known are ro, rw, z, Z, U, nocopy, nosuid, nodev, noexec, bind, rbind, {}",
            PROPAGATIONS.join(", ")
        ),
    }
    Ok(())
}

/// Without SELinux there is nothing to label.
fn relabel(word: &str) -> Result<()> {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        bail!(
            "option {word:?}: this tool labels no files for SELinux: use chcon -Rt container_file_t, or --security-opt label=disable"
        );
    }
    Ok(())
}

/// A volume without a name at a place that is good.
pub fn nameless(destination: String) -> Mount {
    Mount::of(named(NAMELESS), destination)
}

/// `--tmpfs DIR[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<Mount> {
    let (path, words) = text.split_once(':').unwrap_or((text, ""));
    let options: Vec<String> = words.split(',').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    for option in &options {
        options::tmpfs_option(option)?;
    }
    Ok(Mount::of(Source::Tmpfs { options }, destination(path)?))
}

/// The fields of `--mount`, whatever the type.
#[derive(Default)]
struct Fields {
    source: Option<String>,
    destination: Option<String>,
    read_only: bool,
    chown: bool,
    propagation: Option<String>,
    non_recursive: bool,
    recursive_access: Option<String>,
    no_copy: bool,
    subpath: Option<String>,
    new: New,
    tmpfs: Vec<String>,
}

/// `--mount type=bind,source=...,destination=...`.
pub fn mount(text: &str) -> Result<Mount> {
    let mut kind = "volume".to_owned();
    let mut fields = Fields::default();
    // Which fields belong to one type only, to tell who uses one of another.
    let mut own: Vec<(&str, String)> = Vec::new();
    for field in comma_separated(text)? {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.to_ascii_lowercase();
        let text =
            || value.filter(|it| !it.is_empty()).with_context(|| format!("{key:?} needs a value")).map(str::to_owned);
        let truth = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => bail!("{key}={other}: true or false"),
        };
        if let Some((of, _)) = key.split_once('-').filter(|(of, _)| matches!(*of, "bind" | "volume" | "tmpfs")) {
            own.push((
                if of == "bind" {
                    "bind"
                } else if of == "volume" {
                    "volume"
                } else {
                    "tmpfs"
                },
                key.clone(),
            ));
        }
        match key.as_str() {
            "type" => kind = text()?.to_ascii_lowercase(),
            "source" | "src" => fields.source = Some(text()?),
            "target" | "dst" | "destination" => fields.destination = Some(text()?),
            "readonly" | "ro" => fields.read_only = truth()?,
            "u" | "chown" => fields.chown = truth()?,
            "bind-propagation" => fields.propagation = Some(text()?),
            "bind-nonrecursive" => fields.non_recursive = truth()?,
            "bind-recursive" => fields.recursive_access = Some(text()?),
            "volume-nocopy" => fields.no_copy = truth()?,
            "volume-subpath" => fields.subpath = Some(text()?),
            "volume-driver" if value == Some("local") => {}
            "volume-driver" => bail!("{field}: there is only the driver local"),
            "volume-opt" | "volume-label" => {
                let pair = text()?;
                let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
                let into = if key == "volume-opt" { &mut fields.new.options } else { &mut fields.new.labels };
                into.insert(name.to_owned(), value.to_owned());
            }
            "tmpfs-size" => fields.tmpfs.push(format!("size={}", units::bytes(&text()?).context("tmpfs-size")?)),
            "tmpfs-mode" => fields.tmpfs.push(format!("mode={}", text()?)),
            // Docker's hint for other machines.
            "consistency" => {}
            _ => bail!(
                "{field:?} is not known; known are type, source, destination, readonly, chown, bind-propagation, \
                 bind-nonrecursive, bind-recursive, volume-nocopy, volume-subpath, volume-opt, volume-label, tmpfs-size, \
                 tmpfs-mode"
            ),
        }
    }
    if let Some((_, key)) = own.iter().find(|(of, _)| *of != kind) {
        bail!("{key} is not for type={kind}");
    }
    fields.mount(&kind)
}

impl Fields {
    fn mount(self, kind: &str) -> Result<Mount> {
        let path = destination(self.destination.as_deref().context("destination is missing")?)?;
        let source = match kind {
            "bind" => {
                let source = self.source.as_deref().context("source is missing, which type=bind needs")?;
                if !source.starts_with('/') {
                    bail!("the source {source:?} is a relative path: give an absolute one, such as \"$PWD/{source}\"");
                }
                self.bind(source)?
            }
            "volume" => {
                options::local(&self.new.options)?;
                let name = self.source.as_deref().map_or(Ok(NAMELESS), name)?;
                let subpath = self.subpath.as_deref().map(subpath).transpose()?;
                if subpath.is_some() && name.is_empty() {
                    bail!("volume-subpath: only of a volume with a name");
                }
                Source::Volume {
                    name: name.to_owned(),
                    anonymous: name.is_empty(),
                    // What is below a directory of a volume is its owner's to fill.
                    copy: !self.no_copy && subpath.is_none(),
                    subpath,
                    new: self.new,
                }
            }
            "tmpfs" => {
                if let Some(source) = &self.source {
                    bail!("source={source}: a tmpfs has none");
                }
                for option in &self.tmpfs {
                    options::tmpfs_option(option)?;
                }
                Source::Tmpfs { options: self.tmpfs }
            }
            other => bail!("type={other}: known are bind, volume and tmpfs"),
        };
        let propagation = match self.propagation {
            Some(it) if !PROPAGATIONS.contains(&it.as_str()) => {
                bail!("bind-propagation={it}: known are {}", PROPAGATIONS.join(", "))
            }
            other => other,
        };
        Ok(Mount {
            source,
            destination: path,
            read_only: self.read_only,
            propagation,
            options: Vec::new(),
            chown: self.chown,
        })
    }

    fn bind(&self, source: &str) -> Result<Source> {
        let mut bound = bind(source)?;
        let Source::Bind { recursive, writable_below, .. } = &mut bound else { unreachable!("a bind is one") };
        if self.non_recursive {
            *recursive = false;
        }
        match self.recursive_access.as_deref() {
            None | Some("enabled" | "true" | "1") => {}
            Some("disabled" | "false" | "0") => *recursive = false,
            Some(it @ ("writable" | "readonly")) => {
                if !self.read_only {
                    bail!("bind-recursive={it}: only together with readonly");
                }
                *writable_below = it == "writable";
            }
            Some(other) => bail!("bind-recursive={other}: known are enabled, disabled, writable and readonly"),
        }
        Ok(bound)
    }
}

/// The fields of a line: `,` between them, `"` around one that has a `,` in it, `""` for a `"` in there (RFC 4180).
fn comma_separated(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let (part, behind) = quoted.split_once('"').context("a \" without its second one")?;
                field += part;
                let Some(more) = behind.strip_prefix('"') else {
                    rest = behind;
                    break;
                };
                field.push('"');
                quoted = more;
            }
            if !rest.is_empty() && !rest.starts_with(',') {
                bail!("behind a second \" is something else than a comma");
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field += &rest[..end];
            rest = &rest[end..];
            if field.contains('"') {
                bail!("a \" in the middle of {field:?}: it goes around the whole field");
            }
        }
        if field.is_empty() {
            bail!("a field is empty");
        }
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Ok(fields),
        }
    }
}

/// Where something is mounted, cleaned.
pub fn destination(text: &str) -> Result<String> {
    if !text.starts_with('/') || text.contains('\0') {
        bail!("{text:?} is not an absolute path in the container");
    }
    let clean = units::clean(text);
    if clean == "/" {
        bail!("nothing can be mounted over / of a container");
    }
    Ok(clean)
}

/// Docker's rule for names of volumes.
pub fn name(text: &str) -> Result<&str> {
    let first = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    let rest = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_.-".contains(&it));
    if !first || !rest || text.len() < 2 || text.len() > 200 {
        bail!(
            "{text:?} is no name of a volume: 2 to 200 letters, digits, '_', '.' and '-', the first a letter or a digit; a directory of the host begins with /"
        );
    }
    Ok(text)
}

fn subpath(text: &str) -> Result<String> {
    if text.starts_with('/') || text.contains('\0') || text.split('/').any(|it| it == "..") {
        bail!("volume-subpath={text}: a path below the volume, without `..`");
    }
    Ok(units::clean(text).trim_start_matches('/').to_owned())
}

fn bind(path: &str) -> Result<Source> {
    if path.contains('\0') {
        bail!("a NUL is in the source {path:?}");
    }
    Ok(Source::Bind { path: units::clean(path), recursive: true, writable_below: false })
}

fn named(name: &str) -> Source {
    Source::Volume { name: name.to_owned(), anonymous: name.is_empty(), subpath: None, copy: true, new: New::default() }
}
