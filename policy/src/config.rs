//! What the user writes in `policy.yaml`, read strictly.

use yaml::{Diagnostics, Fields, File, Node, Problems};

use crate::{LimitsConfig, PriorityConfig, ResidencyConfig};

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
    fields.finish();
    Some(PolicyConfig { anonymous: anonymous?, limits: limits?, residency: residency?, priority: priority? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<bool, String> {
        PolicyConfig::parse("policy.yaml", text).map(|c| c.anonymous).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nobody_gets_in_unless_the_file_says_so() {
        for text in ["", "\n", "# anonymous: true\n", "{}", "anonymous: false\n"] {
            assert_eq!(parse(text), Ok(false), "{text:?}");
        }
        assert_eq!(parse("anonymous: true\n"), Ok(true));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_place() {
        for (text, what) in [
            ("anonymus: true\n", "anonymus"),
            ("anonymous: yes\n", "1:12"),
            ("anonymous: \"true\"\n", "1:12"),
            ("anonymous:\n", "policy.yaml"),
            ("anonymous: true\nanonymous: true\n", "policy.yaml:2"),
            ("anonymous: true\nallow: all\n", "allow"),
            ("- anonymous\n", "policy.yaml:1"),
            ("true\n", "policy.yaml:1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(what), "{text:?}: {error}");
        }
    }
}
