//! `bundle port`.

use anyhow::{Context, Result, bail};

use crate::cli::containers::Port;
use crate::container::record;
use crate::tool::Tool;

/// Containers have the host's network, another container's, or one of their own that leads nowhere: no port of theirs
/// is published under another number.
pub fn run(tool: &Tool, args: &Port) -> Result<()> {
    let container = record::find(tool.store()?, &args.container)?;
    let Some(text) = &args.port else { return Ok(()) };
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 = number.parse().ok().filter(|it| *it != 0).with_context(|| format!("{text:?} is no port"))?;
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        bail!("{text:?}: known protocols are tcp, udp and sctp");
    }
    let network = &container.settings.flags.network;
    bail!("no port {number}/{protocol} of container {} is published: its network is {network:?}", container.name)
}
