//! `openmesh test`: runs the tests in the mapping files.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use clap::Args;
use mapping::{FuzzResult, Outcome, TestResult};
use serde_json::json;

use super::{
    Failure, Invalid,
    format::{self, Format, Said},
};
use crate::config;

/// Which tests to run.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// Also sends messages that are made up of the input schemas, so many for each mapping
    #[arg(long, value_name = "MESSAGES", num_args = 0..=1, require_equals = true, default_missing_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    fuzz: Option<u32>,
    /// Makes up the same messages as a run before; without it others each time
    #[arg(long, requires = "fuzz")]
    seed: Option<u64>,
    /// For people, or for machines
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Only these mappings, by name
    mappings: Vec<String>,
}

/// Not everything passed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotPassed {
    #[error("{passed} passed, {failed} failed")]
    Failed { passed: usize, failed: usize },
    #[error("{0} broke a promise")]
    Broken(String),
    #[error("no mapping is called {0}")]
    Unknown(String),
}

// === impl Test ===

impl Test {
    pub(super) fn run(&self, out: &mut impl Write) -> Result<(), Failure> {
        let loaded = config::load(&self.config).map_err(Invalid)?;
        let senders = loaded.mappings.senders().map(|sender| sender.route.name().to_owned());
        let names: BTreeSet<_> =
            loaded.mappings.routes().map(|route| route.route.name().to_owned()).chain(senders).collect();
        let unknown: Vec<_> = self.mappings.iter().filter(|name| !names.contains(*name)).cloned().collect();
        if !unknown.is_empty() {
            return Err(NotPassed::Unknown(unknown.join(", ")).into());
        }
        let wanted = |result: &TestResult| self.mappings.is_empty() || self.mappings.contains(&result.mapping);
        let results: Vec<_> = loaded.mappings.run_tests().into_iter().filter(wanted).collect();
        let wanted = |name: &str| self.mappings.is_empty() || self.mappings.iter().any(|wanted| wanted == name);
        let seed = self.seed.unwrap_or_else(rand_seed);
        let messages = self.fuzz.map_or(0, |messages| messages as usize);
        let fuzzed = if messages > 0 { loaded.mappings.fuzz(seed, messages, wanted) } else { Vec::new() };
        if self.format == Format::Json {
            return json(&results, &fuzzed, seed, out);
        }
        report(&results, out)??;
        if messages > 0 {
            report_fuzz(&fuzzed, seed, out)??;
        }
        Ok(())
    }
}

/// Another one each time.
fn rand_seed() -> u64 {
    std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 0_u8)
}

fn json(results: &[TestResult], fuzzed: &[FuzzResult], seed: u64, out: &mut impl Write) -> Result<(), Failure> {
    let failed = results.iter().filter(|result| result.outcome != Outcome::Passed).count();
    let ok = failed == 0 && fuzzed.iter().all(|result| result.failure.is_none());
    let mut said = json!({
        "ok": ok,
        "passed": results.len() - failed,
        "failed": failed,
        "tests": results.iter().map(format::test).collect::<Vec<_>>(),
    });
    if !fuzzed.is_empty() {
        said["fuzz"] = json!({ "seed": seed, "mappings": fuzzed.iter().map(format::fuzz).collect::<Vec<_>>() });
    }
    format::write(&said, out)?;
    if ok { Ok(()) } else { Err(Said.into()) }
}

