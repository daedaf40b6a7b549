//! One instruction's line to its typed form: what flags and arguments it may have.

use anyhow::{Context, Result, bail};

use super::instruction::{Command, Copy, Health, Instruction, Kind, Network, Run};
use super::lines::Line;
use super::{mount, words};
use crate::container::units;

/// Reads one instruction. Errors begin with the file's name and the line.
pub fn instruction(name: &str, line: &Line, escape: char) -> Result<Instruction> {
    let kind = kind(line, escape).with_context(|| format!("{name}:{}", line.number))?;
    Ok(Instruction { line: line.number, text: line.text.clone(), kind })
}

fn kind(line: &Line, escape: char) -> Result<Kind> {
    let (word, rest) = line.text.split_once(char::is_whitespace).unwrap_or((&line.text, ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    let reader = Reader { word: &word, rest, line, escape };
    reader.read()
}

struct Reader<'a> {
    word: &'a str,
    rest: &'a str,
    line: &'a Line,
    escape: char,
}

/// Flags that were given, each taken once.
struct Flags<'a> {
    word: &'a str,
    list: Vec<(String, Option<String>)>,
}

impl Flags<'_> {
    fn all(&mut self, name: &str) -> Result<Vec<String>> {
        let mut values = Vec::new();
        for (_, value) in self.list.extract_if(.., |it| it.0 == name) {
            values.push(value.with_context(|| format!("{}: --{name} wants a value", self.word))?);
        }
        Ok(values)
    }

    fn one(&mut self, name: &str) -> Result<Option<String>> {
        let mut values = self.all(name)?;
        if values.len() > 1 {
            bail!("{}: --{name} stands there twice", self.word);
        }
        Ok(values.pop())
    }

    fn truth(&mut self, name: &str) -> Result<Option<bool>> {
        let mut found = None;
        for (_, value) in self.list.extract_if(.., |it| it.0 == name) {
            found = Some(match value.as_deref() {
                None | Some("true" | "1") => true,
                Some("false" | "0") => false,
                Some(other) => bail!("{}: --{name}={other}: neither true nor false", self.word),
            });
        }
        Ok(found)
    }

    fn no_more(&self) -> Result<()> {
        match self.list.first() {
            Some((name, _)) => bail!("{}: unknown flag --{name}", self.word),
            None => Ok(()),
        }
    }
}

