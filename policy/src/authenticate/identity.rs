//! What a principal and a role may be called, whoever vouches for them.

use envelope::Principal;

/// The most bytes of a principal's id.
pub(crate) const MAX_ID: usize = 128;
/// The most bytes of a role.
pub(crate) const MAX_ROLE: usize = 128;
/// The most roles of a principal.
pub(crate) const MAX_ROLES: usize = 64;

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdError {
    #[error("is not 1 to {MAX_ID} of a-z A-Z 0-9 . _ - @ : | = ~ , with a letter or digit first")]
    Form,
    #[error("is the name of those who prove nothing")]
    Anonymous,
}

/// An id stands in topics (`$mesh/inbox/...`), in URIs, in names of subscriptions and in policies: it has no character
/// that means something in one of them, and none that looks like another one.
pub(crate) fn check_id(id: &str) -> Result<(), IdError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@:|=~,".contains(&byte);
    if id.len() > MAX_ID || !id.bytes().all(known) || !id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(IdError::Form);
    }
    if id.eq_ignore_ascii_case(Principal::ANONYMOUS) { Err(IdError::Anonymous) } else { Ok(()) }
}

/// Roles are only compared, so they may be what a directory calls its groups.
pub(crate) fn is_role(role: &str) -> bool {
    (1..=MAX_ROLE).contains(&role.len()) && !role.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_plain() {
        for id in [
            "press-7",
            "a",
            "ada@plant.example",
            "auth0|5f7c8ec7",
            "system:serviceaccount:ns:name",
            "7",
            &"a".repeat(MAX_ID),
        ] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
    }

    #[test]
    fn what_means_something_elsewhere_is_no_id() {
        let long = "a".repeat(MAX_ID + 1);
        for id in [
            "",
            "#",
            "+",
            "telemetry/#",
            "a/b",
            "$mesh",
            "a*",
            "a b",
            "a%2fb",
            "..",
            ".",
            "a\0",
            "а",
            "ｐress",
            "a\u{200b}",
            "-a",
            &long,
        ] {
            assert_eq!(check_id(id), Err(IdError::Form), "{id:?}");
        }
        for id in ["anonymous", "Anonymous", "ANONYMOUS"] {
            assert_eq!(check_id(id), Err(IdError::Anonymous));
        }
    }

    #[test]
    fn a_role_is_what_a_directory_calls_a_group() {
        for role in ["viewer", "/plant/operators", "CN=Operators,OU=Plant", &"r".repeat(MAX_ROLE)] {
            assert!(is_role(role), "{role}");
        }
        for role in ["", "a\nb", "\u{7f}", &"r".repeat(MAX_ROLE + 1)] {
            assert!(!is_role(role), "{role:?}");
        }
    }
}
