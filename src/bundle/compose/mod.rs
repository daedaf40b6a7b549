//! Projects of several containers, as the compose specification has them: <https://compose-spec.io>.
//!
//! ```text
//! files ─► yaml (places) ─► interpolate ─► schema (one shape, checked) ─► paths ─► merge, extends, include (load)
//!                                                                                   │
//! found (containers by label) ─► up ◄─ plan (order, hashes) ◄─ model ◄─ complete ◄──┘
//!                                 ├─► site: networks, volumes      ─► down
//!                                 └─► create, start: in threads, each container when what it waits for is there
//! ```

pub mod board;
pub mod build;
mod check;
mod complete;
mod contents;
pub mod create;
mod dotenv;
pub mod down;
pub mod emit;
pub mod flags;
pub mod follow;
pub mod found;
mod interpolate;
pub mod load;
pub mod logs;
mod merge;
pub mod model;
mod paths;
pub mod plan;
pub mod schema;
pub mod site;
pub mod start;
pub mod up;
mod yaml;
