//! The command line: `openmesh run | check | test | map init | try | explain | policy replay | send | tail | status | store |
//! deadletter | subscription | user | key`.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line itself is wrong.

mod ask;
mod banner;
mod check;
mod client;
mod credentials;
mod example;
mod explain;
mod format;
mod init;
mod operate;
mod outgoing;
mod replay;
mod run;
mod send;
mod shell;
mod status;
mod stdout;
mod store;
mod stored;
mod tail;
mod test;
mod r#try;
mod users;

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, CommandFactory, Parser, Subcommand};
use yaml::Diagnostics;

use crate::config;

use format::{Format, Said};

/// The gateway at the edge of a network: whatever is said to it becomes a mesh envelope, by a mapping file.
#[derive(Debug, Parser)]
#[command(name = "openmesh", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the gateway; SIGTERM or ctrl-c drains it, SIGHUP reloads its configuration
    Run(ConfigPath),
    /// Says everything that is wrong with the configuration, offline
    Check(check::Check),
    /// Runs the tests in the mapping files, offline
    Test(test::Test),
    /// Prints the JSON Schema of a file's format, for editors
    Schema {
        /// Of which file
        #[arg(value_enum, default_value_t = FileFormat::Mapping)]
        of: FileFormat,
    },
    /// Writes mapping files
    #[command(subcommand)]
    Map(init::Map),
    /// Shows what a mapping makes of a message, offline
    Try(r#try::Try),
    /// Adds, removes and lists users
    User(users::Users),
    /// Makes and removes API keys
    Key(users::Keys),
    /// Shows what each layer of policy decides of a message, offline, or of a stored envelope
    Explain(explain::Explain),
    /// Tries a policy out
    #[command(subcommand)]
    Policy(replay::Policy),
    /// Sends a message to a gateway that runs
    Send(send::Send),
    /// Lists, shows, replays and drops messages that nobody got
    #[command(subcommand)]
    Deadletter(operate::DeadLetters),
    /// Lists and drops durable subscriptions
    #[command(subcommand)]
    Subscription(operate::Subscriptions),
    /// Shows the envelopes of a topic filter as they pass
    Tail(tail::Tail),
    /// Shows how a gateway that runs is doing
    Status(status::Status),
    /// Looks after the store of a gateway that does not run
    Store(store::Store),
    /// Prints the completions of a shell
    Completions(shell::Completions),
    /// Writes the manual pages into a folder
    Man(shell::Man),
}

/// The files whose formats editors may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    /// Mapping files
    Mapping,
    /// policy.yaml
    Policy,
    /// gateway.yaml
    Gateway,
}

#[derive(Debug, Args)]
struct ConfigPath {
    /// The configuration; what it names is relative to its folder
    #[arg(long, default_value = "config/gateway.yaml")]
    config: PathBuf,
}

// === impl Command ===

impl Command {
    /// For whom it says what it says.
    fn format(&self) -> Format {
        match self {
            Self::Check(check) => check.format,
            Self::Test(test) => test.format,
            Self::Try(message) => message.format,
            Self::Run(_)
            | Self::Schema { .. }
            | Self::Map(_)
            | Self::User(_)
            | Self::Key(_)
            | Self::Explain(_)
            | Self::Policy(_)
            | Self::Send(_)
            | Self::Deadletter(_)
            | Self::Subscription(_)
            | Self::Tail(_)
            | Self::Status(_)
            | Self::Store(_)
            | Self::Completions(_)
            | Self::Man(_) => Format::Text,
        }
    }
}

/// A configuration that does not hold, with everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}\n\n{count} {errors}", count = .0.len(), errors = if .0.len() == 1 { "error" } else { "errors" })]
struct Invalid(Diagnostics);

/// Why a command failed: what is printed, on stderr.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the command that `args`, the program's name first, ask for.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => return answer_usage(&usage),
    };
    let mut out = io::stdout();
    let format = cli.command.format();
    let done = match cli.command {
        Command::Run(path) => run::run(&path.config, &mut out),
        Command::Check(check) => check.run(&mut out),
        Command::Test(test) => test.run(&mut out),
        Command::Schema { of } => {
            let text = match of {
                FileFormat::Mapping => mapping::json_schema(),
                FileFormat::Policy => policy::policy_json_schema(),
                FileFormat::Gateway => config::gateway_json_schema(),
            };
            out.write_all(text.as_bytes()).map_err(Failure::from)
        }
        Command::Map(init::Map::Init(init)) => init.run(&mut out),
        Command::Try(message) => message.run(&mut out),
        Command::User(users) => users.run(&mut out),
        Command::Key(keys) => keys.run(&mut out),
        Command::Explain(explain) => block_on(explain.run(&mut out)),
        Command::Policy(replay::Policy::Replay(replay)) => block_on(replay.run(&mut out)),
        Command::Send(message) => block_on(message.run(&mut out)),
        Command::Status(status) => block_on(status.run(&mut out)),
        Command::Store(store) => block_on(store.run(&mut out)),
        Command::Completions(shell) => shell.run(Cli::command(), &mut out),
        Command::Man(pages) => pages.run(Cli::command()),
        Command::Deadletter(letters) => block_on(letters.run(&mut out)),
        Command::Subscription(subscriptions) => block_on(subscriptions.run(&mut out)),
        Command::Tail(tail) => block_on(async {
            tokio::select! {
                ended = tail.run(&mut out) => Ok(ended?),
                () = stdout::closed() => Ok(()),
            }
        }),
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has enough: `openmesh tail ... | head`.
        Err(failure) if is_broken_pipe(&*failure) => ExitCode::SUCCESS,
        Err(failure) if failure.is::<Said>() => ExitCode::FAILURE,
        Err(failure) if format == Format::Json => {
            // If stdout is gone as well, the exit code has to do.
            drop(format::write(&format::failure(&failure), &mut out));
            ExitCode::FAILURE
        }
        Err(failure) => report(&failure.to_string()),
    }
}

fn answer_usage(usage: &clap::Error) -> ExitCode {
    match usage.print() {
        Ok(()) if usage.use_stderr() => ExitCode::from(2),
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn is_broken_pipe(failure: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(failure);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn report(failure: &str) -> ExitCode {
    // If stderr is gone as well, the exit code has to do.
    drop(writeln!(io::stderr(), "{failure}"));
    ExitCode::FAILURE
}

fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_is_where_the_repository_has_it() {
        let cli = Cli::try_parse_from(["openmesh", "run"]).unwrap();
        let Command::Run(path) = cli.command else { panic!("not run") };
        assert_eq!(path.config, PathBuf::from("config/gateway.yaml"));
    }

    #[test]
    fn a_filter_with_a_misplaced_wildcard_is_a_usage_error() {
        let error = Cli::try_parse_from(["openmesh", "tail", "a/#/b"]).unwrap_err();
        assert!(error.use_stderr());
        assert!(error.to_string().contains("only at the end"), "{error}");
    }
}
