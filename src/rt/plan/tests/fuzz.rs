//! Damaged documents, from their bytes to the plan.

use super::{DOCUMENTS, host, host_v2, request};
use crate::config::load;
use crate::config::problem::Problems;
use crate::config::types::{Process, Resources, Spec};
use crate::config::validate;
use crate::fuzz::fuzz;
use crate::plan::{describe, plan};

fn seeds() -> Vec<&'static [u8]> {
    DOCUMENTS.iter().map(|(_, text)| text.as_bytes()).collect()
}

/// Parses and checks as the commands do. What is refused is said in lines of some length.
fn checked<'a, T: serde::Deserialize<'a>>(text: &'a str, check: impl Fn(&T, &mut Problems)) -> Option<T> {
    let mut problems = Problems::default();
    let document = load::parse::<T>(text, &mut problems);
    if let Some(document) = &document {
        check(document, &mut problems);
    } else {
        assert!(!problems.0.is_empty(), "refused without a word");
        let _ = load::salvage(text);
    }
    for problem in &problems.0 {
        let line = problem.to_string();
        assert!(!line.contains(char::is_control) && line.len() < 4000, "{line}");
    }
    document.filter(|_| problems.fatal().next().is_none())
}

#[test]
fn fuzz_config() {
    fuzz(&seeds(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Some(spec) = checked::<Spec<'_>>(&text, validate::validate) else { return };
        for host in [host(), host_v2()] {
            let mut problems = Problems::default();
            let plan = plan(&spec, &request(), &host, &mut problems);
            let _ = describe::text(&describe::lines(&plan));
        }
    });
}

#[test]
fn fuzz_process() {
    let processes: Vec<String> = DOCUMENTS
        .iter()
        .map(|(_, text)| serde_json::from_str::<serde_json::Value>(text).unwrap()["process"].to_string())
        .collect();
    let seeds: Vec<&[u8]> = processes.iter().map(String::as_bytes).collect();
    fuzz(&seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        checked::<Process<'_>>(&text, |process, problems| validate::process(process, "/process", problems));
    });
}

#[test]
fn fuzz_resources() {
    let limits: Vec<String> = DOCUMENTS
        .iter()
        .map(|(_, text)| serde_json::from_str::<serde_json::Value>(text).unwrap()["linux"]["resources"].to_string())
        .collect();
    let seeds: Vec<&[u8]> = limits.iter().map(String::as_bytes).collect();
    fuzz(&seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        checked::<Resources<'_>>(&text, validate::resources);
    });
}
