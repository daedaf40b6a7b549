//! What containers use, as Prometheus reads it (its text format 0.0.4).

use std::fmt::Write;

use super::Sample;

/// A container and what it uses, where it runs.
pub struct Subject<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What its image is called.
    pub image: &'a str,
    /// Where it runs.
    pub sample: Option<Sample>,
}

/// One more label, and the value.
type Points = Vec<(Option<(&'static str, String)>, f64)>;

struct Metric {
    name: &'static str,
    /// `counter` or `gauge`.
    kind: &'static str,
    help: &'static str,
    of: fn(&Sample) -> Points,
}

const fn metric(name: &'static str, kind: &'static str, help: &'static str, of: fn(&Sample) -> Points) -> Metric {
    Metric { name, kind, help, of }
}

const METRICS: [Metric; 25] = [
    metric("cpu_seconds_total", "counter", "Processor time used.", |it| seconds(it.cpu.total)),
    metric("cpu_user_seconds_total", "counter", "Processor time used by programs.", |it| seconds(it.cpu.user)),
    metric("cpu_system_seconds_total", "counter", "Processor time used by the kernel.", |it| seconds(it.cpu.system)),
    metric("cpu_periods_total", "counter", "Periods of the processor quota.", |it| one(it.cpu.periods)),
    metric("cpu_throttled_periods_total", "counter", "Periods in which the quota was used up.", |it| {
        one(it.cpu.throttled_periods)
    }),
    metric("cpu_throttled_seconds_total", "counter", "Time kept waiting by the quota.", |it| seconds(it.cpu.throttled)),
    metric("memory_usage_bytes", "gauge", "Memory in use, without inactive files.", |it| one(it.memory.usage)),
    metric("memory_inactive_file_bytes", "gauge", "Files in memory that could be dropped at once.", |it| {
        one(it.memory.inactive_file)
    }),
    metric("memory_limit_bytes", "gauge", "Most memory, or what the machine has.", |it| one(it.memory.limit)),
    metric("memory_swap_bytes", "gauge", "Memory swapped out.", |it| maybe(it.memory.swap)),
    metric("memory_peak_bytes", "gauge", "Most memory that was in use.", |it| maybe(it.memory.peak)),
    metric("memory_failures_total", "counter", "How often the memory limit was hit.", |it| one(it.memory.failures)),
    metric("oom_kills_total", "counter", "Processes ended for want of memory.", |it| one(it.memory.oom_kills)),
    metric("pids", "gauge", "Processes and threads.", |it| one(it.pids.current)),
    metric("pids_limit", "gauge", "Most processes and threads.", |it| maybe(it.pids.limit)),
    metric("block_read_bytes_total", "counter", "Bytes read from disks.", |it| one(it.block.read)),
    metric("block_written_bytes_total", "counter", "Bytes written to disks.", |it| one(it.block.written)),
    metric("network_receive_bytes_total", "counter", "Bytes received.", |it| network(it, |it| it.received)),
    metric("network_receive_packets_total", "counter", "Packets received.", |it| {
        network(it, |it| it.received_packets[0])
    }),
    metric("network_receive_dropped_total", "counter", "Packets received and dropped.", |it| {
        network(it, |it| it.received_packets[2])
    }),
    metric("network_transmit_bytes_total", "counter", "Bytes sent.", |it| network(it, |it| it.sent)),
    metric("network_transmit_packets_total", "counter", "Packets sent.", |it| network(it, |it| it.sent_packets[0])),
    metric("network_transmit_dropped_total", "counter", "Packets dropped in place of being sent.", |it| {
        network(it, |it| it.sent_packets[2])
    }),
    metric("pressure_waiting_seconds_total", "counter", "Time in which some process waited for a resource.", |it| {
        pressure(it, |it| it.some)
    }),
    metric("pressure_stalled_seconds_total", "counter", "Time in which all processes waited for a resource.", |it| {
        pressure(it, |it| it.full)
    }),
];

/// The text of all containers.
pub fn text(subjects: &[Subject<'_>]) -> String {
    let mut text = String::new();
    head(&mut text, "running", "gauge", "Whether the container runs.");
    for it in subjects {
        line(&mut text, "running", it, None, if it.sample.is_some() { 1.0 } else { 0.0 });
    }
    for metric in &METRICS {
        head(&mut text, metric.name, metric.kind, metric.help);
        for it in subjects {
            for (label, value) in it.sample.iter().flat_map(metric.of) {
                line(&mut text, metric.name, it, label.as_ref(), value);
            }
        }
    }
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP bundle_container_{name} {help}\n# TYPE bundle_container_{name} {kind}");
}

fn line(text: &mut String, name: &str, of: &Subject<'_>, label: Option<&(&str, String)>, value: f64) {
    let _ = write!(text, "bundle_container_{name}{{");
    let all = [("id", of.id), ("name", of.name), ("image", of.image)];
    for (name, value) in all.into_iter().chain(label.map(|(name, value)| (*name, value.as_str()))) {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let comma = if name == "id" { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    let _ = writeln!(text, "}} {value}");
}

fn one(value: u64) -> Points {
    vec![(None, value as f64)]
}

fn maybe(value: Option<u64>) -> Points {
    value.map_or_else(Vec::new, one)
}

fn seconds(nanoseconds: u64) -> Points {
    vec![(None, nanoseconds as f64 / 1e9)]
}

fn network(sample: &Sample, of: fn(&super::Interface) -> u64) -> Points {
    sample.network.iter().map(|it| (Some(("interface", it.name.clone())), of(it) as f64)).collect()
}

fn pressure(sample: &Sample, of: fn(&super::Pressure) -> u64) -> Points {
    sample.pressure.iter().map(|it| (Some(("resource", it.resource.to_owned())), of(it) as f64 / 1e6)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Cpu, Interface, Memory};
    use super::*;

    #[test]
    fn the_format_is_prometheus_own() {
        let sample = Sample {
            cpu: Cpu { total: 1_500_000_000, ..Cpu::default() },
            memory: Memory { usage: 4096, swap: None, ..Memory::default() },
            network: vec![Interface { name: "eth0".into(), received: 7, ..Interface::default() }],
            ..Sample::default()
        };
        let text = text(&[
            Subject { id: "1", name: "web", image: "a\"b\\c\nd", sample: Some(sample) },
            Subject { id: "2", name: "old", image: "x", sample: None },
        ]);
        assert!(text.contains("# HELP bundle_container_cpu_seconds_total Processor time used.\n"));
        assert!(text.contains("# TYPE bundle_container_cpu_seconds_total counter\n"));
        let labels = r#"{id="1",name="web",image="a\"b\\c\nd"}"#;
        assert!(text.contains(&format!("\nbundle_container_cpu_seconds_total{labels} 1.5\n")), "{text}");
        assert!(text.contains(&format!("\nbundle_container_running{labels} 1\n")));
        assert!(text.contains("\nbundle_container_running{id=\"2\",name=\"old\",image=\"x\"} 0\n"));
        assert!(text.contains("name=\"web\",image=\"a\\\"b\\\\c\\nd\",interface=\"eth0\"} 7\n"));
        assert!(!text.contains("bundle_container_memory_swap_bytes{"));
        // Each name once with its type, before its values; nothing else.
        let mut last = "";
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                last = rest.split(' ').next().unwrap();
                assert!(!seen.contains(&last), "{last}");
                seen.push(last);
            } else if !line.starts_with("# HELP ") {
                assert!(line.starts_with(&format!("{last}{{")), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with('\n') && seen.len() == METRICS.len() + 1);
    }
}
