//! What is generated works: bash completes, the man pages are there for each command.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that goes with the test.
struct Out(PathBuf);

impl Out {
    fn new(name: &str) -> Out {
        let path = std::env::temp_dir().join(format!("rt-test-generate-{name}-{}", std::process::id()));
        let status = Command::new(env!("CARGO_BIN_EXE_generate")).arg(&path).arg("2026-01-31").status().unwrap();
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

/// Runs a program in the directory and gives out what it prints, which is all it prints.
#[track_caller]
fn run(out: &Out, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(&out.0).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; contrib/setup test installs it"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

#[test]
fn fish_completes() {
    let out = Out::new("fish");
    let text = run(&out, "fish", &["--no-config", "-c", "source completions/rt.fish; complete -C 'rt st'"]);
    let mut found: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
    found.sort_unstable();
    assert_eq!(found, ["start", "state"]);
}

#[test]
fn zsh_takes_it() {
    let out = Out::new("zsh");
    assert_eq!(run(&out, "zsh", &["-f", "-n", "completions/_rt"]), "");
    // compinit reads the first line and registers the function.
    let script = "fpath=($PWD/completions $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[rt]";
    assert_eq!(run(&out, "zsh", &["-f", "-c", script]).trim(), "_rt");
}

#[test]
fn man_pages_have_no_faults() {
    let out = Out::new("lint");
    let mut pages = 0;
    for entry in std::fs::read_dir(out.0.join("man")).unwrap() {
        let page = entry.unwrap().path();
        assert_eq!(run(&out, "mandoc", &["-T", "lint", "-W", "warning", page.to_str().unwrap()]), "");
        pages += 1;
    }
    assert!(pages > 15, "{pages} pages");
    let text = run(&out, "mandoc", &["-T", "ascii", "man/rt-exec.1"]);
    assert!(text.contains("Run another program in a running container"), "{text}");
}

#[test]
fn every_command_has_a_man_page() {
    let out = Out::new("man");
    for command in [
        "rt",
        "rt-create",
        "rt-start",
        "rt-exec",
        "rt-update",
        "rt-delete",
        "rt-plan",
        "bundle",
        "bundle-run",
        "bundle-store-check",
    ] {
        let text = std::fs::read_to_string(out.0.join(format!("man/{command}.1"))).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{command}");
    }
}
