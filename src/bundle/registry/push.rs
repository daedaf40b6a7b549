//! Blobs and manifests sent to a registry (distribution-spec, "Push").

use std::io::Read;

use anyhow::Result;
use ureq::http::{HeaderName, Method, StatusCode, Uri, header};

use super::config::Endpoint;
use super::error::{Failure, Kind, harmless};
use super::http::{Answer, Ask, Payload, scope};
use super::pull::CONTENT_DIGEST;
use super::{Client, auth, location};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Reference};

/// The smallest piece that a registry takes, if it has one.
static LEAST_CHUNK: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// The sizes of pieces to try, in bytes, where a larger one was too large for what stands before the registry:
/// one that most take, and one within what nginx takes if nobody tells it otherwise.
const SMALLER: [u64; 2] = [8 << 20, 512 << 10];

/// What opens the source of an upload at an offset.
type Open<'a> = &'a dyn Fn(u64) -> Result<Box<dyn Read>>;

/// One blob on its way.
struct Upload<'a> {
    client: &'a Client,
    endpoint: Endpoint,
    repository: String,
    scopes: Vec<String>,
    what: String,
    descriptor: &'a Descriptor,
    source: Open<'a>,
    progress: &'a dyn Fn(u64),
}

/// An upload that the registry has begun.
struct Session {
    uri: Uri,
    least: u64,
}

impl Client {
    /// Has the registry take a blob from another of its repositories, so that it need not be sent. False if it
    /// would not: then it must be uploaded.
    pub fn mount_blob(&self, reference: &Reference, descriptor: &Descriptor, from: &str) -> Result<bool> {
        let endpoint = self.itself(&reference.registry)?;
        let repository = endpoint.repository(&reference.repository);
        let from = endpoint.repository(from);
        let what = format!("mount of blob {} from {from} into {}", descriptor.digest, reference.familiar_name());
        let path = format!("/v2/{repository}/blobs/uploads/?mount={}&from={}", descriptor.digest, auth::encode(&from));
        let scopes = [scope(&repository, "pull,push"), scope(&from, "pull")];
        let mut ask = Ask {
            method: Method::POST,
            payload: Payload::Bytes(&[]),
            repository: Some(&repository),
            good: &[201, 202],
            ..Ask::get(&what, &path, &scopes)
        };
        let answer = match self.ask(&endpoint, &ask) {
            // Some registries refuse what others answer with an upload; if more is amiss, the upload will tell.
            Err(Failure { kind: Kind::NotFound | Kind::Unauthorized | Kind::Denied | Kind::Status, .. }) => {
                return Ok(false);
            }
            other => other?,
        };
        if answer.status == StatusCode::CREATED {
            return Ok(true);
        }
        // It began an upload instead, which would stay there half done.
        if let Ok(session) = session(&what, &answer) {
            let target = session.uri.to_string();
            (ask.method, ask.target, ask.payload, ask.good) =
                (Method::DELETE, &target, Payload::None, &[200, 202, 204]);
            let _ = self.ask_once(&endpoint, &ask);
        }
        Ok(false)
    }

    /// Sends a blob that `source` opens at any offset (bytes), in one piece if the registry takes that. After a
    /// break it goes on where the registry says, or begins again. `progress` is told how many bytes have been
    /// handed over so far; the number can fall when some must be sent again.
    pub fn upload_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        source: impl Fn(u64) -> Result<Box<dyn Read>>,
        progress: &dyn Fn(u64),
    ) -> Result<()> {
        let endpoint = self.itself(&reference.registry)?;
        let repository = endpoint.repository(&reference.repository);
        let upload = Upload {
            client: self,
            scopes: vec![scope(&repository, "pull,push")],
            what: format!("upload of blob {} to {}", descriptor.digest, reference.familiar_name()),
            endpoint,
            repository,
            descriptor,
            source: &source,
            progress,
        };
        Ok(upload.run()?)
    }

    /// Puts a manifest under the reference's tag, or its digest if it has no tag. Its digest.
    pub fn put_manifest(&self, reference: &Reference, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let endpoint = self.itself(&reference.registry)?;
        let repository = endpoint.repository(&reference.repository);
        let what = format!("push of {reference}");
        let mut hasher = reference.digest.as_ref().map_or_else(Default::default, Digest::hasher);
        hasher.update(bytes);
        let digest = hasher.finish();
        if reference.digest.as_ref().is_some_and(|it| *it != digest) {
            anyhow::bail!("{what}: the manifest's digest is {digest}, not that of the name");
        }
        let path = format!("/v2/{repository}/manifests/{}", reference.tag.as_deref().unwrap_or(digest.as_str()));
        let scopes = [scope(&repository, "pull,push")];
        let ask = Ask {
            method: Method::PUT,
            headers: vec![(header::CONTENT_TYPE, media_type.to_owned())],
            payload: Payload::Bytes(bytes),
            repository: Some(&repository),
            good: &[200, 201, 202],
            ..Ask::get(&what, &path, &scopes)
        };
        let answer = self.ask(&endpoint, &ask)?;
        agreed(&what, &answer, &digest)?;
        Ok(digest)
    }
}

