//! `bundle manifest inspect`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::ManifestInspect;
use crate::image::Reference;
use crate::image::manifest::Document;
use crate::output;

pub fn inspect(args: &ManifestInspect) -> Result<()> {
    let client = super::client(&args.registry)?;
    let reference: Reference = args.image.parse()?;
    let fetched = client.manifest(&reference)?;
    let (media_type, document) = Document::parse(fetched.media_type.as_deref(), &fetched.bytes)?;
    let value: Value = serde_json::from_slice(&fetched.bytes)?;
    if !args.verbose {
        return match args.format.as_deref() {
            // As the registry has it: a digest is of these bytes.
            None => output::print(&format!("{}\n", String::from_utf8_lossy(&fetched.bytes).trim_end())),
            format => output::documents(format, &[value]),
        };
    }
    let about = |digest: &crate::image::Digest, size: usize, media_type: &str, value: Value| json!({"Ref": format!("{}@{digest}", reference.name()), "Descriptor": {"mediaType": media_type, "digest": digest, "size": size}, "Manifest": value});
    let mut documents = vec![about(&fetched.digest, fetched.bytes.len(), &media_type, value)];
    if let Document::Index(index) = document {
        for one in index.manifests {
            let name = Reference { tag: None, digest: Some(one.digest.clone()), ..reference.clone() };
            let fetched = client.manifest(&name)?;
            let mut it =
                about(&fetched.digest, fetched.bytes.len(), &one.media_type, serde_json::from_slice(&fetched.bytes)?);
            it["Descriptor"]["platform"] = json!(one.platform);
            documents.push(it);
        }
    }
    output::documents(args.format.as_deref(), &documents)
}
