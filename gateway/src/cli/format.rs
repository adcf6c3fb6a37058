//! `--format json`: what a command says, for machines. Everything is on stdout then, one JSON object, and the exit code is
//! the same; codes are stable (see docs/mapping.md).

use std::io::{self, Write};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::ValueEnum;
use envelope::Rejection;
use mapping::{EgressInfo, FieldProof, FuzzResult, Outcome, RouteInfo, TestResult, Verdict, codes};
use serde_json::{Value, json};
use yaml::{Diagnostic, Diagnostics};

use super::{Failure, Invalid, r#try::NotMapped};
use crate::admin::ack_word;

/// For whom a command says what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object on stdout
    Json,
}

/// The command failed, and has said so already.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
pub(super) struct Said;

/// Writes one object and the end of its line.
pub(super) fn write(object: &Value, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{object}")
}

/// What failed, as an object.
pub(super) fn failure(failure: &Failure) -> Value {
    if let Some(Invalid(errors)) = failure.downcast_ref() {
        return json!({ "ok": false, "errors": diagnostics(errors) });
    }
    if let Some(NotMapped::Refused(rejection)) = failure.downcast_ref() {
        return json!({ "ok": false, "refused": refusal(rejection) });
    }
    json!({ "ok": false, "error": failure.to_string() })
}

fn diagnostics(errors: &Diagnostics) -> Vec<Value> {
    errors.iter().map(diagnostic).collect()
}

/// `code` is null where the error is of no mapping file or table; `name` is stable too.
fn diagnostic(error: &Diagnostic) -> Value {
    json!({
        "code": codes::of_load(error.code).map(|code| code.id),
        "name": error.code,
        "path": error.path,
        "line": error.line,
        "column": error.column,
        "length": error.length,
        "message": error.message,
        "help": error.help,
        "shown": error.to_string(),
    })
}

fn refusal(rejection: &Rejection) -> Value {
    json!({
        "code": codes::of_refusal(rejection).id,
        "kind": rejection.kind.as_str(),
        "decided_by": rejection.decided_by,
        "detail": rejection.detail,
        "pointer": rejection.pointer,
    })
}

/// A mapping as `check` says it.
pub(super) fn route(route: &RouteInfo<'_>) -> Value {
    json!({
        "mapping": route.route.name(),
        "version": route.route.version(),
        "file": route.file,
        "bridge": route.bridge,
        "address": route.address,
        "topic": route.topic,
        "when": route.when,
        "ack": ack_word(route.ack),
        "fields": route.proofs.iter().map(field).collect::<Vec<_>>(),
        "replies": route.replies.iter().map(field).collect::<Vec<_>>(),
    })
}

/// A mapping that sends, as `check` says it.
pub(super) fn sender(sender: &EgressInfo<'_>) -> Value {
    json!({
        "mapping": sender.route.name(),
        "version": sender.route.version(),
        "file": sender.file,
        "topic": sender.topic.to_string(),
        "bridge": sender.bridge,
        "address": sender.address,
        "when": sender.when,
        "fields": sender.proofs.iter().map(field).collect::<Vec<_>>(),
    })
}

fn field(proof: &FieldProof) -> Value {
    let (verdict, why) = match &proof.verdict {
        Verdict::Proven => ("proven", &[][..]),
        Verdict::Given => ("given", &[][..]),
        Verdict::AtRunTime(why) => ("at-run-time", why.as_slice()),
    };
    json!({ "field": proof.field, "verdict": verdict, "why": why })
}

/// A test of a mapping file and what became of it.
pub(super) fn test(result: &TestResult) -> Value {
    let differences: Vec<_> = match &result.outcome {
        Outcome::Passed => Vec::new(),
        Outcome::Failed(differences) => differences.lines().collect(),
    };
    json!({
        "mapping": result.mapping,
        "name": result.name,
        "file": result.file,
        "line": result.line,
        "passed": result.outcome == Outcome::Passed,
        "differences": differences,
    })
}

/// What became of the messages that were made up for a mapping.
pub(super) fn fuzz(result: &FuzzResult) -> Value {
    let failure = result.failure.as_ref().map(|failure| {
        let payload = String::from_utf8_lossy(&failure.payload);
        let base64 = BASE64_STANDARD.encode(&failure.payload);
        let headers: Vec<_> =
            failure.headers.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        json!({ "address": failure.address, "headers": headers, "payload": payload, "payload_base64": base64, "why": failure.why })
    });
    let returned = result.returned.iter().map(|(by, messages)| json!({ "mapping": by, "messages": messages }));
    json!({
        "mapping": result.mapping,
        "file": result.file,
        "mapped": result.mapped,
        "refused": result.refused,
        "returned": returned.collect::<Vec<_>>(),
        "failure": failure,
    })
}
