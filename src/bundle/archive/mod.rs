//! Images in files: OCI layouts and Docker's archives, written and read; and tars of root file systems.

mod import;
mod load;
mod save;
mod source;

pub use import::{Import, import};
pub use load::{Loaded, load};
pub use save::save;
