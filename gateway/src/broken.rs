//! What is said of a store that can't be opened for what is in it: once in the log, and by `/readyz` for as long as it takes.
//!
//! The gateway goes on as its admin API alone, and does not listen for messages. What passes by itself, or is mended outside of
//! the store, ends the start instead: whoever supervises the process tries that again.

use std::path::Path;

use backbone::OpenError;

/// Logs it; why it is so, and the commands that help.
pub(crate) fn told(error: &OpenError) -> String {
    let help = help(error);
    tracing::error!(%error, %help, "the store can't be opened: nothing listens but the admin API");
    format!("{error}; {help}")
}

fn help(error: &OpenError) -> String {
    let of = |path: &Path| shell(&path.display().to_string());
    match error {
        OpenError::NewerFormat { .. } => {
            "a newer gateway wrote it: start that one, nothing in it was changed".to_owned()
        }
        OpenError::Corrupt { path, .. } | OpenError::Storage { path, .. } | OpenError::Locked { path } => {
            let path = of(path);
            format!(
                "`openmesh store check --path {path}` says what is wrong, `openmesh store repair --path {path}` keeps what can be \
                 read; then start the gateway again"
            )
        }
        other => format!("{other}"),
    }
}

/// As one word of a shell.
fn shell(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@:".contains(&byte);
    match text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_helps_can_be_copied_into_a_shell() {
        let corrupt = |path: &str| told(&OpenError::Corrupt { path: path.into(), what: "x".to_owned() });
        assert!(corrupt("/var/lib/openmesh").contains("`openmesh store check --path /var/lib/openmesh`"));
        assert!(corrupt("it's here").contains(r"--path 'it'\''s here'`"), "{}", corrupt("it's here"));
        let newer = told(&OpenError::NewerFormat { path: "a".into(), found: 9, supported: 2 });
        assert!(newer.contains("newer gateway") && !newer.contains("repair"), "{newer}");
    }
}
