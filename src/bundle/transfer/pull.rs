//! An image from a registry: the manifest, the configuration, and then all layers at the same time, each
//! unpacked while it comes.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

use super::Incoming;
use super::unpack::{Damaged, Limit, Pipeline, Unsettled, each_layer, from_blob};
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Document, LARGEST_DOCUMENT, Manifest, Platform, docker, oci};
use crate::image::{Digest, Reference};
use crate::layer::overlay::Overlay;
use crate::output::progress::{Progress, Step};
use crate::registry::Client;
use crate::store::{Image, Layer, NewImage, Store};
use crate::tool::Tool;

/// Pulls an image and gives it its name. What is there already is not fetched.
pub fn pull(
    tool: &Tool,
    client: &Client,
    reference: &Reference,
    platform: &Platform,
    limit: Limit,
    progress: &Progress,
) -> Result<Image> {
    let store = tool.store()?;
    let making = store.making()?;
    let found = find(client, reference, platform)?;
    // Once more where another command has removed what was there when we began.
    for _ in 0..3 {
        let pulled = Pull { overlay: tool.overlay(), client, reference, limit, progress }.image(store, &found)?;
        if pulled {
            drop(making);
            store.collect()?;
            return store.find(found.manifest.digest.as_str());
        }
    }
    bail!("pulling {}: what it is made of is removed by another bundle again and again", reference.familiar())
}

/// What a registry has under a name.
struct Found {
    /// What the name points to: the manifest, or the index that it was chosen from.
    target: Digest,
    manifest: Descriptor,
    bytes: Vec<u8>,
    document: Manifest,
}

fn find(client: &Client, reference: &Reference, platform: &Platform) -> Result<Found> {
    let first = client.manifest(reference)?;
    let target = first.digest.clone();
    let mut fetched = first;
    // An index may point to another one; deeper nesting is nobody's.
    for _ in 0..3 {
        let (media_type, document) =
            Document::parse(fetched.media_type.as_deref(), &fetched.bytes).with_context(|| reference.familiar())?;
        match document {
            Document::Manifest(document) => {
                let manifest = Descriptor::new(&media_type, fetched.digest, fetched.bytes.len() as u64);
                return Ok(Found { target, manifest, bytes: fetched.bytes, document });
            }
            Document::Index(index) => {
                let chosen = index.choose(platform).with_context(|| reference.familiar())?;
                let one = Reference { tag: None, digest: Some(chosen.digest.clone()), ..reference.clone() };
                fetched = client.manifest(&one)?;
                if fetched.bytes.len() as u64 != chosen.size {
                    bail!(
                        "{}: the manifest {} has {} bytes, and the index says {}",
                        reference.familiar(),
                        chosen.digest,
                        fetched.bytes.len(),
                        chosen.size
                    );
                }
            }
        }
    }
    bail!("{}: an index in an index in an index", reference.familiar())
}

struct Pull<'a> {
    overlay: Overlay,
    client: &'a Client,
    reference: &'a Reference,
    limit: Limit,
    progress: &'a Progress,
}

