//! Keys of the store while its process is killed with SIGKILL, 40 times: this program starts itself as the process that writes.
//!
//! What a writer was told is there after a kill, at the revision that it was told; of many that compare and set, one wins and
//! none is lost; what a watch tells is on disk; writes of one call are there together or not at all; a key ends when its time is over, not before, whether
//! the store is open then or not; and revisions only rise. About fifteen seconds; a start has `PATIENCE`.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by panic")]

mod told;
mod writer;

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use backbone::{Backbone, Embedded, EmbeddedConfig, OpenError};

use crate::told::Told;

const KILLS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(30);
/// The writer's folder.
const FOLDER: &str = "OPENMESH_TEST_KEYS_FOLDER";
/// Who has the keys.
const OWNER: &str = "bridge/a";

fn main() {
    match env::var_os(FOLDER) {
        Some(folder) => writer::run(Path::new(&folder)),
        None => killed_while_it_writes_the_store_keeps_what_it_told_of_each_key(),
    }
}

fn killed_while_it_writes_the_store_keeps_what_it_told_of_each_key() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut told = Told::default();
    for _ in 0..KILLS {
        let lines = written(folder.path(), Duration::from_millis(random.u64(10..250)));
        told.hear(&lines);
        let store = open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(told.assert_kept(&store.keys(OWNER)));
        let report = store.report();
        assert!(report.check().is_empty(), "{:?}", report.check());
    }
    told.assert_many();
    println!("test keys_kill ... ok: {told:?}");
}

/// Has a writer write for a while from its first line on and kills it; what it said.
fn written(folder: &Path, within: Duration) -> Vec<String> {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer to start");
    let mut said = BufReader::new(child.stdout.take().expect("its output"));
    let (first, rest) =
        (line(&mut said), thread::spawn(move || std::iter::from_fn(|| line(&mut said)).collect::<Vec<_>>()));
    thread::park_timeout(within);
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    let mut lines = Vec::from_iter(first);
    lines.extend(rest.join().expect("what it said"));
    lines
}

/// A whole one; the last may be cut.
fn line(said: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    said.read_line(&mut line).expect("text");
    line.strip_suffix('\n').map(str::to_owned)
}

/// Opens the store; the process before it may still be letting go of the folder.
fn open(folder: &Path) -> Embedded {
    let began = Instant::now();
    loop {
        match Embedded::open(EmbeddedConfig::new(folder, "plant-a")) {
            Ok(store) => return store,
            Err(OpenError::Locked { .. }) if began.elapsed() < PATIENCE => {
                thread::park_timeout(Duration::from_millis(2))
            }
            Err(error) => panic!("{error}"),
        }
    }
}
