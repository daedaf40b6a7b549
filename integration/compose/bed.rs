//! What the tests of projects share: a host with a directory of compose files.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

pub use crate::containers::{kill, until};
pub use crate::harness::Done;
pub use crate::hosts::Host;

/// A host, and a directory with the files of the project `p`. Containers and networks of it go with this value.
pub struct Project {
    pub host: Host,
    pub dir: PathBuf,
}

impl Project {
    /// A new one with the image `it`, and this as its compose.yaml.
    pub fn new(name: &str, text: &str) -> Self {
        let host = Host::new(&format!("compose-{name}"));
        let dir = host.bed.0.path("p");
        std::fs::create_dir(&dir).unwrap();
        let project = Self { host, dir };
        project.write("compose.yaml", text);
        project
    }

    /// Writes a file of its directory.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The command `bundle compose` with these words, in the directory.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&[&["compose"], words].concat());
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|it| it.starts_with("COMPOSE_")) {
                command.env_remove(name);
            }
        }
        command.current_dir(&self.dir);
        command
    }

    /// The same, to its end.
    pub fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).stdin(Stdio::null()), words)
    }

    /// The same with variables set.
    pub fn with(&self, variables: &[(&str, &str)], words: &[&str]) -> Done {
        Done::of(self.command(words).envs(variables.iter().copied()).stdin(Stdio::null()), words)
    }

    /// `compose ps -a` as objects, one a container.
    #[track_caller]
    pub fn ps(&self) -> Vec<Value> {
        let text = self.run(&["ps", "-a", "--format", "json"]).ok().out;
        text.lines().map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// The names of all containers with their ids.
    #[track_caller]
    pub fn ids(&self) -> Vec<(String, String)> {
        let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
        self.ps().iter().map(|it| (text(it, "Name"), text(it, "ID"))).collect()
    }

    /// What `compose config --format json` says.
    #[track_caller]
    pub fn config(&self, words: &[&str]) -> Value {
        let words = [words, &["config", "--format", "json"]].concat();
        self.run(&words).ok().json()
    }

    /// What a line of the shell says in a service's container.
    #[track_caller]
    pub fn exec(&self, service: &str, line: &str) -> String {
        self.run(&["exec", "-T", service, "sh", "-c", line]).ok().out
    }

    /// Nothing is left, on the host and in the store, after a `down --volumes`.
    #[track_caller]
    pub fn is_clean(&self) {
        assert_eq!(self.host.run(&["network", "ls", "-q"]).ok().out, "");
        assert_eq!(self.host.run(&["volume", "ls", "-q"]).ok().out, "");
        self.host.is_clean();
    }
}
