//! Which services come before which, and what tells whether a container is still what its service asks for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Error, anyhow};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::model::{Condition, Dependency, Project, Service};

/// What a service waits for: what it says itself, and what its other fields need.
pub fn dependencies(service: &Service) -> BTreeMap<String, Dependency> {
    let mut all = service.depends_on.clone();
    let mut started = |name: &str| {
        all.entry(name.to_owned()).or_insert(Dependency {
            condition: Condition::Started,
            restart: true,
            required: Some(true),
        });
    };
    for link in &service.links {
        started(link.split(':').next().unwrap_or_default());
    }
    for text in service.volumes_from.iter().filter(|it| !it.starts_with("container:")) {
        started(text.split(':').next().unwrap_or_default());
    }
    for mode in [&service.network_mode, &service.ipc, &service.pid] {
        if let Some(name) = mode.as_deref().and_then(|it| it.strip_prefix("service:")) {
            started(name);
        }
    }
    all
}

/// The services, those that others wait for first. The error names one that waits for itself in the end.
pub fn order(services: &BTreeMap<String, Service>) -> Result<Vec<String>, (String, Error)> {
    let mut ordered: Vec<String> = Vec::new();
    let mut way: Vec<String> = Vec::new();
    for name in services.keys() {
        visit(services, name, &mut ordered, &mut way)?;
    }
    Ok(ordered)
}

fn visit(
    services: &BTreeMap<String, Service>,
    name: &str,
    ordered: &mut Vec<String>,
    way: &mut Vec<String>,
) -> Result<(), (String, Error)> {
    if ordered.iter().any(|it| it == name) {
        return Ok(());
    }
    if let Some(at) = way.iter().position(|it| it == name) {
        let circle = way[at..].join(" waits for ");
        return Err((name.to_owned(), anyhow!("{circle} waits for {name}: none can be the first")));
    }
    let Some(service) = services.get(name) else { return Ok(()) };
    way.push(name.to_owned());
    for other in dependencies(service).keys() {
        visit(services, other, ordered, way)?;
    }
    way.pop();
    ordered.push(name.to_owned());
    Ok(())
}

/// The services that are meant by names, with all that they wait for unless `alone`; none named means all whose
/// profiles are active. A service that is named, or waited for, need not be active.
pub fn chosen(project: &Project, names: &[String], alone: bool) -> anyhow::Result<BTreeSet<String>> {
    let services = &project.parts.services;
    let mut wanted: Vec<String> = Vec::new();
    for name in names {
        if !services.contains_key(name) {
            anyhow::bail!(
                "no such service: {name}; there are {}",
                services.keys().cloned().collect::<Vec<_>>().join(", ")
            );
        }
        wanted.push(name.clone());
    }
    if names.is_empty() {
        wanted.extend(services.iter().filter(|it| is_active(project, it.1)).map(|it| it.0.clone()));
        if wanted.is_empty() {
            anyhow::bail!("no service is active: all have profiles; --profile activates one");
        }
    }
    let mut all = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let Some(service) = services.get(&name) else { continue };
        if !all.insert(name.clone()) || alone {
            continue;
        }
        for (other, how) in dependencies(service) {
            let Some(of) = services.get(&other) else { continue };
            if is_active(project, of) || names.contains(&other) || shares_a_profile(service, of) {
                wanted.push(other);
            } else if how.required != Some(false) {
                anyhow::bail!(
                    "{}: {other} is not active: --profile {} activates it",
                    super::complete::at(&project.tree, &name, "depends_on"),
                    of.profiles.join(" or ")
                );
            }
        }
    }
    Ok(all)
}

/// Services in the order in which their images are built: what another one's build copies from comes first.
pub fn build_order<'a>(services: &'a BTreeMap<String, Service>, names: &'a BTreeSet<String>) -> Vec<&'a String> {
    let needs = |name: &String| {
        let build = services.get(name).and_then(|it| it.build.as_ref());
        let contexts = build.map(|it| &it.additional_contexts).into_iter().flatten();
        contexts.filter_map(|it| it.1.as_deref()?.strip_prefix("service:")).collect::<Vec<_>>()
    };
    let mut ordered: Vec<&String> = Vec::new();
    let mut left: Vec<&String> = names.iter().collect();
    while !left.is_empty() {
        let ready = |name: &&String| !needs(name).iter().any(|it| left.iter().any(|other| other == it));
        // In a circle nobody is the first: the build says what is missing.
        let at = left.iter().position(ready).unwrap_or(0);
        ordered.push(left.remove(at));
    }
    ordered
}

