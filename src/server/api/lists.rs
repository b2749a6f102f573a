//! Paging and filters of lists, as GitHub's.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Uri, header};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::id::RepositoryName;
use crate::run::{Conclusion, RunStatus};
use crate::server::app::{Caller, Fault, query};
use crate::server::form;
use crate::store::{RunFilter, StatusFilter};

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct Page {
    /// From 1.
    pub(in crate::server) number: usize,
    pub(in crate::server) size: usize,
}

impl Page {
    /// `page` and `per_page` of a query; nonsense counts as absent, as on GitHub.
    pub(in crate::server) fn of(pairs: &[(String, String)]) -> Self {
        let number = |name| form::first(pairs, name).and_then(|value| value.parse::<usize>().ok());
        Self {
            number: number("page").unwrap_or(1).clamp(1, 1_000_000),
            size: number("per_page").unwrap_or(30).clamp(1, 100),
        }
    }

    pub(in crate::server) fn skip(self) -> usize {
        (self.number - 1) * self.size
    }
}

/// The part of a whole list that a page wants.
pub(super) fn part<T>(all: Vec<T>, page: Page) -> (Vec<T>, usize) {
    let total = all.len();
    (all.into_iter().skip(page.skip()).take(page.size).collect(), total)
}

/// `{"total_count": N, NAME: [...]}` with the `Link` header that leads to the other pages.
pub(super) fn answer(caller: &Caller, uri: &Uri, page: Page, total: usize, name: &str, items: Vec<Value>) -> Response {
    let mut object = Map::new();
    object.insert("total_count".into(), total.into());
    object.insert(name.into(), items.into());
    linked(caller, uri, page, total, Value::Object(object))
}

/// As [`answer`], of items that are text already.
pub(super) fn answer_text(
    caller: &Caller,
    uri: &Uri,
    page: Page,
    total: usize,
    name: &str,
    items: &[String],
) -> Response {
    let body = format!("{{\"total_count\":{total},\"{name}\":[{}]}}", items.join(","));
    with_links(caller, uri, page, total, json_text(body))
}

