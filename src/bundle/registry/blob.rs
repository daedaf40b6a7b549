//! A blob as a stream that survives broken connections.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use anyhow::Result;
use ureq::http::{Method, header};

use super::config::Endpoint;
use super::error::{self, Failure, Kind};
use super::http::{Answer, Ask, scope};
use super::{Client, location, pull};
use crate::image::manifest::Descriptor;
use crate::image::{Digest, Reference};

/// What must have come before a new break is forgiven afresh, in bytes: otherwise a registry could let us come
/// back for every single one.
const PROGRESS: u64 = 64 << 10;
/// What must come in each second that the network is waited for, in bytes.
const SLOWEST: u64 = 512;

/// The bytes of a blob from an offset to its end: exactly as many as its descriptor says, or an error. Their
/// **digest is not checked**: whoever stores them must. Where the connection breaks, stalls, or the registry is
/// busy, it goes on at the same byte, from the next mirror if need be.
///
/// An error holds a [`Failure`]: `error.get_ref().and_then(|it| it.downcast_ref::<Failure>())`.
pub struct Blob {
    client: Client,
    what: String,
    /// Where it is read from, then where else it could be.
    places: VecDeque<Endpoint>,
    repository: String,
    digest: Digest,
    size: u64,
    at: u64,
    /// Where the current tries began.
    mark: u64,
    tries: u32,
    /// How long the network was waited for since when it was last asked whether that is too long, and where
    /// that was.
    waited: Duration,
    waited_from: u64,
    body: Option<ureq::BodyReader<'static>>,
    failed: Option<Failure>,
}

impl Client {
    /// Opens a blob at `offset` (bytes). Fails at once if no place has it. See [`Blob`] for what is checked.
    pub fn blob(&self, reference: &Reference, descriptor: &Descriptor, offset: u64) -> Result<Blob> {
        let what = format!("blob {} of {}", descriptor.digest, reference.familiar_name());
        if offset > descriptor.size {
            let why = format!("{what}: offset {offset} is behind its end at {}", descriptor.size);
            return Err(Failure::new(Kind::Garbage, why).into());
        }
        let mut blob = Blob {
            what,
            places: self.places(&reference.registry)?.into(),
            repository: reference.repository.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            at: offset,
            mark: offset,
            tries: 0,
            waited: Duration::ZERO,
            waited_from: offset,
            body: None,
            failed: None,
            client: self.clone(),
        };
        blob.ready()?;
        Ok(blob)
    }

    /// Whether the registry itself (not a mirror) has a blob, of this size if it tells one.
    pub fn has_blob(&self, reference: &Reference, descriptor: &Descriptor) -> Result<bool> {
        let endpoint = self.itself(&reference.registry)?;
        let repository = endpoint.repository(&reference.repository);
        let what = format!("blob {} of {}", descriptor.digest, reference.familiar_name());
        let path = format!("/v2/{repository}/blobs/{}", descriptor.digest);
        // With the rights of the push that is to follow, one token does for all of it.
        let scopes = [scope(&repository, "pull,push")];
        let ask = Ask { method: Method::HEAD, repository: Some(&repository), ..Ask::get(&what, &path, &scopes) };
        let found = pull::absent_is_none(self.ask(&endpoint, &ask).map_err(Into::into))?;
        Ok(found.is_some_and(|it| it.length().is_none_or(|it| it == descriptor.size)))
    }
}

