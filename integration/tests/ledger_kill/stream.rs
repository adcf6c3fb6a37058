//! A stream of server-sent events without a name: whoever comes back with the id of the last one goes on behind it.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use integration::Events;

use crate::{PATIENCE, Stage, many};

/// Reads over every restart, and sees each once, in the order of the store.
pub(crate) fn read(stage: &Stage) {
    let filters: Vec<_> = many::FILTERS.iter().map(|filter| format!("filter={}", filter.replace('#', "%23"))).collect();
    let url = stage.site.url(&format!("/mesh/v1/events?start=earliest&{}", filters.join("&")));
    let (mut last, mut seen) = (String::new(), HashSet::new());
    let began = Instant::now();
    while !stage.many.is_streamed() {
        assert!(began.elapsed() < PATIENCE, "{} were streamed", seen.len());
        let behind = (!last.is_empty()).then_some(last.as_str());
        let Some(mut events) = Events::open(&url, behind) else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        while !stage.many.is_streamed()
            && let Some(event) = events.event()
        {
            assert_eq!(event.kind, "", "{event:?}");
            if event.data.is_null() {
                assert!(began.elapsed() < PATIENCE, "after {last} nothing: {:?}", stage.many.unstreamed());
                continue;
            }
            let id = event.data["id"].as_str().expect("an id");
            assert!(last < event.id, "{} came behind {last}", event.id);
            assert!(seen.insert(id.to_owned()), "{id} came twice");
            stage.many.show(id, event.data["data"]["name"].as_str().expect("a name"));
            last = event.id;
        }
    }
}