impl Pull<'_> {
    /// Fetches and commits; `false` where something was removed meanwhile.
    fn image(&self, store: &Store, found: &Found) -> Result<bool> {
        let config = self.config(store, &found.document)?;
        let chain_ids = config.chain_ids();
        let known: Vec<Option<Layer>> = chain_ids.iter().map(|chain| store.layer(chain)).collect::<Result<_>>()?;
        let new = self.layers(store, &found.document, &config, &known)?;
        let pipeline = self.pipeline();
        let layers = pipeline.settle(store, &known, new)?;
        store.put(&found.bytes)?;
        let names = [(self.reference_name(), found.target.clone())];
        store.commit(&NewImage {
            manifest: &found.manifest,
            document: &found.document,
            config: &config,
            layers: &layers,
            names: &names,
        })
    }

    /// A name with a tag and a digest is kept under the digest: the tag may be another's by now.
    fn reference_name(&self) -> String {
        match &self.reference.digest {
            Some(digest) => format!("{}@{digest}", self.reference.name()),
            None => self.reference.to_string(),
        }
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline { overlay: self.overlay, limit: self.limit }
    }

    fn config(&self, store: &Store, document: &Manifest) -> Result<ImageConfig> {
        let wanted = &document.config;
        if !matches!(wanted.media_type.as_str(), oci::CONFIG | docker::CONFIG) {
            bail!("{}: it is no image of a container but {:?}", self.reference.familiar(), wanted.media_type);
        }
        if wanted.size > LARGEST_DOCUMENT {
            bail!(
                "{}: its configuration has {} bytes, {LARGEST_DOCUMENT} are the most",
                self.reference.familiar(),
                wanted.size
            );
        }
        if !store.has_blob(wanted)? {
            let bytes = match self.config_bytes(self.client, wanted) {
                // What a mirror gave was wrong: from the source.
                Err(error) if error.downcast_ref::<Damaged>().is_some() => {
                    self.config_bytes(&self.client.without_mirrors(), wanted)
                }
                other => other,
            };
            let bytes = bytes.with_context(|| format!("pulling {}", self.reference.familiar()))?;
            ImageConfig::parse(&bytes, document.layers.len()).with_context(|| self.reference.familiar())?;
            let mut ingest = store.ingest(wanted)?;
            ingest.restart()?;
            ingest.write_all(&bytes).with_context(|| format!("pulling {}", self.reference.familiar()))?;
            store.adopt(ingest, &wanted.digest)?;
        }
        ImageConfig::parse(&store.document(&wanted.digest)?, document.layers.len())
            .with_context(|| self.reference.familiar())
    }

    fn config_bytes(&self, client: &Client, wanted: &Descriptor) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(wanted.size as usize);
        client.blob(self.reference, wanted, 0)?.read_to_end(&mut bytes)?;
        let mut hasher = wanted.digest.hasher();
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != wanted.digest {
            bail!(Damaged(format!("what came for the configuration {} has the digest {found}", wanted.digest)));
        }
        Ok(bytes)
    }

    /// All layers that are not there. The first error ends all of them.
    fn layers(
        &self,
        store: &Store,
        document: &Manifest,
        config: &ImageConfig,
        known: &[Option<Layer>],
    ) -> Result<Vec<Option<Unsettled>>> {
        each_layer(store, document, |store, index, wanted, stop| {
            let diff_id = known[index].is_none().then(|| &config.rootfs.diff_ids[index]);
            One { pull: self, store, wanted, diff_id, stop }.fetch()
        })
    }
}

/// One layer on its way.
struct One<'a> {
    pull: &'a Pull<'a>,
    store: &'a Store,
    wanted: &'a Descriptor,
    /// What it holds, where it is to be unpacked.
    diff_id: Option<&'a Digest>,
    stop: &'a AtomicBool,
}

impl One<'_> {
    fn fetch(&self) -> Result<Option<Unsettled>> {
        let name = self.wanted.digest.short();
        if self.store.has_blob(self.wanted)? {
            return self.there(name);
        }
        let step = self.pull.progress.step(name, "Waiting", self.wanted.size);
        let mut ingest = self.store.ingest(self.wanted)?;
        if self.store.has_blob(self.wanted)? {
            self.store.forget(ingest);
            step.finish("Already there");
            return self.there(name);
        }
        step.say("Pulling");
        let client = self.pull.client;
        let resumed = ingest.offset > 0;
        let first = self.attempt(client, &mut ingest, &step);
        let result = match first {
            // What another pull left, or a mirror gave, was wrong: once more from the start and from the source.
            Err(error) if error.downcast_ref::<Damaged>().is_some() => {
                ingest.restart()?;
                let second = client.without_mirrors();
                let reason = if resumed { "what was here of it is damaged" } else { "damaged" };
                step.say(reason);
                let result = self.attempt(&second, &mut ingest, &step);
                if result.is_err() {
                    ingest.restart()?;
                }
                result
            }
            other => other,
        };
        let new = result.with_context(|| format!("pulling {}", self.pull.reference.familiar()))?;
        self.store.adopt(ingest, &self.wanted.digest)?;
        step.finish("Pull complete");
        Ok(new)
    }

    fn there(&self, name: &str) -> Result<Option<Unsettled>> {
        let step = self.pull.progress.step(name, "Unpacking", self.wanted.size);
        let new = self
            .diff_id
            .map(|diff_id| from_blob(&self.pull.pipeline(), self.store, self.wanted, diff_id, &step))
            .transpose()?;
        step.finish("Already exists");
        Ok(new)
    }

    fn attempt(&self, client: &Client, ingest: &mut crate::store::Ingest, step: &Step) -> Result<Option<Unsettled>> {
        let offset = ingest.offset;
        let before = ingest.begin()?.take(offset);
        let blob = client.blob(self.pull.reference, self.wanted, offset)?;
        let mut each = |count| {
            step.advance(count);
            if self.stop.load(Ordering::Relaxed) {
                bail!("another layer has failed");
            }
            Ok(())
        };
        let incoming = Incoming::new(self.wanted, Box::new(before.chain(blob)), Some(ingest), &mut each);
        if self.diff_id.is_none() {
            incoming.finish(self.wanted)?;
            return Ok(None);
        }
        Ok(Some(self.pull.pipeline().unpack(self.store, incoming, self.wanted, self.diff_id)?))
    }
}
