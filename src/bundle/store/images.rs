//! Images and their names.

use anyhow::{Context, Result, bail};
use rusqlite::{Row, params};

use super::layers::digest;
use super::{NewLayer, Store, now};
use crate::image::config::ImageConfig;
use crate::image::manifest::{Descriptor, Document, Manifest};
use crate::image::{Digest, Reference};

/// An image of one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its manifest's digest.
    pub digest: Digest,
    /// Its manifest's media type.
    pub media_type: String,
    /// Its configuration's digest: the id that people are shown.
    pub id: Digest,
    /// The topmost layer, if it has any.
    pub chain: Option<Digest>,
    /// The size of its blobs in bytes.
    pub size: u64,
    /// When it came here, seconds since 1970.
    pub created: i64,
}

/// An image that is about to be written: all its blobs and layers are there.
pub struct NewImage<'a> {
    /// Its manifest.
    pub manifest: &'a Descriptor,
    /// What the manifest says.
    pub document: &'a Manifest,
    /// What its configuration says.
    pub config: &'a ImageConfig,
    /// The layers, the lowest first: the new ones have a directory, the others were known before.
    pub layers: &'a [Option<NewLayer>],
    /// The names that it gets, each with what a registry has under it.
    pub names: &'a [(String, Digest)],
}

fn image(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        digest: digest(row, 0)?,
        media_type: row.get(1)?,
        id: digest(row, 2)?,
        chain: row.get::<_, String>(3)?.parse().ok(),
        size: row.get::<_, i64>(4)? as u64,
        created: row.get(5)?,
    })
}

const COLUMNS: &str = "images.digest, images.media_type, images.config, images.chain, images.size, images.created";

