//! What the user writes in `policy.yaml`, read strictly.

mod access;
mod format;
mod value;

use std::sync::Arc;

use yaml::{Diagnostics, Fields, File, Node, Problems};

pub use access::{AccessConfig, DataField};
pub use format::policy_json_schema;
pub use value::{Attributes, ValueType};
pub(crate) use value::{DECIMAL_DIGITS, scaled};

use crate::{
    LimitsConfig, PriorityConfig, ResidencyConfig,
    authenticate::{CertificateRule, TokenConfig},
};

/// The policy file. Fails closed: without the file, or with an empty one, nobody gets in.
///
/// ```yaml
/// anonymous: true   # peers without credentials are let in, as the principal `anonymous`
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyConfig {
    /// Whether peers without credentials are let in. `false` if left out.
    pub anonymous: bool,
    /// What everybody may send and receive in a second. Nothing is limited if left out.
    pub limits: LimitsConfig,
    /// Where data may be.
    pub residency: ResidencyConfig,
    /// What matters most when not all can be taken.
    pub priority: PriorityConfig,
    /// Whose tokens are accepted, and as whom.
    pub tokens: Vec<Arc<TokenConfig>>,
    /// Whom client certificates are of; the first rule that matches counts.
    pub certificates: Vec<CertificateRule>,
    /// What the Cedar policies read.
    pub access: AccessConfig,
}

// === impl PolicyConfig ===

impl PolicyConfig {
    /// Reads the text of a policy file; `name` is what errors call it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let file = File::parse(name, text)?;
        let problems = file.problems();
        let config = read(file.root(), &problems);
        problems.finish(config)
    }
}

fn read(root: &Node, problems: &Problems) -> Option<PolicyConfig> {
    if root.is_null() {
        return Some(PolicyConfig::default());
    }
    let mut fields = Fields::of(root, problems)?;
    let anonymous = fields.optional("anonymous").map_or(Some(false), |node| node.bool(problems));
    let limits = match fields.optional("limits") {
        Some(node) => LimitsConfig::read(node, problems),
        None => Some(LimitsConfig::default()),
    };
    let residency = match fields.optional("residency") {
        Some(node) => ResidencyConfig::read(node, problems),
        None => Some(ResidencyConfig::default()),
    };
    let priority = match fields.optional("priority") {
        Some(node) => PriorityConfig::read(node, problems),
        None => Some(PriorityConfig::default()),
    };
    let access = match fields.optional("access") {
        Some(node) => AccessConfig::read(node, problems),
        None => Some(AccessConfig::default()),
    };
    let attributes = access.as_ref().map(|access| access.attributes.clone()).unwrap_or_default();
    let tokens = match fields.optional("tokens") {
        Some(node) => TokenConfig::read_all(node, &attributes, problems),
        None => Some(Vec::new()),
    };
    let certificates = match fields.optional("certificates") {
        Some(node) => CertificateRule::read_all(node, &attributes, problems),
        None => Some(Vec::new()),
    };
    fields.finish();
    Some(PolicyConfig {
        anonymous: anonymous?,
        limits: limits?,
        residency: residency?,
        priority: priority?,
        tokens: tokens?,
        certificates: certificates?,
        access: access?,
    })
}

#[cfg(test)]
mod tests;
