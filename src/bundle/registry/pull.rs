//! Manifests: fetched, looked up, and checked against their names.

use anyhow::Result;
use ureq::http::{HeaderName, header};

use super::Client;
use super::config::Endpoint;
use super::error::{Failure, Kind, harmless};
use super::http::{Answer, Ask, scope};
use crate::image::manifest::{Document, LARGEST_DOCUMENT, docker, oci};
use crate::image::{Digest, Reference};

/// What the registry says the digest is.
pub(super) static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or an index as it came, its digest checked.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The `Content-Type` it came with.
    pub media_type: Option<String>,
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its name: the reference's, else of the algorithm that the registry uses.
    pub digest: Digest,
}

impl Client {
    /// Fetches the manifest or index that a reference names, from a mirror if one has it. The bytes have the
    /// digest of the reference; without one, that which the registry tells.
    ///
    /// What they are is for [`Document::parse`] to say.
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched> {
        let what = format!("manifest of {reference}");
        self.each_place(reference, |endpoint, repository| {
            let path = format!("/v2/{repository}/manifests/{}", reference.target());
            let scopes = [scope(repository, "pull")];
            let ask = Ask { headers: accepted(), repository: Some(repository), ..Ask::get(&what, &path, &scopes) };
            let (answer, bytes) = self.document(endpoint, &ask, LARGEST_DOCUMENT)?;
            let digest = verified(reference, &answer, &bytes)
                .map_err(|why| Failure::new(Kind::Garbage, format!("{what}: {}: {why}", endpoint.host)))?;
            let media_type = media_type(&answer);
            // A mirror that shows a page to log in at has nothing to say.
            if endpoint.mirror {
                Document::parse(media_type.as_deref(), &bytes)
                    .map_err(|why| Failure::new(Kind::Garbage, format!("{what}: {}: {why:#}", endpoint.host)))?;
            }
            Ok(Fetched { media_type, bytes, digest })
        })
    }

    /// Asks each place that may have something, in order; the failure is the registry's own.
    pub(super) fn each_place<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Endpoint, &str) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut before = String::new();
        for endpoint in self.places(&reference.registry)? {
            match ask(&endpoint, &endpoint.repository(&reference.repository)) {
                Ok(found) => return Ok(found),
                Err(failure) if endpoint.mirror => {
                    self.gave_up(&endpoint, &failure);
                    before = format!(" (before it, its mirror {}: {})", endpoint.host, failure.message);
                }
                Err(mut failure) => {
                    failure.message.push_str(&before);
                    return Err(failure.into());
                }
            }
        }
        unreachable!("the registry itself is always the last of its places")
    }

    /// The mirrors, if they are wanted and worth asking, and the registry itself.
    pub(super) fn places(&self, registry: &str) -> Result<Vec<Endpoint>> {
        let settings = &self.shared.settings;
        let mut places = settings.registries.endpoints(registry, self.mirrors, settings.verify)?;
        let dead = self.shared.dead.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        places.retain(|it| !it.mirror || !dead.contains(&it.host));
        Ok(places)
    }

    /// A mirror that cannot be reached is not waited for again.
    pub(super) fn gave_up(&self, endpoint: &Endpoint, failure: &Failure) {
        if endpoint.mirror && failure.kind == Kind::Unreachable {
            let mut dead = self.shared.dead.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            dead.insert(endpoint.host.clone());
        }
    }

    /// The registry itself.
    pub(super) fn itself(&self, registry: &str) -> Result<Endpoint> {
        let settings = &self.shared.settings;
        let mut places = settings.registries.endpoints(registry, false, settings.verify)?;
        Ok(places.remove(0))
    }
}

/// What is not there is an answer, too.
pub(super) fn absent_is_none<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.downcast_ref::<Failure>().is_some_and(|it| it.kind == Kind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every kind of manifest that is understood, or refused with a reason (schema 1).
fn accepted() -> Vec<(HeaderName, String)> {
    [oci::INDEX, docker::INDEX, oci::MANIFEST, docker::MANIFEST, docker::SCHEMA1_SIGNED, docker::SCHEMA1]
        .map(|it| (header::ACCEPT, it.to_owned()))
        .to_vec()
}

fn media_type(answer: &Answer) -> Option<String> {
    answer.header(&header::CONTENT_TYPE).map(str::to_owned)
}

/// The name of the bytes: the reference's if it has one, else the registry's, else SHA-256; or what does not fit.
fn verified(reference: &Reference, answer: &Answer, bytes: &[u8]) -> Result<Digest, String> {
    let of = |like: &Digest| {
        let mut hasher = like.hasher();
        hasher.update(bytes);
        hasher.finish()
    };
    if let Some(wanted) = &reference.digest {
        let found = of(wanted);
        if found != *wanted {
            return Err(format!("its digest is {found}, not the one asked for: it was changed on the way or there"));
        }
        return Ok(found);
    }
    let Some(told) = answer.header(&CONTENT_DIGEST) else { return Ok(Digest::of(bytes)) };
    let told: Digest = told.parse().map_err(|_| format!("Docker-Content-Digest {:?} is no digest", harmless(told)))?;
    let found = of(&told);
    if found != told {
        return Err(format!("its digest is {found}, the registry says {told}: it was changed on the way or there"));
    }
    Ok(found)
}
