//! .dockerignore: which files of a context are left out. Pure. Docker's rules: patterns are rooted at the context,
//! `**` stands for directories, the last line that matches counts, a line that begins with `!` takes back in; what is
//! below a directory that matches, matches.

use anyhow::{Context, Result};

use super::pattern::Glob;

/// The lines of a file, or the patterns of `--exclude`.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    glob: Glob,
    /// Takes back in.
    include: bool,
    /// Its directory, where it has no pattern: what may still be taken back in below an excluded one.
    fixed: String,
}

impl Ignore {
    /// Reads a file's text.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        let mut ignore = Self::default();
        for (at, line) in lines {
            ignore.add(line).with_context(|| format!("{name}:{}", at + 1))?;
        }
        Ok(ignore)
    }

    /// The patterns of a flag.
    pub fn of(patterns: &[String]) -> Result<Self> {
        let mut ignore = Self::default();
        patterns.iter().try_for_each(|it| ignore.add(it))?;
        Ok(ignore)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let line = line.trim();
        let (include, pattern) = line.strip_prefix('!').map_or((false, line), |it| (true, it.trim()));
        let pattern = clean(pattern);
        // `.` excludes nothing: it stands for the context itself.
        if pattern.is_empty() || pattern == "." {
            return Ok(());
        }
        let parts = pattern.split('/').take_while(|it| !super::pattern::is_pattern(it));
        let fixed = parts.collect::<Vec<_>>().join("/");
        self.rules.push(Rule { glob: Glob::new(&pattern, true)?, include, fixed });
        Ok(())
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path is left out.
    pub fn excludes(&self, path: &str) -> bool {
        let mut excluded = false;
        for rule in &self.rules {
            // A rule that says what is so already need not be looked at.
            if rule.include == excluded && rule.matches(path) {
                excluded = !rule.include;
            }
        }
        excluded
    }

    /// Whether something below a directory that is left out may be taken back in.
    pub fn may_include_below(&self, path: &str) -> bool {
        self.rules.iter().filter(|it| it.include).any(|rule| {
            let below =
                |long: &str, short: &str| short.is_empty() || long == short || long.starts_with(&format!("{short}/"));
            below(&rule.fixed, path) || below(path, &rule.fixed)
        })
    }
}

impl Rule {
    /// Whether a path, or a directory that it is in, is what the pattern means.
    fn matches(&self, path: &str) -> bool {
        self.glob.matches(path) || path.match_indices('/').any(|(at, _)| self.glob.matches(&path[..at]))
    }
}

/// A pattern without `.`, `..`, empty parts and slashes around it, as Go's filepath.Clean leaves it.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, excluded: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(".dockerignore", text).unwrap();
        for path in excluded {
            assert!(ignore.excludes(path), "{text:?} {path}");
        }
        for path in kept {
            assert!(!ignore.excludes(path), "{text:?} {path}");
        }
    }

    #[test]
    fn rules_are_dockers() {
        check("*.md\n!README.md", &["a.md"], &["README.md", "x/a.md"]);
        check("*.md\n!README*.md\nREADME-secret.md", &["README-secret.md", "b.md"], &["README.md", "README-x.md"]);
        check("*.md\nREADME-secret.md\n!README*.md", &["b.md"], &["README-secret.md"]);
        check("/foo", &["foo", "foo/bar"], &["x/foo"]);
        check("foo/", &["foo/bar"], &["foobar"]);
        check("**/temp*", &["temp", "a/b/temporary", "a/temp/x"], &["atemp"]);
        check("*/temp*", &["a/temp"], &["temp", "a/b/temp"]);
        check("*/*/temp*", &["a/b/temp"], &["a/temp"]);
        check("temp?", &["tempa"], &["temp", "tempab"]);
        check("# comment\n\n  x  \n #y", &["x", "#y"], &["# comment", "y"]);
        check("**\n!keep/**\n", &["a", "a/b"], &["keep/x", "keep/x/y"]);
        check("dir\n!dir/keep", &["dir/x"], &["dir/keep", "dir/keep/y"]);
        check("./x/../y", &["y"], &["x"]);
        check(".", &[], &["a"]);
        check("! a\na", &["a"], &[]);
        check("*\n!a\na/b", &["c", "a/b", "a/b/c"], &["a", "a/c"]);
        check("a\\ b", &["a b"], &[]);
        assert!(Ignore::parse(".dockerignore", "x\n[a").is_err_and(|it| format!("{it:#}").contains(".dockerignore:2")));
    }

    #[test]
    fn directories_are_looked_into_only_where_something_may_be_taken_back() {
        let ignore = Ignore::parse("", "node_modules\n!src/**/x\n").unwrap();
        assert!(!ignore.may_include_below("node_modules"));
        assert!(ignore.may_include_below("src") && ignore.may_include_below("src/a"));
        assert!(Ignore::parse("", "!**/x").unwrap().may_include_below("anything"));
    }
}
