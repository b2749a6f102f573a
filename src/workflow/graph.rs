//! The graph of `needs`: every name must be a job, and something must be able to start (N2).
//!
//! Pure: no I/O, no clock, no async.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::decode::Decoder;
use super::model::Job;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;

/// Checks the graph and spells every need as the job itself is spelled.
pub(super) fn needs(decoder: &mut Decoder<'_>, pairs: &[(&str, &Node, &Node)], jobs: &mut IndexMap<String, Job>) {
    let spelled: HashMap<String, String> = pairs.iter().map(|(id, ..)| (id.to_lowercase(), (*id).to_owned())).collect();
    for (id, _, node) in pairs {
        let Some(job) = jobs.get_mut(*id) else { continue };
        let mut known = Vec::new();
        for (at, need) in job.needs.iter().enumerate() {
            let place = need_node(node, at).unwrap_or(node);
            match spelled.get(&need.to_lowercase()) {
                None => unknown_need(decoder, id, need, place, pairs),
                Some(other) if other.eq_ignore_ascii_case(id) => {
                    decoder.error(codes::NEEDS, place.id, format!("Job '{id}' depends on itself")).diagnostic.help =
                        Some("remove the job's own id".to_owned());
                }
                Some(other) => {
                    if !known.contains(other) {
                        known.push(other.clone());
                    }
                }
            }
        }
        job.needs = known;
    }
    cycles(decoder, pairs, jobs);
}

fn need_node(job: &Node, at: usize) -> Option<&Node> {
    let needs = job.get("needs")?;
    match &needs.content {
        Content::List(items) => items.get(at),
        _ => Some(needs),
    }
}

fn unknown_need(decoder: &mut Decoder<'_>, id: &str, need: &str, place: &Node, pairs: &[(&str, &Node, &Node)]) {
    let ids = pairs.iter().map(|(id, ..)| *id).filter(|other| *other != id);
    let problem = decoder.unknown_name(codes::NEEDS, place, need, ids);
    problem.diagnostic.message = format!("Job '{id}' depends on unknown job '{need}'.");
}

/// Jobs that wait for one another. Jobs are taken away as they become startable; what is left can never start.
fn cycles(decoder: &mut Decoder<'_>, pairs: &[(&str, &Node, &Node)], jobs: &IndexMap<String, Job>) {
    if decoder.has_errors() || jobs.is_empty() {
        return;
    }
    let mut missing: HashMap<&str, usize> = jobs.iter().map(|(id, job)| (id.as_str(), job.needs.len())).collect();
    let mut dependants: HashMap<&str, Vec<&str>> = HashMap::new();
    for (id, job) in jobs {
        for need in &job.needs {
            dependants.entry(need).or_default().push(id);
        }
    }
    let mut ready: Vec<&str> = missing.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    if ready.is_empty() {
        let (_, key, _) = pairs[0];
        let message = "The workflow must contain at least one job with no dependencies.";
        decoder.error(codes::NEEDS, key.id, message).diagnostic.help =
            Some(format!("the jobs wait for one another: {}", circle(jobs, &missing).join(" → ")));
        return;
    }
    while let Some(id) = ready.pop() {
        missing.remove(id);
        for dependant in dependants.get(id).into_iter().flatten() {
            if let Some(count) = missing.get_mut(dependant) {
                *count -= 1;
                if *count == 0 {
                    ready.push(dependant);
                }
            }
        }
    }
    if missing.is_empty() {
        return;
    }
    let help = format!("the jobs wait for one another: {}", circle(jobs, &missing).join(" → "));
    for (id, _, node) in pairs {
        let Some(job) = jobs.get(*id).filter(|_| missing.contains_key(id)) else { continue };
        for (at, need) in job.needs.iter().enumerate().filter(|(_, need)| missing.contains_key(need.as_str())) {
            let place = need_node(node, at).unwrap_or(node);
            decoder
                .error(
                    codes::NEEDS,
                    place.id,
                    format!("Job '{id}' depends on job '{need}' which creates a cycle in the dependency graph."),
                )
                .diagnostic
                .help = Some(help.clone());
        }
    }
}

/// One circle among the jobs left, first job repeated at the end; follows first needs from the first job in the file.
fn circle<'j>(jobs: &'j IndexMap<String, Job>, left: &HashMap<&str, usize>) -> Vec<&'j str> {
    let Some(mut id) = jobs.keys().map(String::as_str).find(|id| left.contains_key(id)) else { return Vec::new() };
    let mut path: Vec<&str> = Vec::new();
    loop {
        if let Some(start) = path.iter().position(|seen| *seen == id) {
            let mut circle = path.split_off(start);
            circle.push(id);
            return circle;
        }
        path.push(id);
        let next = jobs.get(id).and_then(|job| job.needs.iter().find(|need| left.contains_key(need.as_str())));
        match next {
            Some(next) => id = next,
            None => return Vec::new(),
        }
    }
}