fn shares_a_profile(a: &Service, b: &Service) -> bool {
    a.profiles.iter().any(|it| b.profiles.contains(it))
}

/// Whether a service has no profiles, or one that is active.
pub fn is_active(project: &Project, service: &Service) -> bool {
    service.profiles.is_empty()
        || service.profiles.iter().any(|it| project.profiles.contains(it))
        || project.profiles.iter().any(|it| it == "*")
}

/// The fingerprint of all that a service's containers are made of: another one means that they are made anew. What
/// only says how many there are, when they start and how the image is made is not in it; `contents` are fingerprints of
/// the secrets and configs that lie in no file of the host.
pub fn hash(project: &Project, name: &str, contents: &[String]) -> String {
    let mut service = project.document["services"][name].clone();
    let mut networks = json!({});
    if let Some(fields) = service.as_object_mut() {
        for field in ["build", "depends_on", "pull_policy", "scale", "profiles", "attach"] {
            fields.remove(field);
        }
        if let Some(Json::Object(deploy)) = fields.get_mut("deploy") {
            deploy.remove("replicas");
        }
    }
    for network in project.parts.services.get(name).iter().flat_map(|it| it.networks.keys()) {
        networks[network] = json!(project.parts.networks.get(network).map(|it| &it.name));
    }
    let mut volumes = json!({});
    for source in project.parts.services.get(name).iter().flat_map(|it| &it.volumes).filter_map(|it| it.source.as_ref())
    {
        if let Some(volume) = project.parts.volumes.get(source) {
            volumes[source] = json!(volume.name);
        }
    }
    let text = json!([service, networks, volumes, contents]).to_string();
    Sha256::digest(text.as_bytes()).iter().map(|it| format!("{it:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(text: &[(&str, &[&str])]) -> BTreeMap<String, Service> {
        let service = |needs: &[&str]| Service {
            depends_on: needs.iter().map(|it| ((*it).to_owned(), Dependency::default())).collect(),
            ..Service::default()
        };
        text.iter().map(|(name, needs)| ((*name).to_owned(), service(needs))).collect()
    }

    #[test]
    fn who_is_waited_for_comes_first() {
        let all = services(&[("a", &["c"]), ("b", &[]), ("c", &["b"]), ("d", &["a", "b"])]);
        assert_eq!(order(&all).unwrap(), ["b", "c", "a", "d"]);
        let (name, error) = order(&services(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])])).unwrap_err();
        assert_eq!(
            (name.as_str(), error.to_string().as_str()),
            ("a", "a waits for b waits for c waits for a: none can be the first")
        );
    }

    #[test]
    fn images_that_others_copy_from_are_built_first() {
        let build = |from: &[&str]| super::super::model::Build {
            additional_contexts: from.iter().map(|it| ((*it).to_owned(), Some(format!("service:{it}")))).collect(),
            ..Default::default()
        };
        let service = |from: &[&str]| Service { build: Some(build(from)), ..Service::default() };
        let all: BTreeMap<String, Service> =
            [("a", service(&["b", "c"])), ("b", service(&["c"])), ("c", service(&[])), ("d", service(&["e"]))]
                .map(|(name, it)| (name.to_owned(), it))
                .into();
        let names = all.keys().cloned().collect();
        assert_eq!(build_order(&all, &names), ["c", "b", "a", "d"]);
    }

    #[test]
    fn other_fields_make_services_wait_too() {
        let mut service = Service { network_mode: Some("service:a".into()), ..Service::default() };
        service.links = vec!["b:x".into()];
        service.volumes_from = vec!["c:ro".into(), "container:d".into()];
        assert_eq!(dependencies(&service).keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