impl Blob {
    /// Makes sure that there is something to read from.
    fn ready(&mut self) -> Result<(), Failure> {
        while self.body.is_none() && self.at < self.size {
            if let Some(failure) = &self.failed {
                return Err(failure.clone());
            }
            if let Err(failure) = self.connect() {
                self.recover(failure)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let endpoint = &self.places[0];
        let repository = endpoint.repository(&self.repository);
        let path = format!("/v2/{repository}/blobs/{}", self.digest);
        let scopes = [scope(&repository, "pull")];
        let whole = self.at == 0;
        let ask = Ask {
            headers: if whole { Vec::new() } else { vec![(header::RANGE, format!("bytes={}-", self.at))] },
            repository: Some(&repository),
            good: if whole { &[200] } else { &[200, 206] },
            ..Ask::get(&self.what, &path, &scopes)
        };
        let answer = self.client.ask_once(endpoint, &ask)?;
        let skip = self
            .check(&answer)
            .map_err(|why| Failure::new(Kind::Garbage, format!("{}: {}: {why}", self.what, endpoint.host)))?;
        let mut body = answer.body.into_reader();
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink())
            .map_err(|error| error::of_transport(&self.what, &endpoint.host, error.into()))?;
        if skipped < skip {
            return Err(self.short(skipped));
        }
        self.body = Some(body);
        Ok(())
    }

    /// Whether an answer holds what was asked for; how many bytes come before it.
    fn check(&self, answer: &Answer) -> Result<u64, String> {
        let size = self.size;
        if answer.status.as_u16() != 206 {
            return match answer.length() {
                Some(length) if length != size => {
                    Err(format!("it has {length} bytes there, its descriptor says {size}"))
                }
                _ => Ok(self.at),
            };
        }
        let text = answer.header(&header::CONTENT_RANGE).unwrap_or_default();
        let wrong =
            || format!("asked for bytes {}-{}, got Content-Range {:?}", self.at, size - 1, error::harmless(text));
        let (first, last, whole) = location::content_range(text).ok_or_else(wrong)?;
        let length = last - first + 1;
        if first != self.at
            || last >= size
            || whole.is_some_and(|it| it != size)
            || answer.length().is_some_and(|it| it != length)
        {
            return Err(wrong());
        }
        Ok(0)
    }

    /// Decides what becomes of a failure: another try, another place, or the end.
    fn recover(&mut self, failure: Failure) -> Result<(), Failure> {
        self.body = None;
        if self.at - self.mark >= PROGRESS {
            self.tries = 0;
        }
        self.mark = self.at;
        self.tries += 1;
        // Who was there a moment ago may be starting again.
        let passes = failure.passes() || failure.kind == Kind::Unreachable && self.at > 0;
        if passes && self.client.again(&self.places[0], &failure, self.tries) {
            return Ok(());
        }
        self.client.gave_up(&self.places[0], &failure);
        if self.places.len() > 1 {
            self.places.pop_front();
            self.tries = 0;
            return Ok(());
        }
        self.failed = Some(failure.clone());
        Err(failure)
    }

    /// Whether the bytes come so slowly that someone must be holding us: a time limit between two of them alone
    /// would let a blob take for ever.
    fn drips(&mut self) -> bool {
        if self.waited < self.client.limits().idle * 2 {
            return false;
        }
        let came = self.at - self.waited_from;
        let slow = came < SLOWEST.saturating_mul(self.waited.as_millis() as u64) / 1000;
        (self.waited, self.waited_from) = (Duration::ZERO, self.at);
        slow
    }

    fn short(&self, at: u64) -> Failure {
        let why = format!(
            "{}: {}: it ends after {at} of {} bytes; try again, or push it again",
            self.what, self.places[0].host, self.size
        );
        Failure::new(Kind::Broken, why)
    }
}

impl Read for Blob {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        loop {
            self.ready().map_err(io::Error::other)?;
            let Some(body) = &mut self.body else {
                return self.failed.clone().map_or(Ok(0), |it| Err(io::Error::other(it)));
            };
            let most = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(to.len());
            let begun = Instant::now();
            let result = body.read(&mut to[..most]);
            self.waited += begun.elapsed();
            let failure = match result {
                Ok(0) => self.short(self.at),
                Ok(got) => {
                    self.at += got as u64;
                    if self.at == self.size {
                        self.end()?;
                    } else if self.drips() {
                        // What has come is kept; the rest may come better by another connection.
                        let why = format!("{}: {}: it comes too slowly; try again", self.what, self.places[0].host);
                        self.recover(Failure::new(Kind::Broken, why)).map_err(io::Error::other)?;
                    }
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error::of_transport(&self.what, &self.places[0].host, error.into()),
            };
            self.recover(failure).map_err(io::Error::other)?;
        }
    }
}

impl Blob {
    /// The last byte is there: that nothing follows it lets the connection serve again. One that breaks now
    /// has done its work.
    fn end(&mut self) -> io::Result<()> {
        let more = self.body.take().is_some_and(|mut body| matches!(body.read(&mut [0]), Ok(got) if got > 0));
        if more {
            let why = format!("{}: {}: more than its {} bytes came", self.what, self.places[0].host, self.size);
            let failure = Failure::new(Kind::Garbage, why);
            self.failed = Some(failure.clone());
            return Err(io::Error::other(failure));
        }
        Ok(())
    }
}
