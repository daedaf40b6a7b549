//! What a Dockerfile says, typed. Values still have their variables in them.

/// One instruction.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    /// Where it begins, counted from 1.
    pub line: usize,
    /// The whole of it as one line, as people see it while it is done.
    pub text: String,
    /// What it says.
    pub kind: Kind,
}

impl Instruction {
    /// Its first word.
    pub fn word(&self) -> &'static str {
        match &self.kind {
            Kind::From { .. } => "FROM",
            Kind::Run(_) => "RUN",
            Kind::Copy(_) => "COPY",
            Kind::Add(_) => "ADD",
            Kind::Env(_) => "ENV",
            Kind::Arg(_) => "ARG",
            Kind::Workdir(_) => "WORKDIR",
            Kind::User(_) => "USER",
            Kind::Cmd(_) => "CMD",
            Kind::Entrypoint(_) => "ENTRYPOINT",
            Kind::Expose(_) => "EXPOSE",
            Kind::Volume(_) => "VOLUME",
            Kind::Label(_) => "LABEL",
            Kind::Healthcheck(_) => "HEALTHCHECK",
            Kind::Shell(_) => "SHELL",
            Kind::Stopsignal(_) => "STOPSIGNAL",
            Kind::Onbuild(_) => "ONBUILD",
            Kind::Maintainer(_) => "MAINTAINER",
        }
    }
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A new stage.
    From {
        /// An image, a stage before, or `scratch`.
        image: String,
        /// Its name, in lower case.
        name: Option<String>,
        /// `--platform`.
        platform: Option<String>,
    },
    /// A command in a container.
    Run(Run),
    /// Files into the image.
    Copy(Copy),
    /// The same; archives are unpacked, URLs fetched.
    Add(Copy),
    /// Variables.
    Env(Vec<(String, String)>),
    /// Variables of the build, with their defaults.
    Arg(Vec<(String, Option<String>)>),
    /// Where what follows happens.
    Workdir(String),
    /// Who does it.
    User(String),
    /// What a container runs.
    Cmd(Command),
    /// What goes before that.
    Entrypoint(Command),
    /// Ports.
    Expose(Vec<String>),
    /// Paths that are volumes.
    Volume(Vec<String>),
    /// Labels.
    Label(Vec<(String, String)>),
    /// How a container says that it is well.
    Healthcheck(Health),
    /// The shell of shell forms.
    Shell(Vec<String>),
    /// The signal that ends a container.
    Stopsignal(String),
    /// What is done in a build from this image.
    Onbuild(String),
    /// Who made it.
    Maintainer(String),
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The word that ends it, and the file's name.
    pub name: String,
    /// What stands before that word, tabs taken off where it was asked for.
    pub text: String,
    /// Whether variables in it are expanded (by COPY and ADD).
    pub expand: bool,
}

/// RUN.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// Its here-documents.
    pub documents: Vec<Document>,
    /// `--mount`, in order, as they stand there: see [`super::mount`].
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Option<Network>,
    /// `--security=insecure`.
    pub insecure: bool,
}

/// The network of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// That of the build.
    Default,
    /// Loopback alone.
    None,
    /// The host's.
    Host,
}

/// COPY and ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// What, in order; a word that begins with `<<` means the here-document of this place.
    pub sources: Vec<String>,
    /// Where to.
    pub target: String,
    /// The here-documents, in the order of their words.
    pub documents: Vec<Document>,
    /// `--from`.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
    /// `--checksum`, of ADD.
    pub checksum: Option<String>,
    /// `--keep-git-dir`, of ADD.
    pub keep_git: bool,
    /// `--unpack`, of ADD: whether archives are unpacked; none: local ones.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK: `Test` as Docker has it, times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The command; none for `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// `--interval`.
    pub interval: Option<u64>,
    /// `--timeout`.
    pub timeout: Option<u64>,
    /// `--start-period`.
    pub start_period: Option<u64>,
    /// `--start-interval`.
    pub start_interval: Option<u64>,
    /// `--retries`.
    pub retries: Option<u32>,
}
