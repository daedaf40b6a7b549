//! How long each step took, in the parent and in init. Costs one branch a step when it is off.

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};

/// The steps of one process.
#[derive(Debug, Default)]
pub struct Timeline {
    on: bool,
    spans: Vec<Span>,
}

/// One step, in nanoseconds of the real-time clock: a time namespace does not shift that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Realtime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

impl Timeline {
    /// A timeline that records when `on`.
    pub fn new(on: bool) -> Timeline {
        Timeline { on, spans: Vec::new() }
    }

    /// Whether it records.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Does a step under a name.
    pub fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.on {
            return work();
        }
        let start = now();
        let result = work();
        self.spans.push(Span { name: name.to_owned(), start, end: now() });
        result
    }

    /// For the way through the socket: a line a span.
    pub fn encode(&self) -> Vec<u8> {
        let line = |span: &Span| format!("{} {} {}\n", span.start, span.end, span.name);
        self.spans.iter().map(line).collect::<String>().into_bytes()
    }

    /// The other end of [`Timeline::encode`].
    pub fn decode(bytes: &[u8]) -> Vec<Span> {
        String::from_utf8_lossy(bytes)
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ' ');
                let start = parts.next()?.parse().ok()?;
                let end = parts.next()?.parse().ok()?;
                Some(Span { name: parts.next()?.to_owned(), start, end })
            })
            .collect()
    }

    /// The two processes side by side, in the order in which the steps began. Times in microseconds
    /// since the first.
    pub fn text(&self, init: &[Span]) -> String {
        let mut all: Vec<(bool, &Span)> =
            self.spans.iter().map(|span| (true, span)).chain(init.iter().map(|span| (false, span))).collect();
        all.sort_by_key(|(_, span)| span.start);
        let origin = all.first().map_or(0, |(_, span)| span.start);
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let mut text = format!("{:>9} {:>9}  {:<38}{}\n", "at us", "took us", "parent", "init");
        for (parent, span) in all {
            let (left, right) = if parent { (&*span.name, "") } else { ("", &*span.name) };
            let line = format!(
                "{:>9.1} {:>9.1}  {left:<38}{right}",
                micros(span.start - origin),
                micros(span.end - span.start)
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The Chrome trace event format, for chrome://tracing and Perfetto.
    pub fn chrome_trace(&self, init: &[Span]) -> String {
        let event = |thread: u32, span: &Span| {
            serde_json::json!({
                "name": span.name, "ph": "X", "pid": 1, "tid": thread,
                "ts": span.start as f64 / 1000.0, "dur": (span.end - span.start) as f64 / 1000.0,
            })
        };
        let name = |thread: u32, name: &str| serde_json::json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}});
        let events: Vec<_> = [name(1, "parent"), name(2, "init")]
            .into_iter()
            .chain(self.spans.iter().map(|span| event(1, span)))
            .chain(init.iter().map(|span| event(2, span)))
            .collect();
        serde_json::json!({"traceEvents": events, "displayTimeUnit": "ns"}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_the_way_through_the_socket() {
        let mut timeline = Timeline::new(true);
        timeline.step("mount /proc", || Ok(())).unwrap();
        timeline.step("a step with blanks", || Ok(())).unwrap();
        assert_eq!(Timeline::decode(&timeline.encode()), timeline.spans);
        assert!(timeline.text(&[]).contains("mount /proc"));
        assert!(timeline.chrome_trace(&[]).contains("\"ph\":\"X\""));
    }

    #[test]
    fn nothing_is_kept_when_off() {
        let mut timeline = Timeline::new(false);
        timeline.step("x", || Ok(())).unwrap();
        assert!(timeline.spans.is_empty());
    }
}