fn report_fuzz(results: &[FuzzResult], seed: u64, out: &mut impl Write) -> io::Result<Result<(), NotPassed>> {
    let mut broken = Vec::new();
    for result in results {
        let FuzzResult { mapping, mapped, refused, returned, failure, file } = result;
        match failure {
            None => {
                writeln!(out, "ok    {mapping}: {mapped} made-up messages mapped, {refused} refused")?;
                for (sender, count) in returned {
                    writeln!(out, "      {count} sent as they came by {sender}")?;
                }
            }
            Some(failure) => {
                broken.push(mapping.as_str());
                writeln!(out, "FAIL  {mapping}: {}\n      {file}\n      address {}", failure.why, failure.address)?;
                for (name, value) in &failure.headers {
                    writeln!(out, "      header {name}: {value}")?;
                }
                match str::from_utf8(&failure.payload) {
                    Ok(text) => writeln!(out, "      payload {text}")?,
                    Err(_) => writeln!(out, "      payload in base64 {}", BASE64_STANDARD.encode(&failure.payload))?,
                }
            }
        }
    }
    writeln!(out, "the same messages again: --seed {seed}")?;
    Ok(if broken.is_empty() { Ok(()) } else { Err(NotPassed::Broken(broken.join(", "))) })
}

fn report(results: &[TestResult], out: &mut impl Write) -> io::Result<Result<(), NotPassed>> {
    let mut failed = 0;
    for result in results {
        let TestResult { file, mapping, name, line, outcome } = result;
        match outcome {
            Outcome::Passed => writeln!(out, "ok    {mapping}: {name}")?,
            Outcome::Failed(differences) => {
                failed += 1;
                writeln!(out, "FAIL  {mapping}: {name}\n      {file}:{line}")?;
                for difference in differences.lines() {
                    writeln!(out, "      {difference}")?;
                }
            }
        }
    }
    let passed = results.len() - failed;
    if failed > 0 {
        return Ok(Err(NotPassed::Failed { passed, failed }));
    }
    writeln!(out, "{passed} passed, 0 failed")?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use mapping::FuzzFailure;

    use super::*;

    fn result(outcome: Outcome) -> TestResult {
        let (file, mapping, name) = ("m.yaml".to_owned(), "m".to_owned(), "does it".to_owned());
        TestResult { file, mapping, name, line: 7, outcome }
    }

    #[test]
    fn a_failure_says_where_and_what_and_fails_the_command() {
        let results = [result(Outcome::Passed), result(Outcome::Failed("/topic: a, not b".to_owned()))];
        let mut out = Vec::new();
        let ended = report(&results, &mut out).unwrap();
        assert_eq!(ended, Err(NotPassed::Failed { passed: 1, failed: 1 }));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("FAIL  m: does it\n      m.yaml:7\n      /topic: a, not b\n"), "{text}");
    }

    #[test]
    fn what_came_back_and_what_broke_a_promise_is_told_with_its_payload() {
        let ok = FuzzResult {
            mapping: "m".to_owned(),
            file: "m.yaml".to_owned(),
            mapped: 7,
            refused: 1,
            returned: vec![("back".to_owned(), 6)],
            failure: None,
        };
        let failure = |payload: &[u8]| {
            let headers = vec![("x-kind".to_owned(), "new".to_owned())];
            Some(FuzzFailure { address: "a".to_owned(), headers, payload: payload.to_vec(), why: "why".to_owned() })
        };
        let broken = [
            ok.clone(),
            FuzzResult { failure: failure(b"{}"), ..ok.clone() },
            FuzzResult { failure: failure(b"\xff\x00"), ..ok },
        ];
        let mut out = Vec::new();
        assert_eq!(report_fuzz(&broken, 3, &mut out).unwrap(), Err(NotPassed::Broken("m, m".to_owned())));
        let text = String::from_utf8(out).unwrap();
        let says = [
            "      6 sent as they came by back\n",
            "      header x-kind: new\n      payload {}\n",
            "      payload in base64 /wA=\n",
            "--seed 3\n",
        ];
        assert!(says.iter().all(|says| text.contains(says)), "{text}");
    }

    #[test]
    fn passing_says_how_many() {
        let mut out = Vec::new();
        assert_eq!(report(&[result(Outcome::Passed)], &mut out).unwrap(), Ok(()));
        assert!(String::from_utf8(out).unwrap().ends_with("1 passed, 0 failed\n"));
    }
}
