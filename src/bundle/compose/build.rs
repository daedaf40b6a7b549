//! How the image of a service is built: the one place where projects and builds meet.

use anyhow::{Result, bail};

use super::create::built_name;
use super::model::Project;
use crate::store::Image;
use crate::tool::Tool;

/// What the command line says of a build.
#[derive(Clone, Debug, Default)]
#[allow(dead_code)] // until there is a builder to be told
pub struct Flags {
    /// Run every step again.
    pub no_cache: bool,
    /// Fetch what is built upon anew.
    pub pull: bool,
    /// `NAME[=VALUE]` each, over the service's own.
    pub args: Vec<String>,
    /// Nothing but errors.
    pub quiet: bool,
}

/// Builds the image of a service and gives it its name.
pub fn image(_tool: &Tool, project: &Project, name: &str, _flags: &Flags) -> Result<Image> {
    bail!(
        "this bundle has no builder: make the image {} by another tool, and load or pull it",
        project.parts.services[name].image.clone().unwrap_or_else(|| built_name(project, name))
    )
}
