//! The graph of a run as SVG: columns by needs, legs of a matrix folded into one box, the critical path marked.

use std::collections::HashMap;
use std::fmt::Write;

use askama::filters::{Html, escape};
use jiff::{SignedDuration, Timestamp};

use super::format;
use super::view::{JobView, PendingView, State};

const BOX_WIDTH: usize = 208;
const BOX_HEIGHT: usize = 46;
const GAP_X: usize = 56;
const GAP_Y: usize = 14;
const MARGIN: usize = 3;
/// More boxes than this are not drawn: the list of jobs says it better.
const LIMIT: usize = 150;

/// One box: a job, the legs of a matrix, or a job of which nothing is made yet.
struct Node<'a> {
    key: &'a str,
    needs: &'a [String],
    jobs: Vec<&'a JobView>,
    pending: Option<&'a PendingView>,
    column: usize,
    row: usize,
    critical: bool,
}

impl Node<'_> {
    fn state(&self) -> State {
        if self.pending.is_some() {
            return State::Queued;
        }
        let all_over = self.jobs.iter().all(|job| job.state().is_final());
        let states = self.jobs.iter().map(|job| job.state());
        // While legs run the box runs, unless one already failed: the worst comes first in the order of states.
        let worst = states.clone().min().unwrap_or(State::Skipped);
        if all_over || worst.is_bad() { worst } else { states.filter(|s| !s.is_final()).min().unwrap_or(worst) }
    }

    /// When the last of its legs that ran ended, or now.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        self.jobs.iter().filter(|job| job.started_at.is_some()).map(|job| job.completed_at.unwrap_or(now)).max()
    }

    fn elapsed(&self, now: Timestamp) -> Option<SignedDuration> {
        let start = self.jobs.iter().filter_map(|job| job.started_at).min()?;
        let end = self.end(now)?;
        Some(end.duration_since(start).max(SignedDuration::ZERO))
    }

    /// What is said under the name.
    fn detail(&self, state: State) -> String {
        let count = self.jobs.len();
        match (self.pending, count) {
            (Some(_), _) => "not yet".to_owned(),
            (None, 1) => state.word().to_owned(),
            (None, _) if state.is_bad() || state.is_final() => {
                let same = self.jobs.iter().filter(|job| job.state() == state).count();
                if same == count {
                    format!("{count} × {}", state.word())
                } else {
                    format!("{same} of {count} {}", state.word())
                }
            }
            (None, _) => {
                let done = self.jobs.iter().filter(|job| job.state().is_final()).count();
                format!("{done} of {count} done")
            }
        }
    }
}

/// Draws the jobs; `link` gives the address of a job's page. `None` when there is nothing worth drawing: fewer than two
/// boxes, or more than fit.
#[must_use]
pub fn svg(
    now: Timestamp,
    jobs: &[JobView],
    pending: &[PendingView],
    link: impl Fn(&JobView) -> String,
) -> Option<String> {
    let mut nodes = fold(jobs, pending);
    if nodes.len() < 2 || nodes.len() > LIMIT {
        return None;
    }
    place(&mut nodes);
    mark_critical(now, &mut nodes);
    let columns = nodes.iter().map(|node| node.column).max()? + 1;
    let rows = nodes.iter().map(|node| node.row).max()? + 1;
    let width = MARGIN * 2 + columns * BOX_WIDTH + (columns - 1) * GAP_X;
    // Folded legs look out from behind their box.
    let height = MARGIN * 2 + rows * BOX_HEIGHT + (rows - 1) * GAP_Y + 4;
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg class=\"graph\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" aria-label=\"Jobs by what they need\">"
    );
    edges(&mut out, &nodes);
    for node in &nodes {
        draw(&mut out, now, node, &link);
    }
    out.push_str("</svg>");
    Some(out)
}

fn fold<'a>(jobs: &'a [JobView], pending: &'a [PendingView]) -> Vec<Node<'a>> {
    let mut nodes: Vec<Node<'a>> = Vec::new();
    let mut index: HashMap<&str, usize> = HashMap::new();
    for job in jobs {
        match index.get(job.key.as_str()) {
            Some(at) => nodes[*at].jobs.push(job),
            None => {
                index.insert(&job.key, nodes.len());
                let (key, needs) = (job.key.as_str(), job.needs.as_slice());
                nodes.push(Node { key, needs, jobs: vec![job], pending: None, column: 0, row: 0, critical: false });
            }
        }
    }
    for one in pending.iter().filter(|one| !index.contains_key(one.key.as_str())) {
        let (key, needs) = (one.key.as_str(), one.needs.as_slice());
        nodes.push(Node { key, needs, jobs: Vec::new(), pending: Some(one), column: 0, row: 0, critical: false });
    }
    nodes
}

