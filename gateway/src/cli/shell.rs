//! `openmesh completions` and `openmesh man`: what packages install beside the binary, made of the command line itself.

use std::{fs, io::Write, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::Failure;

/// Completions.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Whose
    #[arg(value_enum)]
    shell: Shell,
}

/// Manual pages, one a command.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Made if it is not there
    folder: PathBuf,
}

// === impl Completions ===

impl Completions {
    pub(super) fn run(&self, mut command: Command, out: &mut impl Write) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "openmesh", &mut script);
        Ok(out.write_all(&script)?)
    }
}

// === impl Man ===

impl Man {
    pub(super) fn run(&self, command: Command) -> Result<(), Failure> {
        let failed = |error| format!("{}: {error}", self.folder.display());
        fs::create_dir_all(&self.folder).map_err(failed)?;
        Ok(clap_mangen::generate_to(command, &self.folder).map_err(failed)?)
    }
}
