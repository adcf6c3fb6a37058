//! What the user writes in `policy.yaml`, read strictly.

use yaml::{Diagnostics, Fields, File, Node, Problems};

/// The policy file. Fails closed: without the file, or with an empty one, nobody gets in.
///
/// ```yaml
/// anonymous: true   # peers without credentials are let in, as the principal `anonymous`
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyConfig {
    /// Whether peers without credentials are let in. `false` if left out.
    pub anonymous: bool,
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
    fields.finish();
    Some(PolicyConfig { anonymous: anonymous? })
}
