//! Relative paths of a file begin where the file says: they are made whole before files are merged. Words only, nothing
//! of the machine is looked at.

use std::path::{Component, Path, PathBuf};

use anyhow::{Result, bail};

use super::yaml::{Node, Value};

/// Makes whole all paths of a file that is in the schema's shape. `home` is the caller's.
pub fn settle(file: &mut Node, base: &Path, home: Option<&str>) -> Result<()> {
    let whole = |node: &mut Node| -> Result<()> {
        if let Value::Scalar { text, .. } = &mut node.value {
            *text = absolute(text, base, home)?;
        }
        Ok(())
    };
    for section in ["secrets", "configs"] {
        for entry in below(file, section) {
            if let Some(node) = entry.get_mut("file") {
                whole(node)?;
            }
        }
    }
    for service in below(file, "services") {
        if let Some(node) = service.get_mut("extends").and_then(|it| it.get_mut("file")) {
            whole(node)?;
        }
        if let Some(build) = service.get_mut("build") {
            if build.get("context").is_none() {
                let at = build.at.clone();
                build.set("context", Node::text(&at, "."));
            }
            if let Some(node) = build.get_mut("context").filter(|it| !it.as_text().is_some_and(is_remote)) {
                whole(node)?;
            }
            for node in below(build, "additional_contexts") {
                if !node.as_text().is_some_and(|it| is_remote(it) || it.contains(':')) {
                    whole(node)?;
                }
            }
        }
        for list in ["env_file", "label_file"] {
            let Some(Value::List(items)) = service.get_mut(list).map(|it| &mut it.value) else { continue };
            for item in items {
                let item = if list == "env_file" { item.get_mut("path") } else { Some(item) };
                if let Some(item) = item {
                    whole(item)?;
                }
            }
        }
        let Some(Value::List(items)) = service.get_mut("volumes").map(|it| &mut it.value) else { continue };
        for item in items {
            if item.get("type").and_then(Node::as_text) == Some("bind")
                && let Some(node) = item.get_mut("source")
            {
                if node.as_text().is_none_or(str::is_empty) {
                    bail!("{}: the source of a bind is a path", node.at);
                }
                whole(node)?;
            }
        }
    }
    Ok(())
}

/// The values of a mapping in a mapping.
fn below<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    let entries = match node.get_mut(key).map(|it| &mut it.value) {
        Some(Value::Map(entries)) => entries.as_mut_slice(),
        _ => &mut [],
    };
    entries.iter_mut().map(|it| &mut it.value)
}

/// Whether a build's context is no directory of this machine.
pub fn is_remote(text: &str) -> bool {
    text.contains("://") || text.starts_with("git@") || text.starts_with("github.com/")
}

/// A path from a directory on, `~` from the caller's home on, cleaned of `.` and `..`.
pub fn absolute(text: &str, base: &Path, home: Option<&str>) -> Result<String> {
    let path = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let Some(home) = home else { bail!("{text}: HOME is not set") };
            PathBuf::from(format!("{home}{rest}"))
        }
        _ => base.join(text),
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            part => clean.push(part),
        }
    }
    Ok(clean.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::schema::{self, tables};
    use crate::compose::yaml;

    #[test]
    fn paths_begin_in_the_base() {
        let whole = |text: &str| absolute(text, "/a/b".as_ref(), Some("/me")).unwrap();
        for (text, wanted) in
            [(".", "/a/b"), ("../c", "/a/c"), ("/x", "/x"), ("~/y", "/me/y"), ("~", "/me"), ("./~", "/a/b/~")]
        {
            assert_eq!(whole(text), wanted);
        }
        assert!(absolute("~/x", "/".as_ref(), None).is_err());
    }

    #[test]
    fn all_of_a_file_are_found() {
        let text =
            "services: {a: {build: {dockerfile: x, additional_contexts: {o: ./o, i: 'docker-image://b'}}, env_file: e,
            label_file: l, volumes: ['./v:/v', 'n:/n'], extends: {service: b, file: f}}}\nsecrets: {s: {file: ./s}}\n";
        let mut node = yaml::parse("f", text).unwrap();
        schema::check(&mut node, &tables::FILE, "").unwrap();
        settle(&mut node, "/d".as_ref(), None).unwrap();
        let model = schema::model(&node, &tables::FILE).unwrap();
        let service = &model["services"]["a"];
        for (found, wanted) in [
            (&service["build"]["context"], "/d"),
            (&service["build"]["dockerfile"], "x"),
            (&service["build"]["additional_contexts"]["o"], "/d/o"),
            (&service["build"]["additional_contexts"]["i"], "docker-image://b"),
            (&service["env_file"][0]["path"], "/d/e"),
            (&service["label_file"][0], "/d/l"),
            (&service["volumes"][0]["source"], "/d/v"),
            (&service["volumes"][1]["source"], "n"),
            (&service["extends"]["file"], "/d/f"),
            (&model["secrets"]["s"]["file"], "/d/s"),
        ] {
            assert_eq!(found, wanted);
        }
    }
}
