//! `openmesh test`: runs the tests in the mapping files.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;
use mapping::{Outcome, TestResult};

use super::{Failure, Invalid};
use crate::config;

/// Which tests to run.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// Only these mappings, by name
    mappings: Vec<String>,
}

/// Not everything passed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotPassed {
    #[error("{passed} passed, {failed} failed")]
    Failed { passed: usize, failed: usize },
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
        Ok(report(&results, out)??)
    }
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
    fn passing_says_how_many() {
        let mut out = Vec::new();
        assert_eq!(report(&[result(Outcome::Passed)], &mut out).unwrap(), Ok(()));
        assert!(String::from_utf8(out).unwrap().ends_with("1 passed, 0 failed\n"));
    }
}
