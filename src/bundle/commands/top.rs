//! `bundle top`.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use crate::cli::watch::Top;
use crate::container::processes::Chosen;
use crate::container::watched::watched;
use crate::output;
use crate::tool::Tool;

pub fn run(tool: &Tool, args: &Top) -> Result<()> {
    let (name, words) = super::behind_flags(&args.words)?;
    let chosen = Chosen::parse(words)?;
    let containers = watched(tool, &[name.to_owned()], true)?;
    let Some((container, pid)) = containers.iter().find_map(|it| Some((it, it.pid?))) else {
        bail!("container {name} is not running: it has no processes");
    };
    let headings = chosen.headings();
    let columns: Vec<(&str, &str)> = headings.iter().map(|it| (*it, *it)).collect();
    let row = |line: Vec<String>| -> Value {
        let fields = headings.iter().zip(line).map(|(heading, text)| ((*heading).to_owned(), text.into()));
        fields.collect::<Map<_, _>>().into()
    };
    let rows: Vec<Value> = chosen.lines(pid, &container.id).into_iter().map(row).collect();
    output::rows(args.format.as_deref(), &columns, &rows)
}
