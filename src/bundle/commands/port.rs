//! `bundle port`.

use anyhow::{Context, Result, bail};

use crate::cli::containers::Port;
use crate::container::{record, settle};
use crate::network::shown;
use crate::output;
use crate::tool::Tool;

/// Prints which addresses of the host lead to a container's ports, or to one of them.
pub fn run(tool: &Tool, args: &Port) -> Result<()> {
    let container = record::find(tool.store()?, &args.container)?;
    // What has ended has no ports any more.
    settle::state(tool, &container)?;
    let ports = shown::ports(tool, &container)?;
    let Some(text) = &args.port else {
        let line = |it: &shown::Port| format!("{}/{} -> {}\n", it.inside, it.protocol, shown::address(it));
        return output::print(&ports.iter().map(line).collect::<String>());
    };
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 = number.parse().ok().filter(|it| *it != 0).with_context(|| format!("{text:?} is no port"))?;
    if !["tcp", "udp"].contains(&protocol) {
        bail!("{text:?}: known protocols are tcp and udp");
    }
    let found: Vec<_> = ports.iter().filter(|it| it.inside == number && it.protocol == protocol).collect();
    if found.is_empty() {
        bail!("no port {number}/{protocol} of container {} is published; `bundle port {0}` lists all", container.name);
    }
    output::print(&found.iter().map(|it| format!("{}\n", shown::address(it))).collect::<String>())
}
