//! The graph of `needs`: every name must be a job, and something must be able to start (N2).
//!
//! Pure: no I/O, no clock, no async.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::decode::Decoder;
use super::model::Job;
use super::yaml::{Content, Node};
use crate::diagnostic::codes;

/// One need, with the place where it is written.
struct Need<'n> {
    job: &'n str,
    node: &'n Node,
}

/// Checks the graph and spells every need as the job itself is spelled.
pub(super) fn needs(decoder: &mut Decoder<'_>, pairs: &[(&str, &Node, &Node)], jobs: &mut IndexMap<String, Job>) {
    let spelled: HashMap<String, &str> = pairs.iter().map(|(id, ..)| (id.to_lowercase(), *id)).collect();
    let mut graph: IndexMap<&str, Vec<Need<'_>>> = IndexMap::new();
    let mut start = false;
    for (id, _, node) in pairs {
        let Some(job) = jobs.get_mut(*id) else {
            // A job that could not be read may be the one that starts.
            start = true;
            continue;
        };
        start |= job.needs.is_empty();
        let mut known: Vec<Need<'_>> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for (at, need) in job.needs.iter().enumerate() {
            let place = need_node(node, at).unwrap_or(node);
            match spelled.get(&need.to_lowercase()) {
                None => unknown_need(decoder, id, need, place, pairs),
                Some(other) if seen.insert(other) => known.push(Need { job: other, node: place }),
                Some(_) => {}
            }
        }
        job.needs = known.iter().map(|need| need.job.to_owned()).collect();
        graph.insert(id, known);
    }
    circles(decoder, pairs, &graph, start);
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
fn circles(
    decoder: &mut Decoder<'_>,
    pairs: &[(&str, &Node, &Node)],
    graph: &IndexMap<&str, Vec<Need<'_>>>,
    start: bool,
) {
    let mut left: HashMap<&str, usize> = graph.iter().map(|(id, needs)| (*id, needs.len())).collect();
    let mut dependants: HashMap<&str, Vec<&str>> = HashMap::new();
    for (id, needs) in graph {
        for need in needs {
            match left.get_mut(need.job) {
                Some(_) => dependants.entry(need.job).or_default().push(id),
                // Needs of jobs that could not be read are taken as done.
                None => *left.entry(id).or_insert(1) -= 1,
            }
        }
    }
    let mut ready: Vec<&str> = left.iter().filter(|(_, count)| **count == 0).map(|(id, _)| *id).collect();
    while let Some(id) = ready.pop() {
        left.remove(id);
        for dependant in dependants.get(id).into_iter().flatten() {
            if let Some(count) = left.get_mut(dependant) {
                *count -= 1;
                if *count == 0 {
                    ready.push(dependant);
                }
            }
        }
    }
    let help = |circle: Vec<&str>| format!("the jobs wait for one another: {}", circle.join(" → "));
    if !start && let Some((_, key, _)) = pairs.first() {
        let problem =
            decoder.error(codes::NEEDS, key.id, "The workflow must contain at least one job with no dependencies.");
        problem.diagnostic.help = (!left.is_empty()).then(|| help(circle(graph, &left)));
        return;
    }
    if left.is_empty() {
        return;
    }
    let help = help(circle(graph, &left));
    for (id, needs) in graph.iter().filter(|(id, _)| left.contains_key(*id)) {
        for need in needs.iter().filter(|need| left.contains_key(need.job)) {
            let message =
                format!("Job '{id}' depends on job '{}' which creates a cycle in the dependency graph.", need.job);
            decoder.error(codes::NEEDS, need.node.id, message).diagnostic.help = Some(help.clone());
        }
    }
}

/// One circle among the jobs left, first job repeated at the end; follows first needs from the first job in the file.
fn circle<'g>(graph: &IndexMap<&'g str, Vec<Need<'g>>>, left: &HashMap<&str, usize>) -> Vec<&'g str> {
    let Some(mut id) = graph.keys().find(|id| left.contains_key(*id)).copied() else { return Vec::new() };
    let mut path: Vec<&str> = Vec::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    loop {
        if let Some(start) = seen.insert(id, path.len()) {
            let mut circle = path.split_off(start);
            circle.push(id);
            return circle;
        }
        path.push(id);
        let next = graph.get(id).and_then(|needs| needs.iter().find(|need| left.contains_key(need.job)));
        match next {
            Some(next) => id = next.job,
            None => return Vec::new(),
        }
    }
}
