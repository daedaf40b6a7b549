//! What a registry has: tags, search; and whether it lets us in.

use std::collections::HashSet;

use anyhow::Result;
use serde::Deserialize;
use ureq::http::header;

use super::config::Endpoint;
use super::error::{Failure, Kind, harmless};
use super::http::{Ask, scope};
use super::{Client, Credential, auth, location};
use crate::image::Reference;
use crate::image::reference::{DEFAULT_REGISTRY, check_tag};

/// The largest page of a list, in bytes.
const MOST_PAGE: u64 = 8 << 20;
/// The most pages of one list.
const MOST_PAGES: usize = 1000;
/// The most entries of one list.
const MOST_ENTRIES: usize = 200_000;
/// Where Docker Hub is searched.
const HUB_SEARCH: &str = "index.docker.io";

/// A repository that was found. All texts are safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// `library/busybox`, without the registry.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// How many like it.
    pub stars: u64,
    /// Kept by Docker itself.
    pub official: bool,
}

impl Client {
    /// All tags of the reference's repository, as the registry itself has them, in the order of their bytes: not
    /// all registries keep to it as they should (distribution-spec, "Listing Tags").
    pub fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let endpoint = self.itself(&reference.registry)?;
        let repository = endpoint.repository(&reference.repository);
        let what = format!("tags of {}", reference.name());
        let scopes = [scope(&repository, "pull")];
        let first = format!("/v2/{repository}/tags/list?n=1000");
        let mut tags =
            self.pages(&endpoint, &what, &first, &scopes, usize::MAX, |page: Page| page.tags.unwrap_or_default())?;
        tags.retain(|it| check_tag(it).is_ok());
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    /// Searches a registry: Docker Hub by its search, another by the same if it has it, else through its whole
    /// catalogue. No more than `limit` are found.
    pub fn search(&self, registry: &str, term: &str, limit: usize) -> Result<Vec<Found>> {
        #[derive(Deserialize)]
        struct Results {
            results: Option<Vec<One>>,
        }
        #[derive(Deserialize)]
        struct One {
            name: String,
            description: Option<String>,
            star_count: Option<u64>,
            is_official: Option<bool>,
        }
        let what = format!("search for {:?} in {registry}", harmless(term));
        let mut endpoint = self.itself(registry)?;
        if endpoint.name == DEFAULT_REGISTRY {
            HUB_SEARCH.clone_into(&mut endpoint.host);
        }
        let path = format!("/v1/search?q={}&n={}", auth::encode(term), limit.clamp(1, 100));
        let got = self.document(&endpoint, &Ask::get(&what, &path, &[]), MOST_PAGE);
        let parsed = got.map(|(_, bytes)| serde_json::from_slice::<Results>(&bytes));
        match parsed {
            Ok(Ok(Results { results: Some(results) })) => {
                return Ok(results
                    .into_iter()
                    .take(limit)
                    .map(|it| Found {
                        name: harmless(&it.name),
                        description: harmless(it.description.as_deref().unwrap_or_default()),
                        stars: it.star_count.unwrap_or(0),
                        official: it.is_official.unwrap_or(false),
                    })
                    .collect());
            }
            Err(failure) if endpoint.name == DEFAULT_REGISTRY || !refused(&failure) => return Err(failure.into()),
            Ok(_) if endpoint.name == DEFAULT_REGISTRY => {
                return Err(Failure::new(Kind::Garbage, format!("{what}: the answer is not what was expected")).into());
            }
            _ => {}
        }
        self.catalogue(&endpoint, &what, term, limit)
    }

    fn catalogue(&self, endpoint: &Endpoint, what: &str, term: &str, limit: usize) -> Result<Vec<Found>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let scopes = ["registry:catalog:*".to_owned()];
        let term = term.to_lowercase();
        let found = self.pages(endpoint, what, "/v2/_catalog?n=1000", &scopes, limit, |page: Page| {
            page.repositories.unwrap_or_default().into_iter().filter(|it| it.to_lowercase().contains(&term)).collect()
        })?;
        Ok(found.into_iter().take(limit).map(|name| Found { name: harmless(&name), ..Found::default() }).collect())
    }

    /// Whether the registry lets us in: with these credentials, else with the known ones. What `login` asks
    /// before it keeps anything.
    pub fn check(&self, registry: &str, credential: Option<&Credential>) -> Result<()> {
        let endpoint = self.itself(registry)?;
        let what = format!("login at {registry}");
        let ask = Ask { credential, ..Ask::get(&what, "/v2/", &[]) };
        match self.document(&endpoint, &ask, MOST_PAGE) {
            Err(mut failure) if failure.kind == Kind::Unauthorized && credential.is_some() => {
                // Not what to do without a login: this is one.
                let told = failure.message.rsplit_once("; ").map_or(&failure.message[..], |it| it.0);
                failure.message =
                    format!("{told}; check the user name and the password (some registries want a token)");
                Err(failure.into())
            }
            other => Ok(other.map(|_| ())?),
        }
    }

    /// Follows a list from page to page (distribution-spec, "Listing Tags"), on the same host only, until it
    /// ends or there is enough.
    fn pages<P: serde::de::DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        what: &str,
        first: &str,
        scopes: &[String],
        enough: usize,
        entries: impl Fn(P) -> Vec<String>,
    ) -> Result<Vec<String>> {
        let wrong = |why: &str| Failure::new(Kind::Garbage, format!("{what}: {}: {why}", endpoint.host));
        let mut target = first.to_owned();
        let mut visited = HashSet::new();
        let mut all = Vec::new();
        loop {
            let (answer, bytes) = self.document(endpoint, &Ask::get(what, &target, scopes), MOST_PAGE)?;
            let page = serde_json::from_slice(&bytes).map_err(|_| wrong("the list is not what was expected"))?;
            all.extend(entries(page));
            if all.len() >= enough {
                return Ok(all);
            }
            let Some(next) = answer.header(&header::LINK).and_then(location::next_link) else { return Ok(all) };
            let next = location::resolve(&answer.uri, next).ok_or_else(|| wrong("its Link is no URL"))?;
            if location::origin(&next) != location::origin(&answer.uri) {
                return Err(wrong("its list goes on at another host").into());
            }
            if all.len() > MOST_ENTRIES || visited.len() >= MOST_PAGES || !visited.insert(next.to_string()) {
                return Err(wrong("its list does not end").into());
            }
            target = next.to_string();
        }
    }
}

/// Whether a registry only says that it has no such thing.
fn refused(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::NotFound | Kind::Status | Kind::Denied | Kind::Unauthorized | Kind::Garbage)
}
