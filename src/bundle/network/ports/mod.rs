//! Published ports: the words of `-p`, and the host's sockets that keep them for a container.

mod hold;
mod owner;
mod parse;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};

use crate::cli::flags::Flags;

pub use hold::{Families, Held, hold, hold_again, hold_forwarded};
pub use parse::{HostPorts, Publish, parse};

/// All ports that the flags publish; `exposed` are those of the image.
pub fn wanted<'a>(flags: &Flags, exposed: impl Iterator<Item = &'a str>) -> Result<Vec<Publish>> {
    let mut wanted = flags.publish.iter().map(|it| parse(it)).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<Publish> = Vec::new();
    for text in flags.expose.iter().map(String::as_str) {
        all.push(exposed_port(text).with_context(|| format!("--expose {text:?}"))?);
    }
    for text in exposed {
        all.push(exposed_port(text).with_context(|| format!("the image exposes {text:?}"))?);
    }
    if flags.publish_all {
        // What is named by a flag needs no second port.
        all.retain(|it| !wanted.iter().any(|other| other.protocol == it.protocol && other.container == it.container));
        wanted.extend(all);
    }
    Ok(wanted)
}

/// `PORT[-PORT][/PROTOCOL]`.
fn exposed_port(text: &str) -> Result<Publish> {
    let publish = parse(text)?;
    anyhow::ensure!(publish.ports == HostPorts::Random && !text.contains([',', ':']), "not of the form PORT[/udp]");
    Ok(publish)
}