/// A body that is JSON already.
pub(super) fn json_text(body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body with the `Link` header.
pub(super) fn linked(caller: &Caller, uri: &Uri, page: Page, total: usize, body: Value) -> Response {
    with_links(caller, uri, page, total, Json(body).into_response())
}

fn with_links(caller: &Caller, uri: &Uri, page: Page, total: usize, mut response: Response) -> Response {
    let last = total.div_ceil(page.size).max(1);
    let others: Vec<(usize, &str)> = [
        (page.number > 1).then_some((page.number.saturating_sub(1).min(last), "prev")),
        (page.number < last).then_some((page.number + 1, "next")),
        (page.number < last).then_some((last, "last")),
        (page.number > 1).then_some((1, "first")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !others.is_empty() {
        let rest: Vec<String> = query(uri)
            .iter()
            .filter(|(name, _)| name != "page")
            .map(|(name, value)| format!("{}={}", form::encode(name), form::encode(value)))
            .collect();
        let link: Vec<String> = others
            .iter()
            .map(|(number, relation)| {
                let mut all = rest.clone();
                all.push(format!("page={number}"));
                // A nested router sees the rest of the path only; the original is what the client asked for.
                format!("<{}{}?{}>; rel=\"{relation}\"", caller.base.0, uri.path(), all.join("&"))
            })
            .collect();
        if let Ok(link) = HeaderValue::from_str(&link.join(", ")) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}

/// The filters of a list of runs. `None` when nothing can match.
pub(in crate::server) fn run_filter(
    repository: Option<RepositoryName>,
    pairs: &[(String, String)],
) -> Result<Option<RunFilter>, Fault> {
    let text = |name| form::first(pairs, name).filter(|value| !value.is_empty()).map(str::to_owned);
    let mut filter = RunFilter {
        repository,
        branch: text("branch"),
        event: text("event"),
        actor: text("actor"),
        sha: text("head_sha"),
        ..RunFilter::default()
    };
    if let Some(status) = text("status") {
        let Some(status) = status_filter(&status) else { return Ok(None) };
        filter.status = Some(status);
    }
    if let Some(created) = text("created") {
        let (from, to) = created_range(&created)
            .ok_or_else(|| Fault::Invalid(format!("{created:?} is not a date or a range of dates")))?;
        (filter.created_from, filter.created_to) = (from, to);
    }
    Ok(Some(filter))
}

fn status_filter(word: &str) -> Option<StatusFilter> {
    Some(match word {
        "queued" | "requested" => StatusFilter::Status(RunStatus::Queued),
        "pending" | "waiting" => StatusFilter::Status(RunStatus::Pending),
        "in_progress" => StatusFilter::Status(RunStatus::InProgress),
        "completed" => StatusFilter::Status(RunStatus::Completed),
        "success" => StatusFilter::Conclusion(Conclusion::Success),
        "failure" => StatusFilter::Conclusion(Conclusion::Failure),
        "cancelled" => StatusFilter::Conclusion(Conclusion::Cancelled),
        "skipped" => StatusFilter::Conclusion(Conclusion::Skipped),
        "timed_out" => StatusFilter::Conclusion(Conclusion::TimedOut),
        "neutral" => StatusFilter::Conclusion(Conclusion::Neutral),
        "stale" => StatusFilter::Conclusion(Conclusion::Stale),
        "action_required" => StatusFilter::Conclusion(Conclusion::ActionRequired),
        "startup_failure" => StatusFilter::Conclusion(Conclusion::StartupFailure),
        _ => return None,
    })
}

type Range = (Option<Timestamp>, Option<Timestamp>);

/// GitHub's search syntax for dates: `2026-11-21`, `>=2026-11-01`, `2026-11-01..2026-11-21`, `*..2026-11-21`.
fn created_range(text: &str) -> Option<Range> {
    if let Some((from, to)) = text.split_once("..") {
        let from = if from == "*" { None } else { Some(moment(from)?.0) };
        let to = if to == "*" { None } else { Some(moment(to)?.1) };
        return Some((from, to));
    }
    for (sign, range) in [
        (">=", (|first, _| (Some(first), None)) as fn(Timestamp, Timestamp) -> Range),
        ("<=", |_, last| (None, Some(last))),
        (">", |_, last| (Some(last + jiff::SignedDuration::from_secs(1)), None)),
        ("<", |first, _| (None, Some(first - jiff::SignedDuration::from_secs(1)))),
    ] {
        if let Some(rest) = text.strip_prefix(sign) {
            let (first, last) = moment(rest)?;
            return Some(range(first, last));
        }
    }
    let (first, last) = moment(text)?;
    Some((Some(first), Some(last)))
}

/// The first and last second of a date, or a time itself.
fn moment(text: &str) -> Option<(Timestamp, Timestamp)> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some((at, at));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let first = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some((first, first + jiff::SignedDuration::from_secs(86_399)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_github_does() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (text, expected) in [
            ("2026-11-21", Some((at("2026-11-21T00:00:00Z"), at("2026-11-21T23:59:59Z")))),
            (">=2026-11-21", Some((at("2026-11-21T00:00:00Z"), None))),
            (">2026-11-21", Some((at("2026-11-22T00:00:00Z"), None))),
            ("<2026-11-21", Some((None, at("2026-11-20T23:59:59Z")))),
            ("2026-11-01..2026-11-02", Some((at("2026-11-01T00:00:00Z"), at("2026-11-02T23:59:59Z")))),
            ("*..2026-11-02T10:00:00Z", Some((None, at("2026-11-02T10:00:00Z")))),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(created_range(text), expected, "{text}");
        }
    }

    #[test]
    fn pages_are_bounded() {
        for (query, number, size) in [
            ("", 1, 30),
            ("page=3&per_page=500", 3, 100),
            ("page=0&per_page=0", 1, 1),
            ("page=x", 1, 30),
            ("page=99999999999999999999", 1, 30),
        ] {
            assert_eq!(Page::of(&form::pairs(query)), Page { number, size }, "{query}");
        }
    }
}