impl Reader<'_> {
    fn read(&self) -> Result<Kind> {
        match self.word {
            "FROM" => self.from(),
            "RUN" => self.run(),
            "COPY" => Ok(Kind::Copy(self.copy(false)?)),
            "ADD" => Ok(Kind::Add(self.copy(true)?)),
            "ENV" => Ok(Kind::Env(words::pairs("ENV", self.rest, self.escape)?)),
            "LABEL" => Ok(Kind::Label(words::pairs("LABEL", self.rest, self.escape)?)),
            "ARG" => self.arg(),
            "WORKDIR" => Ok(Kind::Workdir(self.one()?)),
            "USER" => Ok(Kind::User(self.one()?)),
            "CMD" => Ok(Kind::Cmd(command(self.rest))),
            "ENTRYPOINT" => Ok(Kind::Entrypoint(command(self.rest))),
            "EXPOSE" => Ok(Kind::Expose(self.some(self.rest.split_whitespace().map(str::to_owned).collect())?)),
            "VOLUME" => self.volume(),
            "HEALTHCHECK" => self.health(),
            "SHELL" => self.shell(),
            "STOPSIGNAL" => Ok(Kind::Stopsignal(self.one()?)),
            "ONBUILD" => self.on_build(),
            "MAINTAINER" => Ok(Kind::Maintainer(self.one()?)),
            other => bail!("unknown instruction {other:?}{}", nearest(other)),
        }
    }

    fn flags(&self) -> (Flags<'_>, &str) {
        let (list, rest) = words::flags(self.rest, self.escape);
        (Flags { word: self.word, list }, rest)
    }

    /// The whole rest, which must be something.
    fn one(&self) -> Result<String> {
        if self.rest.is_empty() {
            bail!("{}: nothing stands behind it", self.word);
        }
        Ok(self.rest.to_owned())
    }

    fn some(&self, list: Vec<String>) -> Result<Vec<String>> {
        if list.is_empty() {
            bail!("{}: nothing stands behind it", self.word);
        }
        Ok(list)
    }

    fn from(&self) -> Result<Kind> {
        let (mut flags, rest) = self.flags();
        let platform = flags.one("platform")?;
        flags.no_more()?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (image, name) = match words[..] {
            [image] => (image, None),
            [image, word, name] if word.eq_ignore_ascii_case("as") => (image, Some(name.to_ascii_lowercase())),
            _ => bail!("FROM: it is of the form FROM [--platform=PLATFORM] IMAGE [AS NAME]"),
        };
        if let Some(name) = &name {
            let good = name.starts_with(|it: char| it.is_ascii_lowercase())
                && name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || b"-_.".contains(&it));
            if !good || name == "scratch" || name == "context" {
                bail!("FROM: {name:?} cannot be a stage's name: letters, then letters, digits, `-`, `_` and `.`");
            }
        }
        Ok(Kind::From { image: image.to_owned(), name, platform })
    }

    fn run(&self) -> Result<Kind> {
        let (mut flags, rest) = self.flags();
        let mounts = flags.all("mount")?;
        let network = match flags.one("network")?.as_deref() {
            None => None,
            Some("default") => Some(Network::Default),
            Some("none") => Some(Network::None),
            Some("host") => Some(Network::Host),
            Some(other) => bail!("RUN: --network={other}: known are default, none and host"),
        };
        let insecure = match flags.one("security")?.as_deref() {
            None | Some("sandbox") => false,
            Some("insecure") => true,
            Some(other) => bail!("RUN: --security={other}: known are sandbox and insecure"),
        };
        flags.no_more()?;
        for it in mounts.iter().filter(|it| !it.contains('$')) {
            mount::parse(it).context("RUN")?;
        }
        if rest.is_empty() {
            bail!("RUN: no command stands behind it");
        }
        let command = command(rest);
        if matches!(&command, Command::Exec(words) if words.is_empty()) {
            bail!("RUN: the list of words is empty");
        }
        let documents = self.line.documents.clone();
        Ok(Kind::Run(Run { command, documents, mounts, network, insecure }))
    }

    fn copy(&self, add: bool) -> Result<Copy> {
        let (mut flags, rest) = self.flags();
        let mut copy = Copy {
            chown: flags.one("chown")?,
            chmod: flags.one("chmod")?,
            link: flags.truth("link")?.unwrap_or(false),
            exclude: flags.all("exclude")?,
            ..Copy::default()
        };
        if add {
            copy.checksum = flags.one("checksum")?;
            copy.keep_git = flags.truth("keep-git-dir")?.unwrap_or(false);
            copy.unpack = flags.truth("unpack")?;
        } else {
            copy.from = flags.one("from")?;
            copy.parents = flags.truth("parents")?.unwrap_or(false);
        }
        flags.no_more()?;
        let mut list = words::json(rest).unwrap_or_else(|| words::split(rest, self.escape));
        if list.len() < 2 {
            bail!("{}: it wants at least one source and a destination", self.word);
        }
        copy.target = list.pop().unwrap_or_default();
        copy.sources = list;
        copy.documents.clone_from(&self.line.documents);
        if words::heredoc(&copy.target, self.escape).is_some() {
            bail!("{}: a here-document cannot be the destination", self.word);
        }
        if copy.from.is_some() && !copy.documents.is_empty() {
            bail!("{}: here-documents do not go with --from", self.word);
        }
        Ok(copy)
    }

    fn arg(&self) -> Result<Kind> {
        let mut list = Vec::new();
        for word in words::split(self.rest, self.escape) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word.clone(), None),
            };
            if name.is_empty() || name.contains(['"', '\'', '$']) {
                bail!("ARG: {word:?} is not of the form NAME[=DEFAULT]");
            }
            list.push((name, value));
        }
        if list.is_empty() {
            bail!("ARG: nothing stands behind it");
        }
        Ok(Kind::Arg(list))
    }

    fn volume(&self) -> Result<Kind> {
        let list = self.some(words::list(self.rest))?;
        if list.iter().any(|it| it.trim().is_empty()) {
            bail!("VOLUME: a path is empty");
        }
        Ok(Kind::Volume(list))
    }

    fn shell(&self) -> Result<Kind> {
        let list = words::json(self.rest).context("SHELL: it wants a JSON list such as [\"/bin/bash\", \"-c\"]")?;
        Ok(Kind::Shell(self.some(list)?))
    }

    fn on_build(&self) -> Result<Kind> {
        let text = self.one()?;
        let word = text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if matches!(word.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            bail!("ONBUILD: {word} cannot be triggered");
        }
        // What is wrong with it is told now, not to who builds from the image.
        let inner = Line { number: self.line.number, text: text.clone(), documents: self.line.documents.clone() };
        kind(&inner, self.escape).context("ONBUILD")?;
        let documents: String = self.line.documents.iter().map(|it| format!("\n{}{}", it.text, it.name)).collect();
        Ok(Kind::Onbuild(text + &documents))
    }

    fn health(&self) -> Result<Kind> {
        let (mut flags, rest) = self.flags();
        let mut time = |name: &str| -> Result<Option<u64>> {
            let Some(text) = flags.one(name)? else { return Ok(None) };
            let wrong = || format!("HEALTHCHECK: --{name}={text}");
            let time = units::duration(&text).with_context(wrong)?.as_nanos() as u64;
            if time != 0 && time < 1_000_000 {
                bail!("{}: less than a millisecond", wrong());
            }
            Ok(Some(time))
        };
        let mut health = Health {
            interval: time("interval")?,
            timeout: time("timeout")?,
            start_period: time("start-period")?,
            start_interval: time("start-interval")?,
            ..Health::default()
        };
        if let Some(text) = flags.one("retries")? {
            health.retries =
                Some(text.parse().ok().with_context(|| format!("HEALTHCHECK: --retries={text}: no number"))?);
        }
        let any = !self.rest.starts_with("NONE") && !self.rest.to_ascii_uppercase().starts_with("NONE");
        flags.no_more()?;
        let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word.to_ascii_uppercase().as_str() {
            "NONE" if !line.trim().is_empty() || any => bail!("HEALTHCHECK NONE has neither flags nor a command"),
            "NONE" => Ok(Kind::Healthcheck(Health::default())),
            "CMD" if line.trim().is_empty() => bail!("HEALTHCHECK CMD: no command stands behind it"),
            "CMD" => {
                health.command = Some(command(line.trim()));
                Ok(Kind::Healthcheck(health))
            }
            other => bail!("HEALTHCHECK: {other:?} is neither CMD nor NONE"),
        }
    }
}

/// A command: a JSON list of words, or a line for the shell.
fn command(text: &str) -> Command {
    words::json(text).map_or_else(|| Command::Shell(text.to_owned()), Command::Exec)
}

/// The instruction that was perhaps meant.
fn nearest(word: &str) -> String {
    const KNOWN: [&str; 18] = [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    let near = KNOWN.iter().map(|it| (distance(it, word), it)).min().filter(|it| it.0 <= 2);
    near.map(|(_, it)| format!("; is {it} meant?")).unwrap_or_default()
}

/// How many letters have to be changed (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(20).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let cost = before + usize::from(a != *b);
            before = row[j + 1];
            row[j + 1] = cost.min(before + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
