//! Writes rt's completions for bash, zsh and fish and its man pages from the definition of its
//! command line. A program of its own, so that the binary that ships carries none of this.

#[path = "../../src/rt/cli.rs"]
#[allow(dead_code)] // the definition alone is used, not what is parsed by it
mod cli;

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
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::Cli::command(), "rt", out.join("completions"))?;
    }
    let mut command = cli::Cli::command();
    command.build();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        page(command.clone(), &format!("rt-{}", command.get_name()), &date, out)?;
    }
    page(command, "rt", &date, out)
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
