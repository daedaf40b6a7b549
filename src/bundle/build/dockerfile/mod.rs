//! A Dockerfile's text to typed instructions, by the rules of Docker's reference of the format. Pure: nothing is looked
//! up, no variable is expanded; what is wrong is told with the number of its line.
//!
//! [`lines`] knows directives, comments, continued lines and here-documents; [`words`] knows quotes, lists and flags;
//! [`read`] knows what each instruction may have.

pub mod instruction;
mod lines;
pub mod mount;
mod read;
#[cfg(test)]
mod tests;
pub mod words;

use anyhow::{Context, Result, bail};

pub use instruction::{Command, Copy, Document, Health, Instruction, Kind, Network, Run};

/// The largest file that is read, in bytes.
pub const LARGEST: u64 = 8 << 20;

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// Its name, for errors.
    pub name: String,
    /// The character that takes a meaning from the next one.
    pub escape: char,
    /// What it says, in order; the first but for ARG is FROM.
    pub instructions: Vec<Instruction>,
}

/// Reads a whole file. `name` is what errors call it.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Dockerfile> {
    let text = std::str::from_utf8(bytes).with_context(|| {
        let good = std::str::from_utf8(bytes).map_or_else(|it| it.valid_up_to(), |_| 0);
        let line = bytes[..good].split(|it| *it == b'\n').count();
        format!("{name}:{line}: the file is no UTF-8")
    })?;
    let (escape, lines) = lines::split(name, text)?;
    let instructions = lines.iter().map(|line| read::instruction(name, line, escape)).collect::<Result<Vec<_>>>()?;
    match instructions.iter().find(|it| !matches!(it.kind, Kind::Arg(_))) {
        None => bail!("{name}: no FROM is in it: a build begins with `FROM image` or `FROM scratch`"),
        Some(Instruction { kind: Kind::From { .. }, .. }) => {}
        Some(other) => bail!("{name}:{}: {} stands before the first FROM", other.line, other.word()),
    }
    Ok(Dockerfile { name: name.to_owned(), escape, instructions })
}

/// Reads one instruction that an image has kept for its heirs (ONBUILD); `line` is that of the FROM that brings it.
pub fn parse_trigger(name: &str, line: usize, text: &str) -> Result<Vec<Instruction>> {
    let wrong = || format!("{name}:{line}: the base image's ONBUILD {text:?}");
    let (escape, lines) = lines::split(name, text).with_context(wrong)?;
    let mut list = Vec::new();
    for mut it in lines {
        it.number = line;
        let instruction = read::instruction(name, &it, escape).with_context(wrong)?;
        if matches!(instruction.kind, Kind::From { .. } | Kind::Onbuild(_) | Kind::Maintainer(_)) {
            bail!("{}: {} cannot be triggered", wrong(), instruction.word());
        }
        list.push(instruction);
    }
    Ok(list)
}
