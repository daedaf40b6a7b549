//! From the command line to a project: which files there are, what they include and extend, which variables they are
//! filled with. The one part of the reading that looks at the machine.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::complete::complete;
use super::dotenv::{self, Variables};
use super::model::Project;
use super::schema::{self, tables};
use super::yaml::{self, Node, Value};
use super::{interpolate, merge, paths};
use crate::container::units;

/// What the command line says of the files.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `-f`; `-` is the standard input.
    pub files: Vec<String>,
    /// `-p`.
    pub name: Option<String>,
    /// `--profile`.
    pub profiles: Vec<String>,
    /// `--env-file`.
    pub env_files: Vec<String>,
    /// `--project-directory`.
    pub directory: Option<String>,
    /// Leave variables in texts as they are.
    pub no_interpolate: bool,
}

/// Names of files that are looked for, the first one first.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
/// Those that go over them.
const OVERRIDES: [&str; 4] =
    ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yml", "docker-compose.override.yaml"];
/// How deep files may include and services extend each other.
const DEEPEST: usize = 16;

/// Reads a project.
pub fn load(options: &Options) -> Result<Project> {
    let caller: Variables = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let here = std::env::current_dir().context("the working directory")?;
    let set = |name: &str| caller.get(name).filter(|it| !it.is_empty());
    // Files may be named in .env, which lies in the directory that the files lie in.
    let first_env = match &options.directory {
        Some(dir) => here.join(dir),
        None => here.clone(),
    };
    let own_env = environment(&options.env_files, &first_env, &caller)?;
    let files = match &options.files[..] {
        [] => match own_env.get("COMPOSE_FILE").filter(|it| !it.is_empty()) {
            Some(list) => {
                let separator = own_env.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
                list.split(separator).map(|it| here.join(it).to_string_lossy().into_owned()).collect()
            }
            None => find(&first_env)?,
        },
        given => given.to_vec(),
    };
    let directory = match (&options.directory, files.first().map(String::as_str)) {
        (Some(dir), _) => here.join(dir),
        (None, Some("-") | None) => here.clone(),
        (None, Some(first)) => here.join(first).parent().unwrap_or(&here).to_owned(),
    };
    let directory = PathBuf::from(paths::absolute(".", &directory, None)?);
    let mut environment = environment(&options.env_files, &directory, &caller)?;

    let mut trees = files.iter().map(|it| read(it, &here)).collect::<Result<Vec<_>>>()?;
    let name = name(options, &trees, &environment, &directory)?;
    environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    let mut reader = Reader {
        environment: &environment,
        home: set("HOME").cloned(),
        warned: Vec::new(),
        raw: options.no_interpolate,
    };
    let mut merged: Option<Node> = None;
    for tree in &mut trees {
        reader.settle(tree, &directory)?;
        reader.extend_all(tree, merged.as_ref())?;
        merged = Some(match merged {
            Some(base) => merge::merge(base, tree.clone(), &tables::FILE),
            None => tree.clone(),
        });
    }
    let mut tree = merged.context("no compose file is given")?;
    merge::reset(&mut tree);
    reader.include(&mut tree, &directory, 0)?;
    let profiles = if options.profiles.is_empty() {
        let listed = environment.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
        listed.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    } else {
        options.profiles.clone()
    };
    // Told to who asks later, from another directory.
    let whole = |it: &String| paths::absolute(&here.join(it).to_string_lossy(), &here, None);
    let files = files.iter().map(|it| if it == "-" { Ok(it.clone()) } else { whole(it) }).collect::<Result<_>>()?;
    complete(Project {
        name,
        directory,
        files,
        environment,
        profiles,
        parts: super::model::Parts::default(),
        document: serde_json::Value::Null,
        tree,
    })
}

/// The variables of `.env`, or the files in its place, under the caller's.
fn environment(files: &[String], directory: &Path, caller: &Variables) -> Result<Variables> {
    let listed = caller.get("COMPOSE_ENV_FILES").filter(|it| !it.is_empty());
    let files: Vec<PathBuf> = match (files, listed) {
        ([], None) => Some(directory.join(".env")).filter(|it| it.is_file()).into_iter().collect(),
        ([], Some(list)) => list.split(',').map(|it| directory.join(it)).collect(),
        (given, _) => given.iter().map(PathBuf::from).collect(),
    };
    let mut all = Variables::new();
    for file in files {
        let text = bounded(&file).with_context(|| format!("--env-file {}", file.display()))?;
        let look_up = |name: &str| caller.get(name).or_else(|| all.get(name)).cloned();
        let read = dotenv::parse(&text, false, &look_up).with_context(|| file.display().to_string())?;
        all.extend(read);
    }
    all.extend(caller.clone());
    Ok(all)
}