impl Upload<'_> {
    /// Sends until it is there.
    fn run(&self) -> Result<(), Failure> {
        let mut chunk = self.client.limits().chunk;
        let mut session = self.begin()?;
        let (mut at, mut furthest, mut tries) = (0, 0, 0);
        loop {
            let Err(failure) = self.send(&mut session, &mut at, chunk) else { return Ok(()) };
            match (failure.kind, failure.status) {
                (Kind::TooLarge, _) => {
                    let sent = chunk.unwrap_or(u64::MAX).min(self.descriptor.size);
                    let Some(smaller) = SMALLER.into_iter().find(|it| *it < sent) else { return Err(failure) };
                    chunk = Some(smaller);
                }
                // The registry lost the upload (it restarted, or another of its machines answered), or is
                // elsewhere in it than we are.
                (Kind::NotFound | Kind::Broken | Kind::Busy, _) | (_, Some(416)) => {}
                (Kind::Unreachable, _) if at > 0 => {}
                _ => return Err(failure),
            }
            // A registry that loses each time what it has taken gets no further.
            tries = if at > furthest { 1 } else { tries + 1 };
            furthest = furthest.max(at);
            if !self.client.again(&self.endpoint, &failure, tries) {
                return Err(failure);
            }
            if let Some((there, uri)) = self.resume(&session) {
                (session.uri, at) = (uri, there);
            } else if self.is_there()? {
                // The answer was lost, not the blob.
                (self.progress)(self.descriptor.size);
                return Ok(());
            } else {
                (session, at) = (self.begin()?, 0);
            }
        }
    }

    fn ask<'a>(&'a self, method: Method, target: &'a str, payload: Payload<'a>, good: &'a [u16]) -> Ask<'a> {
        Ask { method, payload, good, repository: Some(&self.repository), ..Ask::get(&self.what, target, &self.scopes) }
    }

    /// Begins an upload.
    fn begin(&self) -> Result<Session, Failure> {
        let path = format!("/v2/{}/blobs/uploads/", self.repository);
        let answer = self.client.ask(&self.endpoint, &self.ask(Method::POST, &path, Payload::Bytes(&[]), &[202]))?;
        session(&self.what, &answer)
    }

    /// How far an upload is, and where it goes on. `None` if the registry knows nothing of it any more.
    fn resume(&self, session: &Session) -> Option<(u64, Uri)> {
        let target = session.uri.to_string();
        let answer = self.client.ask(&self.endpoint, &self.ask(Method::GET, &target, Payload::None, &[204, 202, 200]));
        let answer = answer.ok()?;
        let there = location::upload_range(answer.header(&header::RANGE)?)?;
        let uri = answer
            .header(&header::LOCATION)
            .map_or(Some(session.uri.clone()), |it| location::resolve(&answer.uri, it))?;
        (there <= self.descriptor.size).then_some((there, uri))
    }

    fn is_there(&self) -> Result<bool, Failure> {
        let path = format!("/v2/{}/blobs/{}", self.repository, self.descriptor.digest);
        match self.client.ask(&self.endpoint, &self.ask(Method::HEAD, &path, Payload::None, &[200])) {
            Ok(answer) => Ok(answer.length().is_none_or(|it| it == self.descriptor.size)),
            Err(failure) if failure.kind == Kind::NotFound => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Sends what is missing and closes the upload. `at` follows what the registry has confirmed.
    fn send(&self, session: &mut Session, at: &mut u64, chunk: Option<u64>) -> Result<(), Failure> {
        let size = self.descriptor.size;
        // In one piece: the way that every registry knows.
        if *at == 0 && chunk.is_none_or(|it| it.max(session.least) >= size) {
            return self.close(session, 0);
        }
        while *at < size {
            let piece = chunk.map_or(size, |it| it.max(session.least).max(1)).min(size - *at);
            let last = *at + piece - 1;
            let from = *at;
            let open = || self.open(from);
            let target = session.uri.to_string();
            let mut ask = self.ask(Method::PATCH, &target, Payload::Stream(&open, piece), &[202, 201, 204]);
            ask.headers = vec![
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_RANGE, format!("{from}-{last}")),
            ];
            let answer = self.client.ask_once(&self.endpoint, &ask)?;
            // A registry may have taken less than it was given.
            let told = answer.header(&header::RANGE).and_then(location::upload_range);
            // Of one byte it says what it says of none.
            let there = told.filter(|it| (*it, last) != (0, 0)).unwrap_or(last + 1);
            if there <= from || there > last + 1 {
                let why = format!("{}: {}: it says that it has {there} bytes", self.what, self.endpoint.host);
                return Err(Failure::new(Kind::Garbage, why));
            }
            if let Some(target) = answer.header(&header::LOCATION) {
                session.uri = location::resolve(&answer.uri, target).ok_or_else(|| no_place(&self.what, target))?;
            }
            *at = there;
            (self.progress)(there);
        }
        self.close(session, size)
    }

    /// Names the blob, with the bytes from `at` on in the same request.
    fn close(&self, session: &Session, at: u64) -> Result<(), Failure> {
        let uri =
            location::with_query(&session.uri, &format!("digest={}", auth::encode(self.descriptor.digest.as_str())))
                .ok_or_else(|| no_place(&self.what, &session.uri.to_string()))?;
        let target = uri.to_string();
        let open = || self.open(at);
        let left = self.descriptor.size - at;
        let payload = if left == 0 { Payload::Bytes(&[]) } else { Payload::Stream(&open, left) };
        let mut ask = self.ask(Method::PUT, &target, payload, &[201, 204]);
        ask.headers = vec![(header::CONTENT_TYPE, "application/octet-stream".to_owned())];
        let answer = self.client.ask_once(&self.endpoint, &ask)?;
        agreed(&self.what, &answer, &self.descriptor.digest)?;
        (self.progress)(self.descriptor.size);
        Ok(())
    }

    fn open(&self, at: u64) -> Result<Box<dyn Read + '_>, Failure> {
        let inner =
            (self.source)(at).map_err(|error| Failure::new(Kind::Source, format!("{}: {error:#}", self.what)))?;
        Ok(Box::new(Counted { inner, at, progress: self.progress }))
    }
}

