//! Writes completions for bash, zsh and fish and man pages of rt and bundle from the definitions of
//! their command lines. A program of its own, so that the binaries that ship carry none of this.

#[path = "../../src/bundle/cli/mod.rs"]
#[allow(dead_code)]
mod bundle;
#[path = "../../src/rt/cli.rs"]
#[allow(dead_code)] // the definition alone is used, not what is parsed by it
mod rt;

use std::io::{Error, Result};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut arg = || args.next().ok_or_else(|| Error::other("usage: generate DIRECTORY YYYY-MM-DD"));
    let (out, date) = (arg()?, arg()?);
    let out = Path::new(&out);
    std::fs::create_dir_all(out.join("completions"))?;
    std::fs::create_dir_all(out.join("man"))?;
    for (name, mut command) in [("rt", rt::Cli::command()), ("bundle", bundle::Cli::command())] {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command.clone(), name, out.join("completions"))?;
        }
        command.build();
        pages(&command, name, &date, out)?;
    }
    Ok(())
}

/// Writes the pages of a command and of those below it.
fn pages(command: &clap::Command, name: &str, date: &str, out: &Path) -> Result<()> {
    for below in command.get_subcommands().filter(|it| !it.is_hide_set() && it.get_name() != "help") {
        pages(below, &format!("{name}-{}", below.get_name()), date, out)?;
    }
    page(command.clone(), name, date, out)
}

/// Writes one man page.
fn page(command: clap::Command, name: &str, date: &str, out: &Path) -> Result<()> {
    let page = clap_mangen::Man::new(command).title(name).section("1").date(date);
    let mut text = Vec::new();
    page.source(concat!("rt ", env!("CARGO_PKG_VERSION"))).manual("User Commands").render(&mut text)?;
    // Before a list of values the generator breaks the line twice, which man's readers warn of.
    let text = String::from_utf8(text).map_err(Error::other)?.replace(".br\n\n.br\n", ".sp\n");
    std::fs::write(out.join(format!("man/{name}.1")), text)
}
