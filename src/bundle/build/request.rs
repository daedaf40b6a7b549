//! The command line to a checked request: all flags are read before anything is made.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::inline;
use crate::cli::build::Build;
use crate::cli::flags::Flags;
use crate::container::{spec, units};
use crate::image::Reference;
use crate::image::config::Execution;
use crate::image::manifest::Platform;

/// The largest secret, in bytes: BuildKit's limit.
const LARGEST_SECRET: u64 = 500 << 10;

/// A secret. Its value is nowhere but in memory.
pub struct Secret {
    /// What RUN calls it.
    pub id: String,
    /// What it is.
    pub value: Vec<u8>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "Secret({})", self.id)
    }
}

/// Where the result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The store.
    Image,
    /// An archive of the image.
    Archive(Form, Destination),
    /// A tar of its files.
    Tar(Destination),
    /// Its files.
    Local(PathBuf),
}

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OCI layout.
    Oci,
    /// Docker's.
    Docker,
}

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

/// Another tree by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A directory.
    Directory(PathBuf),
    /// An image.
    Image(String),
}

/// What `--cache-from` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// An image.
    Image(String),
    /// Another builder's kind of cache.
    Other(String),
}

impl fmt::Display for CacheSource {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(name) => to.write_str(name),
            Self::Other(kind) => write!(to, "type={kind}"),
        }
    }
}

/// All that is asked for.
pub struct Request {
    /// Names of the image.
    pub names: Vec<Reference>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// What is built for.
    pub platform: Platform,
    /// Whether that was asked for.
    pub platform_given: bool,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// `--ssh`.
    pub agents: Vec<(String, PathBuf)>,
    /// `--build-context`.
    pub contexts: BTreeMap<String, Named>,
    /// `--cache-from`.
    pub cache_from: Vec<CacheSource>,
    /// Whether the image is to tell of its steps.
    pub inline_cache: bool,
    /// Flags of RUN's containers, checked.
    pub flags: Flags,
    /// `--allow network.host`.
    pub allow_host: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// Where to.
    pub outputs: Vec<Output>,
    /// SOURCE_DATE_EPOCH: the time in all that is made, in seconds since 1970.
    pub epoch: Option<i64>,
}

impl Request {
    /// Reads the flags. `plain_user`: not root's rights.
    pub fn new(args: &Build, plain_user: bool) -> Result<Self> {
        let mut outputs = Vec::new();
        let mut names: Vec<String> = args.tag.clone();
        for text in &args.output {
            outputs.push(output(text, &mut names).with_context(|| format!("--output {text}"))?);
        }
        if outputs
            .iter()
            .filter(|it| matches!(it, Output::Tar(Destination::Stdout) | Output::Archive(_, Destination::Stdout)))
            .count()
            > 1
        {
            bail!("--output: only one result can go to the standard output");
        }
        if outputs.is_empty() {
            outputs.push(Output::Image);
        }
        let names = names.iter().map(|it| name(it)).collect::<Result<Vec<_>>>()?;
        let build_args = build_args(&args.build_arg)?;
        let epoch = match build_args.get("SOURCE_DATE_EPOCH").cloned() {
            Some(text) => Some(text),
            None => std::env::var("SOURCE_DATE_EPOCH").ok(),
        };
        let number = |text: &String| text.parse::<i64>().ok().filter(|it| *it >= 0);
        let epoch = epoch
            .map(|text| number(&text).with_context(|| format!("SOURCE_DATE_EPOCH {text:?}: no number of seconds")))
            .transpose()?;
        let platform = match &args.platform {
            Some(text) => Platform::parse(text).context("--platform")?,
            None => Platform::host(),
        };
        let (mut allow_host, mut allow_insecure) = (false, false);
        for it in &args.allow {
            match it.as_str() {
                "network.host" => allow_host = true,
                "security.insecure" => allow_insecure = true,
                other => bail!("--allow {other}: known are network.host and security.insecure"),
            }
        }
        Ok(Self {
            names,
            labels: units::labels(&args.label).context("--label")?,
            secrets: args.secret.iter().map(|it| secret(it)).collect::<Result<_>>()?,
            agents: args.ssh.iter().map(|it| agent(it)).collect::<Result<_>>()?,
            contexts: args.build_context.iter().map(|it| named(it)).collect::<Result<_>>()?,
            cache_from: args.cache_from.iter().map(|it| cache_from(it)).collect::<Result<Vec<_>>>()?.concat(),
            inline_cache: build_args.get(inline::ARG).map_or(Ok(false), |it| inline::wanted(it))?,
            flags: flags(args, plain_user)?,
            args: build_args,
            platform,
            platform_given: args.platform.is_some(),
            allow_host: allow_host || args.network.as_deref() == Some("host"),
            allow_insecure,
            outputs,
            epoch,
        })
    }
}

