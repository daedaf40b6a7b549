//! What is generated works: bash completes, the man pages are there for each command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that goes with the test.
struct Out(PathBuf);

impl Out {
    fn new(name: &str) -> Out {
        let path = std::env::temp_dir().join(format!("rt-test-generate-{name}-{}", std::process::id()));
        let status = Command::new(env!("CARGO_BIN_EXE_generate")).arg(&path).status().unwrap();
        assert!(status.success());
        Out(path)
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What bash offers for the words of a command line, the last of which is being typed.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let script = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
        _rt rt \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = folder.join("completions/rt.bash");
    let output = Command::new("bash").args(["--norc", "-c", script, "bash"]).arg(file).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes() {
    let out = Out::new("bash");
    assert_eq!(completed(&out.0, &["rt", "st"]), ["start", "state"]);
    assert_eq!(completed(&out.0, &["rt", "create", "--no-p"]), ["--no-pivot"]);
    assert_eq!(completed(&out.0, &["rt", "list", "--format", "j"]), ["json"]);
}

#[test]
fn zsh_and_fish_know_the_commands() {
    let out = Out::new("shells");
    for file in ["_rt", "rt.fish"] {
        let text = std::fs::read_to_string(out.0.join("completions").join(file)).unwrap();
        assert!(text.contains("features"), "{file}");
        assert!(text.contains("timeline"), "{file}");
    }
}

#[test]
fn every_command_has_a_man_page() {
    let out = Out::new("man");
    for command in ["rt", "rt-create", "rt-start", "rt-exec", "rt-update", "rt-delete", "rt-plan"] {
        let text = std::fs::read_to_string(out.0.join(format!("man/{command}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{command}");
    }
}