/// The files of a directory or the nearest one above it.
fn find(from: &Path) -> Result<Vec<String>> {
    for directory in from.ancestors() {
        let there = |names: &[&str]| names.iter().map(|it| directory.join(it)).find(|it| it.is_file());
        if let Some(file) = there(&NAMES) {
            let shown = |it: PathBuf| it.to_string_lossy().into_owned();
            return Ok([Some(file), there(&OVERRIDES)].into_iter().flatten().map(shown).collect());
        }
    }
    bail!("no compose file in {} or above: {} is looked for, -f names another", from.display(), NAMES.join(", "))
}

/// A file's bytes as text, not too many of them.
pub fn bounded(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    units::text_of(file).with_context(|| format!("reading {}", path.display()))
}

/// A file as a tree. People are told of it by the name that they gave.
fn read(file: &str, here: &Path) -> Result<Node> {
    if file == "-" {
        let text = units::text_of(std::io::stdin().lock()).context("reading the standard input")?;
        return yaml::parse("-", &text);
    }
    let path = here.join(file);
    let shown = path.strip_prefix(here).unwrap_or(&path).to_string_lossy().into_owned();
    yaml::parse(&shown, &bounded(&path)?)
}

/// The project's name: the flag's, the environment's, the last file's that has one, the directory's.
fn name(options: &Options, trees: &[Node], environment: &Variables, directory: &Path) -> Result<String> {
    let given = options.name.clone().map(|it| ("--project-name", it));
    let set = || environment.get("COMPOSE_PROJECT_NAME").filter(|it| !it.is_empty()).cloned();
    if let Some((from, name)) = given.or_else(|| set().map(|it| ("COMPOSE_PROJECT_NAME", it))) {
        if !is_name(&name) {
            bail!("{from} {name:?}: lower case letters, digits, '-' and '_', a letter or digit first");
        }
        return Ok(name);
    }
    if let Some(node) = trees.iter().rev().find_map(|it| it.get("name"))
        && let Some(text) = node.as_text()
    {
        let look_up = |it: &str| environment.get(it).cloned();
        let name = interpolate::text(text, &look_up, &mut |_| {}).with_context(|| node.at.to_string())?;
        if !is_name(&name) {
            bail!("{}: name: {name:?}: lower case letters, digits, '-' and '_', a letter or digit first", node.at);
        }
        return Ok(name);
    }
    let name = directory.file_name().map(|it| it.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = name.chars().filter(|it| it.is_ascii_alphanumeric() || "-_".contains(*it)).collect();
    let name = name.trim_start_matches(['-', '_']).to_owned();
    if name.is_empty() {
        bail!("the directory {} makes no name for the project: give one by -p", directory.display());
    }
    Ok(name)
}

fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
        && text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-' || it == b'_')
}

struct Reader<'a> {
    environment: &'a Variables,
    home: Option<String>,
    /// Variables that were missed, each told of once.
    warned: Vec<String>,
    raw: bool,
}

