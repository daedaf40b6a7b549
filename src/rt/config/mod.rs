//! Reads `config.json`: from bytes to types ([`load`], [`types`]), and from types to the list of
//! everything that is wrong ([`validate`]). Touches nothing but the file it is given.

pub mod load;
pub mod problem;
pub mod types;
pub mod validate;
