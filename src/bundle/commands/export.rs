//! `bundle export`.

use std::io::{BufWriter, Write};
use std::os::fd::AsFd;

use anyhow::{Result, bail};

use crate::cli::Export;
use crate::container::{record, root};
use crate::layer::diff;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Export) -> Result<()> {
    let container = record::find(tool.store()?, &args.container)?;
    if args.output.is_none() && rustix::termios::isatty(std::io::stdout()) {
        bail!("a tar is nothing for a terminal: name a file by --output, or redirect");
    }
    let root = root::without_mounts(tool, &container)?;
    let write = |out: &mut dyn Write| diff::archive(root.dir.as_fd(), root.ids.as_ref(), out);
    match &args.output {
        Some(path) => super::save::whole_file(path, write),
        None => write(&mut BufWriter::with_capacity(1 << 20, std::io::stdout().lock())),
    }
}
