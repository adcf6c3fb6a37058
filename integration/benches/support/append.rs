//! The physical limit of what is acknowledged once it is on disk, at a rate that is given.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::paced::{Times, until};

/// Appends a record when it is due: what has come is written and synced, together.
pub(crate) fn append_loop(path: &Path, record: &str, rate: u64, count: u64) -> Times {
    let mut file = File::create(path).expect("a file");
    let (send, receive) = mpsc::sync_channel::<Instant>(65_536);
    let record = record.to_owned();
    let writer = thread::spawn(move || {
        let (mut times, mut group, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        while let Ok(first) = receive.recv() {
            group.clear();
            group.push(first);
            group.extend(receive.try_iter());
            bytes.clear();
            group.iter().for_each(|_| bytes.extend_from_slice(record.as_bytes()));
            file.write_all(&bytes).expect("an append");
            file.sync_data().expect("a sync");
            times.extend(group.iter().map(Instant::elapsed));
        }
        times
    });
    let start = Instant::now();
    for n in 0..count {
        let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
        until(due);
        send.send(due).expect("the writer");
    }
    drop(send);
    Times::of(writer.join().expect("the writer's times"))
}
