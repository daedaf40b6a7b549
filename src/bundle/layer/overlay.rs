//! Layers as one tree: overlayfs.

/// In which namespace overlayfs keeps its extended attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// `trusted.overlay.`: root's.
    Trusted,
    /// `user.overlay.`, the mount option `userxattr`: within a user namespace.
    User,
}

impl Overlay {
    /// The attribute of a directory that hides what layers below have there.
    pub fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }
}
