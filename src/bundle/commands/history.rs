//! `bundle history`.

use anyhow::Result;
use serde_json::json;

use crate::cli::History;
use crate::container::units;
use crate::output;
use crate::store::now;
use crate::tool::Tool;

/// How long a command may be in a table.
const WIDTH: usize = 45;

pub fn run(tool: &Tool, args: &History) -> Result<()> {
    let store = tool.store()?;
    let image = super::find(tool, &args.image)?;
    let (manifest, config) = store.read(&image)?;
    let layers = image.chain.as_ref().and_then(|top| store.layers(top).ok()).unwrap_or_default();
    let mut sizes =
        (0..manifest.layers.len()).map(|index| layers.get(index).map_or(manifest.layers[index].size, |it| it.size));
    let mut rows = Vec::new();
    for step in &config.history {
        let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
        rows.push((step.clone(), size));
    }
    // An image need not tell its history, its layers are there all the same.
    rows.extend(sizes.map(|size| (crate::image::config::History::default(), size)));
    rows.reverse();
    let rows: Vec<_> = rows
        .into_iter()
        .enumerate()
        .map(|(index, (step, size))| {
            let id = match (index, args.no_trunc) {
                (0, true) => image.id.to_string(),
                (0, false) => image.id.short().to_owned(),
                _ => "<missing>".to_owned(),
            };
            let created = step.created.as_deref().and_then(output::parse_time);
            let by: String = step.created_by.unwrap_or_default().chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
            let by = if args.no_trunc || by.chars().count() <= WIDTH { by } else { format!("{}…", by.chars().take(WIDTH - 1).collect::<String>()) };
            json!({
                "ID": id,
                "CreatedAt": created.map(output::time),
                "CreatedSince": created.map_or_else(|| "N/A".to_owned(), |it| if args.human { format!("{} ago", output::age(now() - it)) } else { output::time(it) }),
                "CreatedBy": by,
                "Size": if args.human { units::human(size) } else { size.to_string() },
                "Comment": step.comment.unwrap_or_default(),
            })
        })
        .collect();
    if args.quiet {
        return output::print(
            &rows.iter().filter_map(|it| it["ID"].as_str()).map(|id| format!("{id}\n")).collect::<String>(),
        );
    }
    let columns = [
        ("IMAGE", "ID"),
        ("CREATED", "CreatedSince"),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    output::rows(args.format.as_deref(), &columns, &rows)
}
