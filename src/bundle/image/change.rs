//! Changes of a configuration in the words of a Dockerfile: `--change` of `import` (and `commit`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::config::Execution;

/// Applies one instruction, such as `ENV A=1` or `CMD ["sh"]`.
pub fn apply(config: &mut Execution, instruction: &str) -> Result<()> {
    let wrong = || format!("--change {instruction:?}");
    let (word, rest) = instruction.trim().split_once(char::is_whitespace).unwrap_or((instruction.trim(), ""));
    let rest = rest.trim();
    if rest.is_empty() && !word.eq_ignore_ascii_case("CMD") && !word.eq_ignore_ascii_case("ENTRYPOINT") {
        bail!("{}: nothing stands behind the word", wrong());
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest).with_context(wrong)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest).with_context(wrong)?),
        "ENV" => {
            for (name, value) in pairs(rest).with_context(wrong)? {
                config.env.retain(|it| it.split('=').next() != Some(name.as_str()));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(rest).with_context(wrong)?),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                if number.split('-').any(|it| it.parse::<u16>().is_err()) || !matches!(protocol, "tcp" | "udp" | "sctp")
                {
                    bail!("{}: {port:?} is no port such as 80/tcp", wrong());
                }
                config.exposed_ports.get_or_insert_default().insert(format!("{number}/{protocol}"), json!({}));
            }
        }
        "VOLUME" => {
            for path in words(rest).with_context(wrong)? {
                if !path.starts_with('/') {
                    bail!("{}: {path:?} is not an absolute path", wrong());
                }
                config.volumes.get_or_insert_default().insert(path, json!({}));
            }
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => {
            config.working_dir = match (rest.starts_with('/'), config.working_dir.trim_end_matches('/')) {
                (true, _) => rest.to_owned(),
                (false, below) => format!("{below}/{rest}"),
            }
        }
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "SHELL" => config.shell = Some(serde_json::from_str(rest).with_context(wrong)?),
        _ => bail!(
            "{}: {word:?} changes no configuration; known are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR",
            wrong()
        ),
    }
    Ok(())
}

/// A JSON array of words, or a line for the shell.
fn command(text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("not a JSON array of strings");
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn words(text: &str) -> Result<Vec<String>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).context("not a JSON array of strings");
    }
    split(text)
}

/// `NAME=VALUE ...`, or one `NAME VALUE`.
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let list = split(text)?;
    if let [first, _, ..] = &list[..]
        && !first.contains('=')
    {
        let (name, value) = text.split_once(char::is_whitespace).context("a value is missing")?;
        return Ok(BTreeMap::from([(name.to_owned(), value.trim().to_owned())]));
    }
    let pairs = list.iter().map(|it| {
        let (name, value) = it
            .split_once('=')
            .filter(|it| !it.0.is_empty())
            .with_context(|| format!("{it:?} is not of the form NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// Words with quotes and backslashes as a shell has them.
fn split(text: &str) -> Result<Vec<String>> {
    let mut list = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some('"') | None, '\\') => {
                word.get_or_insert_default().push(characters.next().context("a backslash at the end")?);
            }
            (Some(open), it) if it == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, it) if it.is_whitespace() => list.extend(word.take()),
            (_, it) => word.get_or_insert_default().push(it),
        }
    }
    if quote.is_some() {
        bail!("a quote is not closed");
    }
    list.extend(word);
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration() {
        let mut config = Execution { env: vec!["A=0".into(), "B=1".into()], ..Execution::default() };
        for line in [
            r#"CMD ["sh", "-c", "x y"]"#,
            "entrypoint run it",
            r#"ENV A="1 2" C=\ 3"#,
            "ENV D some words",
            "LABEL a=b",
            "EXPOSE 80 53/udp",
            "VOLUME /data /x",
            "USER web:web",
            "WORKDIR /a",
            "WORKDIR b",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut config, line).unwrap();
        }
        assert_eq!(config.cmd.as_deref(), Some(&["sh".to_owned(), "-c".into(), "x y".into()][..]));
        assert_eq!(config.entrypoint.as_ref().unwrap()[2], "run it");
        assert_eq!(config.env, ["B=1", "A=1 2", "C= 3", "D=some words"]);
        assert_eq!(config.exposed_ports.unwrap().keys().cloned().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/a/b", "web:web"));
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        for bad in [
            "",
            "RUN x",
            "ENV",
            "ENV =x",
            "ENV 'a",
            "EXPOSE x",
            "EXPOSE 80/ftp",
            "VOLUME rel",
            "CMD [1]",
            "CMD [\"a\"",
            "ENV a\\",
        ] {
            assert!(apply(&mut Execution::default(), bad).is_err(), "{bad}");
        }
    }
}
