//! Variables of the build (ARG): those of the command line, those before the first FROM, and those that are always there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::build::{expand, inline};
use crate::image::manifest::Platform;

/// Variables that RUN gets when the command line has them, without an ARG, and that change no cache key.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub struct Args {
    /// `--build-arg`.
    given: BTreeMap<String, String>,
    /// ARG before the first FROM.
    globals: BTreeMap<String, Option<String>>,
    /// Those of platforms.
    predefined: BTreeMap<&'static str, String>,
    /// Which of the given ones some ARG has named.
    used: BTreeSet<String>,
}

impl Args {
    /// Of the command line; `target` is the platform that is built for, `stage` the value of `--target`.
    pub fn new(given: BTreeMap<String, String>, target: &Platform, stage: Option<&str>) -> Self {
        let mut predefined = BTreeMap::new();
        let host = Platform::host();
        for (names, platform) in [
            (["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"], target),
            (["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"], &host),
        ] {
            let variant = platform.variant.clone().unwrap_or_default();
            let values = [platform.to_string(), platform.os.clone(), platform.architecture.clone(), variant];
            predefined.extend(names.into_iter().zip(values));
        }
        predefined.insert("TARGETSTAGE", stage.unwrap_or("default").to_owned());
        Self { given, predefined, ..Self::default() }
    }

    /// ARG before the first FROM.
    pub fn declare_global(&mut self, list: &[(String, Option<String>)], escape: char) -> Result<()> {
        for (name, default) in list {
            let default = match default {
                Some(text) => Some(expand::word(text, escape, &|it: &str| self.global(it))?),
                None => None,
            };
            self.used.insert(name.clone());
            let value = self.given.get(name).cloned().or(default);
            self.globals.insert(name.clone(), value);
        }
        Ok(())
    }

    /// A variable in a FROM.
    pub fn global(&self, name: &str) -> Option<String> {
        self.globals.get(name).cloned().flatten().or_else(|| self.predefined.get(name).cloned())
    }

    /// The value of an ARG in a stage.
    pub fn in_stage(&self, name: &str, default: Option<String>) -> Option<String> {
        self.given.get(name).cloned().or(default).or_else(|| self.global(name))
    }

    /// The proxies of the command line.
    pub fn proxies(&self) -> Vec<(String, String)> {
        let of = |name: &&str| Some(((*name).to_owned(), self.given.get(*name)?.clone()));
        PROXIES.iter().filter_map(of).collect()
    }

    /// The given ones that no ARG among `declared`, and none before the first FROM, names.
    pub fn unused<'a>(&'a self, declared: &BTreeSet<String>) -> Vec<&'a str> {
        let known = |name: &str| {
            self.used.contains(name)
                || declared.contains(name)
                || PROXIES.contains(&name)
                || self.predefined.contains_key(name)
                || [inline::ARG, "SOURCE_DATE_EPOCH"].contains(&name)
        };
        self.given.keys().map(String::as_str).filter(|it| !known(it)).collect()
    }
}