/// A name that an image can get.
fn name(text: &str) -> Result<Reference> {
    let name: Reference = text.parse().with_context(|| format!("--tag {text}"))?;
    if name.digest.is_some() {
        bail!("--tag {text}: a digest is no name that an image can be given");
    }
    Ok(name)
}

fn build_args(list: &[String]) -> Result<BTreeMap<String, String>> {
    let mut args = BTreeMap::new();
    for text in list {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        if name.is_empty() {
            bail!("--build-arg {text}: not of the form NAME[=VALUE]");
        }
        if let Some(value) = value {
            args.insert(name.to_owned(), value);
        }
    }
    Ok(args)
}

/// The flags of RUN's containers.
fn flags(args: &Build, plain_user: bool) -> Result<Flags> {
    let network = match args.network.as_deref() {
        None | Some("default") => Vec::new(),
        Some(other) => vec![other.to_owned()],
    };
    let flags = Flags {
        network,
        add_host: args.add_host.clone(),
        shm_size: args.shm_size.clone(),
        ulimit: args.ulimit.clone(),
        memory: args.memory.clone(),
        cpu_shares: args.cpu_shares,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        security_opt: args.security_opt.clone(),
        ..Flags::default()
    };
    spec::check(&Execution::default(), &flags, plain_user)
}

fn pairs(text: &str) -> Result<Vec<(&str, &str)>> {
    text.split(',')
        .map(|it| it.split_once('=').with_context(|| format!("{it:?} is not of the form KEY=VALUE")))
        .collect()
}

fn output(text: &str, names: &mut Vec<String>) -> Result<Output> {
    if text == "-" {
        return Ok(Output::Tar(Destination::Stdout));
    }
    if !text.contains('=') {
        return Ok(Output::Local(PathBuf::from(text)));
    }
    let (mut kind, mut dest) = (None, None);
    for (key, value) in pairs(text)? {
        match key {
            "type" => kind = Some(value),
            "dest" => dest = Some(value),
            "name" => names.push(value.to_owned()),
            other => bail!("{other:?}: known are type, dest and name"),
        }
    }
    let stream = || match dest {
        None | Some("-") => Destination::Stdout,
        Some(path) => Destination::File(path.into()),
    };
    Ok(match kind {
        Some("image" | "docker") if dest.is_none() => Output::Image,
        Some("image") => bail!("type=image has no dest: it goes to the store"),
        Some("docker") => Output::Archive(Form::Docker, stream()),
        Some("oci") => Output::Archive(Form::Oci, stream()),
        Some("tar") => Output::Tar(stream()),
        Some("local") => Output::Local(dest.filter(|it| !it.is_empty()).context("type=local wants a dest")?.into()),
        Some(other) => bail!("type={other}: known are image, docker, oci, tar and local"),
        None => bail!("a type is missing"),
    })
}

fn secret(text: &str) -> Result<Secret> {
    let told = || format!("--secret {text}");
    let (mut id, mut src, mut env, mut kind) = (None, None, None, None);
    for (key, value) in pairs(text).with_context(told)? {
        match key {
            "id" => id = Some(value),
            "src" | "source" => src = Some(value),
            "env" => env = Some(value),
            "type" if matches!(value, "file" | "env") => kind = Some(value),
            other => bail!("{}: {other:?}: known are id, src, env and type=file|env", told()),
        }
    }
    let id = id.filter(|it| !it.is_empty()).with_context(|| format!("{}: an id is missing", told()))?;
    // Docker's default: a variable of that name, or a file.
    let variable = match (src, env, kind) {
        (Some(_), Some(_), _) => bail!("{}: src and env exclude each other", told()),
        (None, Some(env), _) => Some(env),
        (src, None, Some("env")) => Some(src.unwrap_or(id)),
        (None, None, None) if std::env::var_os(id).is_some() => Some(id),
        _ => None,
    };
    let value = if let Some(name) = variable {
        use std::os::unix::ffi::OsStringExt;
        std::env::var_os(name).with_context(|| format!("{}: the variable {name} is not set", told()))?.into_vec()
    } else {
        let path = src.unwrap_or(id);
        let mut value = Vec::new();
        let file = File::open(path).with_context(|| format!("{}: {path}", told()))?;
        file.take(LARGEST_SECRET + 1).read_to_end(&mut value).with_context(|| format!("{}: {path}", told()))?;
        value
    };
    if value.len() as u64 > LARGEST_SECRET {
        bail!("{}: it is larger than {LARGEST_SECRET} bytes", told());
    }
    Ok(Secret { id: id.to_owned(), value })
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (id, socket) = if let Some((id, socket)) = text.split_once('=') {
        (id, PathBuf::from(socket))
    } else {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|it| !it.is_empty());
        let socket = socket.with_context(|| format!("--ssh {text}: SSH_AUTH_SOCK is not set: is an agent running?"))?;
        (text, PathBuf::from(socket))
    };
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::metadata(&socket).with_context(|| format!("--ssh {text}: {}", socket.display()))?;
    if !is_socket.file_type().is_socket() {
        bail!("--ssh {text}: {} is no agent's socket; load keys into an agent by ssh-add", socket.display());
    }
    Ok((id.to_owned(), socket))
}

