//! Images in files: OCI layouts and Docker's archives, written and read; and tars of root file systems.

mod commit;
mod import;
mod load;
mod save;
mod source;

pub use commit::{Commit, commit};
pub use import::{Import, import};
pub use load::load;
pub use save::save;
