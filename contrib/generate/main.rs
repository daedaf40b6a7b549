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
    let out = std::env::args_os().nth(1).ok_or_else(|| Error::other("usage: generate DIRECTORY"))?;
    let out = Path::new(&out);
    std::fs::create_dir_all(out.join("completions"))?;
    std::fs::create_dir_all(out.join("man"))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::Cli::command(), "rt", out.join("completions"))?;
    }
    clap_mangen::generate_to(cli::Cli::command(), out.join("man"))
}