/// Names of images, or one source as `type=registry,ref=IMAGE`. Empty names are nobody's: of a variable that is not set.
fn cache_from(text: &str) -> Result<Vec<CacheSource>> {
    let told = || format!("--cache-from {text}");
    if !text.contains('=') {
        let names = text.split(',').filter(|it| !it.is_empty());
        return Ok(names.map(|it| CacheSource::Image(it.to_owned())).collect());
    }
    let fields = pairs(text).with_context(told)?;
    let value = |key: &str| fields.iter().rfind(|it| it.0 == key).map(|it| it.1);
    match (value("type"), value("ref")) {
        (Some("registry"), Some(name)) if !name.is_empty() => Ok(vec![CacheSource::Image(name.to_owned())]),
        (Some("registry"), _) => bail!("{}: a ref is missing", told()),
        (Some(kind), _) => Ok(vec![CacheSource::Other(kind.to_owned())]),
        (None, _) => bail!("{}: a type is missing", told()),
    }
}

fn named(text: &str) -> Result<(String, Named)> {
    let (name, value) = text
        .split_once('=')
        .filter(|it| !it.0.is_empty() && !it.1.is_empty())
        .with_context(|| format!("--build-context {text}: not of the form NAME=DIR or NAME=docker-image://IMAGE"))?;
    let value = match value.strip_prefix("docker-image://") {
        Some(image) => {
            image.parse::<Reference>().with_context(|| format!("--build-context {text}"))?;
            Named::Image(image.to_owned())
        }
        None if value.contains("://") => {
            bail!("--build-context {text}: known are directories and docker-image://IMAGE")
        }
        None => {
            let path = PathBuf::from(value);
            if !path.is_dir() {
                bail!("--build-context {text}: {value} is no directory");
            }
            Named::Directory(path)
        }
    };
    Ok((name.to_ascii_lowercase(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let read = |text: &str| output(text, &mut Vec::new());
        assert_eq!(read("-").unwrap(), Output::Tar(Destination::Stdout));
        assert_eq!(read("out").unwrap(), Output::Local("out".into()));
        assert_eq!(read("type=local,dest=a").unwrap(), Output::Local("a".into()));
        assert_eq!(read("type=oci,dest=a").unwrap(), Output::Archive(Form::Oci, Destination::File("a".into())));
        assert_eq!(read("type=docker").unwrap(), Output::Image);
        assert_eq!(read("type=tar,dest=-").unwrap(), Output::Tar(Destination::Stdout));
        let mut names = Vec::new();
        assert_eq!(output("type=image,name=x", &mut names).unwrap(), Output::Image);
        assert_eq!(names, ["x"]);
        for bad in ["type=x", "type=local", "dest=a", "type=oci,x=y", "type=image,dest=a", "type"] {
            assert!(bad == "type" || read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn caches_are_read() {
        let image = |name: &str| CacheSource::Image(name.to_owned());
        assert_eq!(cache_from("a:1").unwrap(), [image("a:1")]);
        assert_eq!(cache_from("a:1,b.test/c@sha256:0").unwrap(), [image("a:1"), image("b.test/c@sha256:0")]);
        assert_eq!(cache_from("type=registry,ref=b.test:5000/c").unwrap(), [image("b.test:5000/c")]);
        assert_eq!(cache_from("ref=a,mode=max,type=registry").unwrap(), [image("a")]);
        assert_eq!(cache_from("type=local,src=/x").unwrap(), [CacheSource::Other("local".to_owned())]);
        assert_eq!(cache_from("").unwrap(), []);
        for bad in ["type=registry", "type=registry,ref=", "ref=a", "type=registry,a"] {
            assert!(cache_from(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret { id: "x".into(), value: b"hidden".to_vec() };
        assert_eq!(format!("{secret:?}"), "Secret(x)");
        for bad in [
            "src=x",
            "id=,src=x",
            "id=a,src=/does/not/exist",
            "id=a,env=NO_SUCH_VARIABLE_HERE",
            "id=a,src=b,env=c",
            "id",
        ] {
            assert!(super::secret(bad).is_err(), "{bad}");
        }
    }
}
