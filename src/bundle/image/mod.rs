//! What an image is: names, digests, manifests and configurations. Pure: bytes in, values out.

pub mod change;
pub mod config;
pub mod digest;
pub mod manifest;
pub mod reference;

pub use digest::Digest;
pub use reference::Reference;