/// A job stands one column right of the last job it needs. A cycle cannot be planned; the bound on rounds only keeps
/// this from running on if one came out of an old record.
fn place(nodes: &mut [Node<'_>]) {
    let index: HashMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (node.key, at)).collect();
    for _ in 0..nodes.len() {
        let mut changed = false;
        for at in 0..nodes.len() {
            let after = needs(&nodes[at], &index).map(|need| nodes[need].column + 1).max().unwrap_or(0);
            if after > nodes[at].column && after < LIMIT {
                nodes[at].column = after;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let mut next_row: HashMap<usize, usize> = HashMap::new();
    for node in nodes.iter_mut() {
        let row = next_row.entry(node.column).or_default();
        node.row = *row;
        *row += 1;
    }
}

fn needs<'b>(node: &'b Node<'_>, index: &'b HashMap<&str, usize>) -> impl Iterator<Item = usize> + 'b {
    node.needs.iter().filter_map(|need| index.get(need.as_str()).copied())
}

/// Back from the job that ended last, along whichever need ended last. A skipped job took no time: it ends when what it
/// needs ended, so that the path goes through it.
fn mark_critical(now: Timestamp, nodes: &mut [Node<'_>]) {
    let index: HashMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (node.key, at)).collect();
    let mut ends: Vec<Option<Timestamp>> = nodes.iter().map(|node| node.end(now)).collect();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|at| nodes[*at].column);
    for at in order {
        if ends[at].is_none() && nodes[at].state().is_final() {
            ends[at] = needs(&nodes[at], &index).filter_map(|need| ends[need]).max();
        }
    }
    let last = (0..nodes.len()).filter(|at| nodes[*at].end(now).is_some());
    let mut at = last.max_by_key(|at| (ends[*at], nodes[*at].column));
    for _ in 0..nodes.len() {
        let Some(current) = at else { break };
        nodes[current].critical = true;
        at = needs(&nodes[current], &index).filter(|need| ends[*need].is_some()).max_by_key(|need| ends[*need]);
    }
}

fn position(node: &Node<'_>) -> (usize, usize) {
    (MARGIN + node.column * (BOX_WIDTH + GAP_X), MARGIN + node.row * (BOX_HEIGHT + GAP_Y))
}

fn edges(out: &mut String, nodes: &[Node<'_>]) {
    let index: HashMap<&str, usize> = nodes.iter().enumerate().map(|(at, node)| (node.key, at)).collect();
    // Marked edges last, so that they lie on top.
    for marked in [false, true] {
        for node in nodes {
            for need in needs(node, &index) {
                let need = &nodes[need];
                if (need.critical && node.critical) != marked {
                    continue;
                }
                let (x1, y1) = position(need);
                let (x2, y2) = position(node);
                let (x1, y1, y2) = (x1 + BOX_WIDTH, y1 + BOX_HEIGHT / 2, y2 + BOX_HEIGHT / 2);
                let bend = GAP_X / 2;
                let class = if marked { "edge critical" } else { "edge" };
                let _ = write!(
                    out,
                    "<path class=\"{class}\" d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\"/>",
                    x1 + bend,
                    x2.saturating_sub(bend),
                );
            }
        }
    }
}

fn draw(out: &mut String, now: Timestamp, node: &Node<'_>, link: &impl Fn(&JobView) -> String) {
    let (x, y) = position(node);
    let state = node.state();
    let several = node.jobs.len() > 1;
    // The legs of a matrix have no page of their own: the box leads to the first that needs a look.
    let target = node.jobs.iter().min_by_key(|job| job.state()).copied();
    let name = match (node.pending, target) {
        (Some(pending), _) => pending.name.as_str(),
        (None, Some(job)) if several => base_name(job),
        (None, Some(job)) => &job.name,
        (None, None) => node.key,
    };
    let shown = if state.is_final() { format::duration } else { format::so_far };
    let time = node.elapsed(now).map(shown).unwrap_or_default();
    let detail = node.detail(state);
    let shown = format::cut(name, 23);
    // What is heard is what is seen: voice control finds a box by its words.
    let label =
        [shown.as_str(), &detail, &time].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let class = format!("node s-{}{}", state.class(), if node.critical { " critical" } else { "" });
    // What is not made yet leads nowhere.
    let element = if target.is_some() { "a" } else { "g" };
    let _ = match target {
        Some(job) => {
            write!(out, "<a href=\"{}\" class=\"{class}\" aria-label=\"{}\">", escaped(&link(job)), escaped(&label))
        }
        None => write!(out, "<g class=\"{class} pending\">"),
    };
    if several {
        let _ = write!(
            out,
            "<rect class=\"behind\" x=\"{}\" y=\"{}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"8\"/>",
            x + 3,
            y + 3
        );
    }
    let _ = write!(
        out,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"8\"/>\
         <use href=\"#i-{}\" x=\"{}\" y=\"{}\" width=\"16\" height=\"16\"/>\
         <text x=\"{}\" y=\"{}\" class=\"name\">{}</text> \
         <text x=\"{}\" y=\"{}\" class=\"detail\">{}</text> \
         <text x=\"{}\" y=\"{}\" class=\"time\">{}</text></{element}>",
        if node.pending.is_some() { "pending" } else { state.class() },
        x + 12,
        y + 15,
        x + 38,
        y + 20,
        escaped(&shown),
        x + 38,
        y + 36,
        escaped(&detail),
        x + BOX_WIDTH - 10,
        y + 36,
        escaped(&time),
    );
}

/// `test (linux, 20)` → `test`.
fn base_name(job: &JobView) -> &str {
    job.name.rsplit_once(" (").map_or(job.name.as_str(), |(base, _)| base)
}

fn escaped(text: &str) -> String {
    escape(text, Html).map(|safe| safe.to_string()).unwrap_or_default()
}