impl Store {
    /// Writes an image, its layers, blobs and names, in one transaction. Gives `false` where something
    /// that was there when the work began has been removed meanwhile: then the work has to be done again.
    pub fn commit(&self, new: &NewImage<'_>) -> Result<bool> {
        self.sync()?;
        // An image that was reported is on the disk.
        self.db().pragma_update(None, "synchronous", "full")?;
        let chain_ids = new.config.chain_ids();
        let mut unused = Vec::new();
        let done = self.write(|db| {
            let mut all = vec![new.manifest, &new.document.config];
            all.extend(&new.document.layers);
            all.sort_by(|a, b| a.digest.cmp(&b.digest));
            all.dedup_by(|a, b| a.digest == b.digest);
            for blob in &all {
                if !self.has_blob(blob)? {
                    return Ok(false);
                }
                db.prepare_cached("INSERT OR IGNORE INTO blobs VALUES (?1, ?2)")?
                    .execute(params![blob.digest.as_str(), blob.size as i64])?;
            }
            for (index, layer) in new.layers.iter().enumerate() {
                let chain = chain_ids[index].as_str();
                let known = db.prepare_cached("SELECT 1 FROM layers WHERE chain = ?1")?.exists([chain])?;
                match (known, layer) {
                    (true, None) => {}
                    // Another process was quicker.
                    (true, Some(layer)) => unused.push(layer.dir.clone()),
                    (false, None) => return Ok(false),
                    (false, Some(layer)) => {
                        let parent = index.checked_sub(1).map(|below| chain_ids[below].as_str());
                        let diff_id = new.config.rootfs.diff_ids[index].as_str();
                        let values =
                            params![chain, parent, diff_id, layer.dir, layer.size as i64, layer.tar_size as i64];
                        db.prepare_cached("INSERT INTO layers VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(values)?;
                    }
                }
            }
            let size: u64 = all.iter().map(|blob| blob.size).sum();
            let chain = chain_ids.last().map_or("", Digest::as_str);
            let key = new.manifest.digest.as_str();
            db.execute(
                "INSERT OR IGNORE INTO images VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![key, new.manifest.media_type, new.document.config.digest.as_str(), chain, size as i64, now()],
            )?;
            for blob in &all {
                db.prepare_cached("INSERT OR IGNORE INTO image_blobs VALUES (?1, ?2)")?
                    .execute([key, blob.digest.as_str()])?;
            }
            for (name, target) in new.names {
                set_name(db, name, key, target.as_str())?;
            }
            Ok(true)
        })?;
        self.db().pragma_update(None, "synchronous", "normal")?;
        for dir in unused {
            self.discard_layer(&dir);
        }
        Ok(done)
    }

    /// Gives an image one more name.
    pub fn tag(&self, image: &Image, name: &str) -> Result<()> {
        self.write(|db| set_name(db, name, image.digest.as_str(), image.digest.as_str()))
    }

    /// The image that a name, or the beginning of an id, means.
    pub fn find(&self, text: &str) -> Result<Image> {
        self.look_up(text)?.with_context(|| {
            format!("no such image: {text} (`bundle images` lists what there is, `bundle pull {text}` fetches it)")
        })
    }

    /// The same, `None` where there is no such image.
    pub fn look_up(&self, text: &str) -> Result<Option<Image>> {
        if let Ok(reference) = text.parse::<Reference>()
            && let Some(image) = self.named(&reference)?
        {
            return Ok(Some(image));
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let pattern = format!("sha256:{hex}*");
        let mut found = self.images_where("config GLOB ?1 OR digest GLOB ?1", &[&pattern])?;
        found.dedup_by(|a, b| a.id == b.id);
        match found.len() {
            0 | 1 => Ok(found.pop()),
            many => bail!("image id {text:?} is the beginning of {many} ids: give more digits"),
        }
    }

    /// The image of a whole name. A digest in it must be the image's.
    pub fn named(&self, reference: &Reference) -> Result<Option<Image>> {
        let Some(digest) = &reference.digest else {
            return Ok(self
                .images_where("digest = (SELECT image FROM names WHERE name = ?1)", &[&reference.to_string()])?
                .pop());
        };
        // Under any tag of the repository, and under the digest itself.
        let repository = reference.name();
        let found = self.images_where(
            "digest IN (SELECT image FROM names WHERE substr(name, 1, length(?1) + 1) IN (?1 || ':', ?1 || '@') AND (target = ?2 OR image = ?2))",
            &[&repository, digest.as_str()],
        )?;
        Ok(found.into_iter().next())
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.images_where("TRUE", &[])
    }

    fn images_where(&self, condition: &str, values: &[&str]) -> Result<Vec<Image>> {
        let query = format!("SELECT {COLUMNS} FROM images WHERE {condition} ORDER BY created DESC, config");
        let mut statement = self.db().prepare_cached(&query)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), image)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// An image's names, each with what a registry has under it.
    pub fn names(&self, image: &Image) -> Result<Vec<(Reference, Digest)>> {
        let mut statement =
            self.db().prepare_cached("SELECT name, target FROM names WHERE image = ?1 ORDER BY name")?;
        let rows =
            statement.query_map([image.digest.as_str()], |row| Ok((row.get::<_, String>(0)?, digest(row, 1)?)))?;
        rows.map(|row| {
            let (name, target) = row?;
            Ok((name.parse()?, target))
        })
        .collect()
    }

    /// An image's manifest and configuration.
    pub fn read(&self, image: &Image) -> Result<(Manifest, ImageConfig)> {
        let Document::Manifest(manifest) = Document::parse(Some(&image.media_type), &self.document(&image.digest)?)?.1
        else {
            bail!("image {} has an index for a manifest; see `bundle store check`", image.id.short());
        };
        let config = ImageConfig::parse(&self.document(&manifest.config.digest)?, manifest.layers.len())?;
        Ok((manifest, config))
    }

    /// Takes a name away; whether it was there.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.write(|db| Ok(db.execute("DELETE FROM names WHERE name = ?1", [name])? > 0))
    }

    /// Takes an image away with all its names. Its blobs stay until the next collection.
    pub fn remove(&self, image: &Image) -> Result<()> {
        self.write(|db| {
            db.execute("DELETE FROM images WHERE digest = ?1", [image.digest.as_str()])?;
            Ok(())
        })
    }

    /// The containers that were made of an image.
    pub fn containers_of(&self, image: &Image) -> Result<Vec<String>> {
        let mut statement = self.db().prepare_cached("SELECT name FROM containers WHERE image = ?1 ORDER BY name")?;
        let rows = statement.query_map([image.digest.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a layer's directory that was never given a row.
    pub fn discard_layer(&self, dir: &str) {
        let trash = format!("trash/layer-{dir}");
        if rustix::fs::renameat(self.dir(), format!("layers/{dir}"), self.dir(), &trash).is_ok() {
            let _ = super::gc::remove_tree(self.dir(), &trash);
        }
    }
}

fn set_name(db: &rusqlite::Transaction<'_>, name: &str, image: &str, target: &str) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO names VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        name,
        image,
        target,
        now()
    ])?;
    Ok(())
}