impl Reader<'_> {
    /// Fills in, checks and brings into shape what a file says; `base` is where its paths begin.
    fn settle(&mut self, tree: &mut Node, base: &Path) -> Result<()> {
        if tree.value == Value::Null {
            bail!("{}: the file is empty", tree.at);
        }
        if !self.raw {
            let environment = self.environment;
            let warned = &mut self.warned;
            let mut missing = |name: &str| {
                if !warned.iter().any(|it| it == name) {
                    eprintln!("bundle: the variable {name} is not set: it is filled in as nothing");
                    warned.push(name.to_owned());
                }
            };
            interpolate::tree(tree, &|name| environment.get(name).cloned(), &mut missing)?;
        }
        if let Some(version) = tree.get("version") {
            eprintln!("bundle: {}: version says nothing any more: it can be left away", version.at);
        }
        schema::check(tree, &tables::FILE, "")?;
        paths::settle(tree, base, self.home.as_deref())
    }

    /// Puts under each service of a file what it extends: of the same file, or else of those before it.
    fn extend_all(&mut self, tree: &mut Node, earlier: Option<&Node>) -> Result<()> {
        let names: Vec<String> =
            tree.get("services").iter().flat_map(|it| it.entries()).map(|it| it.key.clone()).collect();
        for name in names {
            let whole = self.extended(tree, earlier, &name, &mut Vec::new())?;
            if let Some(services) = tree.get_mut("services") {
                services.set(&name, whole);
            }
        }
        Ok(())
    }

    fn extended(
        &mut self,
        tree: &Node,
        earlier: Option<&Node>,
        name: &str,
        on_the_way: &mut Vec<String>,
    ) -> Result<Node> {
        let of_file = |tree: &Node| tree.get("services").and_then(|it| it.get(name)).cloned();
        let found = of_file(tree).or_else(|| earlier.and_then(of_file));
        let mut service = found.with_context(|| format!("{} has no service {name:?} to extend", tree.at.file))?;
        let Some(extends) = service.take("extends") else { return Ok(service) };
        let key = format!("{}: {name}", tree.at.file);
        if on_the_way.contains(&key) || on_the_way.len() >= DEEPEST {
            bail!("{}: services.{name}.extends: it comes back to itself", extends.at);
        }
        on_the_way.push(key);
        let told = || format!("{}: services.{name}.extends", extends.at);
        let of = extends
            .get("service")
            .and_then(Node::as_text)
            .with_context(|| format!("{}: service is missing", told()))?;
        let mut base = match extends.get("file").and_then(Node::as_text) {
            None => self.extended(tree, earlier, of, on_the_way).with_context(told)?,
            Some(file) => {
                let path = PathBuf::from(file);
                let mut other = yaml::parse(file, &bounded(&path).with_context(told)?).with_context(told)?;
                self.settle(&mut other, path.parent().unwrap_or(&path)).with_context(told)?;
                merge::reset(&mut other);
                self.extended(&other, None, of, on_the_way).with_context(told)?
            }
        };
        // Whoever names a template does not wait for it.
        base.take("container_name");
        Ok(merge::merge(base, service, &tables::SERVICE))
    }

    /// Puts in what a file includes: projects of their own, with their own paths and variables.
    fn include(&mut self, tree: &mut Node, directory: &Path, deep: usize) -> Result<()> {
        let Some(list) = tree.take("include") else { return Ok(()) };
        for item in list.items() {
            let told = || format!("{}: include", item.at);
            if deep >= DEEPEST {
                bail!("{}: files include each other, more than {DEEPEST} deep", told());
            }
            let texts = |key: &str| -> Vec<String> {
                let list = item.get(key).map(Node::items).unwrap_or_default();
                list.iter().filter_map(|it| it.as_text().map(str::to_owned)).collect()
            };
            let whole = |text: &str| paths::absolute(text, directory, self.home.as_deref());
            let files = texts("path").iter().map(|it| whole(it)).collect::<Result<Vec<_>>>()?;
            let Some(first) = files.first() else { bail!("{}: path is missing", told()) };
            let below = match item.get("project_directory").and_then(Node::as_text) {
                Some(text) => PathBuf::from(whole(text)?),
                None => Path::new(first).parent().unwrap_or(directory).to_owned(),
            };
            let env_files = texts("env_file").iter().map(|it| whole(it)).collect::<Result<Vec<_>>>()?;
            let environment = environment(&env_files, &below, self.environment).with_context(told)?;
            let mut reader =
                Reader { environment: &environment, home: self.home.clone(), warned: Vec::new(), raw: self.raw };
            let mut merged: Option<Node> = None;
            for file in &files {
                let mut other = read(file, directory).with_context(told)?;
                reader.settle(&mut other, &below)?;
                reader.extend_all(&mut other, merged.as_ref())?;
                merged = Some(match merged {
                    Some(base) => merge::merge(base, other, &tables::FILE),
                    None => other,
                });
            }
            let Some(mut other) = merged else { continue };
            merge::reset(&mut other);
            reader.include(&mut other, &below, deep + 1)?;
            take_in(tree, other)?;
        }
        Ok(())
    }
}

/// Adds an included file's parts; one that is here already has to say the same.
fn take_in(tree: &mut Node, other: Node) -> Result<()> {
    for section in ["services", "networks", "volumes", "secrets", "configs"] {
        let Some(parts) = other.get(section) else { continue };
        if tree.get(section).is_none() {
            tree.set(section, Node::new(&parts.at, Value::Map(Vec::new())));
        }
        let Some(own) = tree.get_mut(section) else { continue };
        for entry in parts.entries() {
            match own.get(&entry.key) {
                Some(there) if !merge::alike(there, &entry.value) => {
                    bail!("{}: {section}.{}: it is in {} too, and differs", entry.at, entry.key, there.at);
                }
                Some(_) => {}
                None => own.set(&entry.key, entry.value.clone()),
            }
        }
    }
    Ok(())
}