/// Tells how far a source has been read.
struct Counted<'a> {
    inner: Box<dyn Read>,
    at: u64,
    progress: &'a dyn Fn(u64),
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(to)?;
        self.at += got as u64;
        (self.progress)(self.at);
        Ok(got)
    }
}

/// Where an upload goes on.
fn session(what: &str, answer: &Answer) -> Result<Session, Failure> {
    let target = answer.header(&header::LOCATION).unwrap_or_default();
    let uri = location::resolve(&answer.uri, target).ok_or_else(|| no_place(what, target))?;
    let least = answer.header(&LEAST_CHUNK).and_then(|it| it.trim().parse().ok()).unwrap_or(0);
    Ok(Session { uri, least })
}

fn no_place(what: &str, target: &str) -> Failure {
    let why = format!("{what}: the registry's Location {:?} is no place to upload to", harmless(target));
    Failure::new(Kind::Garbage, why)
}

/// The registry calls what it got by the same name.
fn agreed(what: &str, answer: &Answer, digest: &Digest) -> Result<(), Failure> {
    match answer.header(&CONTENT_DIGEST).and_then(|it| it.parse::<Digest>().ok()) {
        Some(told) if told.algorithm() == digest.algorithm() && told != *digest => {
            let why = format!("{what}: the registry calls it {told}, not {digest}: it was changed on the way");
            Err(Failure::new(Kind::Garbage, why))
        }
        _ => Ok(()),
    }
}
